"""The command line: one file per verb. Knows options, terminals and exit codes; what a verb does is elsewhere.

Nothing heavier than typer is imported before a command runs, so that ``--help`` comes up at once.
"""

from __future__ import annotations

from retrieveall.cli.app import main

__all__ = ["main"]
