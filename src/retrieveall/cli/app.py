"""The program: its commands, ``--version`` and error handling."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from retrieveall.cli.add_language import add_language
from retrieveall.cli.adopt import adopt
from retrieveall.cli.benchmark import benchmark
from retrieveall.cli.convert import convert
from retrieveall.cli.evaluate import evaluate
from retrieveall.cli.extract import extract
from retrieveall.cli.guard import close_quietly, guard
from retrieveall.cli.index import index
from retrieveall.cli.info import info
from retrieveall.cli.plan import plan
from retrieveall.cli.remove_language import remove_language
from retrieveall.cli.serve import serve
from retrieveall.cli.train import train
from retrieveall.cli.validate import validate

__all__ = ["app", "main"]


class _Guarded(TyperGroup):
    """Runs every command under ``guard``; typer handles usage errors, with exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        with guard():
            try:
                return super().invoke(ctx)
            except typer.BadParameter as error:
                error.message = _plain(error)
                raise


def _plain(error: typer.BadParameter) -> str:
    """What is wrong with a value: typer repeats pydantic's words."""
    from pydantic import ValidationError

    from retrieveall.config.faults import reason

    cause = error.__cause__
    return reason(cause.errors(include_url=False)) if isinstance(cause, ValidationError) else error.message


app = typer.Typer(
    cls=_Guarded,
    name="retrieveall",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS: dict[str, Callable[..., None]] = {
    "extract": extract,
    "train": train,
    "add-language": add_language,
    "adopt": adopt,
    "remove-language": remove_language,
    "index": index,
    "evaluate": evaluate,
    "benchmark": benchmark,
    "validate": validate,
    "convert": convert,
    "serve": serve,
    "info": info,
    "plan": plan,
}
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)


def _version(wanted: bool) -> None:
    if wanted:
        from retrieveall import __version__

        typer.echo(f"retrieveall {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Multilingual named entity recognition: one language model, LoRA adapters routed by retrieval."""


def main() -> None:
    """Run the command line with ``sys.argv``; exit codes: 0 success, 1 error, 2 usage error, 130 interrupted."""
    # The output is text in any language, whatever the terminal's code page.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and (stream.encoding or "").lower().replace("-", "") != "utf8":
            reconfigure(encoding="utf-8")
    # transformers imports peft, and peft imports bitsandbytes if installed, which logs warnings about kernels.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        # Loading creates millions of long-lived objects; garbage collection among them took two of five seconds.
        gc.set_threshold(200_000, 20, 100)
        app(prog_name="retrieveall")
    except KeyboardInterrupt:  # before or after a command ran
        raise SystemExit(130) from None
    finally:
        close_quietly()
