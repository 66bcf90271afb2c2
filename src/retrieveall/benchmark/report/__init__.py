"""The report of a benchmark: Markdown, and one HTML file with everything in it."""

from __future__ import annotations

from retrieveall.benchmark.report.page import write_report

__all__ = ["write_report"]
