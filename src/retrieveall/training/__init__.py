"""Training: leave-one-out examples, the adapters over a frozen backbone, and model folders from corpora.

Only what needs no torch is imported here.
"""

from __future__ import annotations

from retrieveall.training.examples import Example, ExampleBuilder

__all__ = ["Example", "ExampleBuilder"]
