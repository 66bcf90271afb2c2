"""The command line in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result


def run_cli(*arguments: str) -> Result:
    """``retrieveall ARGUMENTS``."""
    from retrieveall.cli.app import app

    return CliRunner().invoke(app, list(arguments))
