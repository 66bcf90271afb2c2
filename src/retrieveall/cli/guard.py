"""What may go wrong while a verb runs, as one line on standard error and an exit code. Never a traceback for it.

A traceback remains for one thing: an error in this library that nobody foresaw.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer

__all__ = ["close_quietly", "guard", "note"]

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE, likewise


def note(message: str) -> None:
    """One line on standard error, control characters made harmless."""
    from retrieveall.cli.render.marks import visible

    typer.echo(visible(" ".join(message.split())), err=True)


@contextmanager
def guard() -> Iterator[None]:
    """Turn the errors of this library, of the operating system and of the keyboard into ``typer.Exit``."""
    from retrieveall.errors import RetrieveAllError

    try:
        yield
        sys.stdout.flush()
    except RetrieveAllError as error:
        note(f"error: {error}")
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        note("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        close_quietly()
        raise typer.Exit(BROKEN_PIPE) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        note(f"error: {where}{error.strerror or error}; check the path, its permissions and the free space")
        close_quietly()
        raise typer.Exit(FAILED) from None


def close_quietly() -> None:
    """Flush standard output, or let go of what can no longer be written: the interpreter would complain at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
