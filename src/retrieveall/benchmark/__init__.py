"""Compare methods on a corpus: ``retrieveall benchmark CONFIG.yaml``. See docs/benchmark.md.

settings  the YAML           cells    what has to be run        runner  runs it, a process a cell
corpora   sentences          methods  how each is trained       worker  one cell
scores, errors               report   tables and figures        peers   environments of other libraries
"""

from __future__ import annotations

from retrieveall.benchmark.settings import BenchmarkConfig, load_benchmark

__all__ = ["BenchmarkConfig", "load_benchmark"]
