"""The command line, one file per command: options, terminal output and exit codes only.

Nothing heavier than typer is imported before a command runs, so that ``--help`` is fast.
"""

from __future__ import annotations

from retrieveall.cli.app import main

__all__ = ["main"]
