"""Turns expected errors into one line on standard error and an exit code; only bugs show a traceback."""

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
    """Print one line on standard error, with control characters replaced."""
    from retrieveall.markup import visible

    typer.echo(visible(" ".join(message.split())), err=True)


@contextmanager
def guard() -> Iterator[None]:
    """Turn errors of this library, operating system errors and interrupts into ``typer.Exit``."""
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
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
        close_quietly()
        raise typer.Exit(BROKEN_PIPE) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        note(f"error: {where}{error.strerror or error}; check the path, its permissions and the free space")
        close_quietly()
        raise typer.Exit(FAILED) from None


def close_quietly() -> None:
    """Flush standard output; discard what can no longer be written, which would raise at interpreter exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
