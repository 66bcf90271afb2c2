"""``retrieveall serve``: the HTTP service and its page."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli import completion
from retrieveall.cli.guard import note
from retrieveall.cli.options import Server, Threads, Verify, finite, split_list, use_threads

if TYPE_CHECKING:
    from retrieveall import RetrieveAll
    from retrieveall.serving.settings import ServiceSettings

__all__ = ["serve"]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def serve(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]", help="Shipped model, model folder or hub id.", autocompletion=completion.models
        ),
    ] = "base",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8080,
    allow_host: Annotated[
        str | None,
        typer.Option(
            "--allow-host",
            help="Names by which clients may address the server, comma-separated. Default: localhost on a loopback "
            "address, else any.",
        ),
    ] = None,
    texts: Annotated[int, typer.Option(min=1, help="Texts of a request.")] = 256,
    stream_texts: Annotated[int, typer.Option(min=1, help="Texts of a streamed request.")] = 10_000,
    characters: Annotated[int, typer.Option(min=1, help="Characters of a text.")] = 50_000,
    body_mb: Annotated[float, typer.Option(min=0.001, callback=finite, help="Megabytes of a request.")] = 4.0,
    queue: Annotated[int, typer.Option(min=1, help="Texts that wait; more are refused with 429.")] = 1024,
    batch: Annotated[int, typer.Option(min=1, help="Texts computed together.")] = 32,
    wait_ms: Annotated[float, typer.Option(min=0, help="Milliseconds that a text waits for others.")] = 5.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to answer a request.")] = 60.0,
    drain: Annotated[float, typer.Option(min=0.1, help="Seconds for running requests after SIGTERM.")] = 30.0,
    threads: Threads = None,
    device: Annotated[str | None, typer.Option(help="Torch device, such as cpu or cuda:1.")] = None,
    verify: Verify = True,
    server: Server = None,
) -> None:
    """Serve the model over HTTP, with a page to try it at the root.

    The environment variable RETRIEVEALL_SERVE_KEY sets an API key, which every
    request must send; RETRIEVEALL_SERVE_ADMIN_TOKEN allows adding and removing
    languages. On SIGTERM new requests get 503 and running ones are finished.
    """
    use_threads(threads)
    _check_installed()
    from retrieveall.config import parse_config
    from retrieveall.serving.settings import LOOPBACK, ServiceSettings, read_secrets

    hosts = split_list(allow_host, "--allow-host") or (LOOPBACK if host in _LOOPBACK else ())
    limits = {
        "hosts": [name.lower() for name in hosts],
        "texts": texts,
        "stream_texts": stream_texts,
        "characters": characters,
        "body_bytes": int(body_mb * (1 << 20)),
        "seconds": timeout,
        "queue_texts": queue,
        "batch_texts": batch,
        "batch_seconds": wait_ms / 1000,
        "drain_seconds": drain,
    }
    settings = parse_config(ServiceSettings, limits | read_secrets(), "retrieveall serve")
    if host not in _LOOPBACK and settings.key is None:
        note(f"warning: {host} is reachable from other machines, and no API key is set (RETRIEVEALL_SERVE_KEY)")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("retrieveall.serving").setLevel(logging.INFO)
    opened = _open(model, verify, server, device, settings)

    from retrieveall.serving.server import serve as run

    run(opened, settings, host=host, port=port, announce=lambda address: typer.echo(f"listening on {address}"))


def _check_installed() -> None:
    from retrieveall.errors import MissingExtraError

    for name in ("fastapi", "uvicorn", "prometheus_client"):
        try:
            __import__(name)
        except ImportError:
            raise MissingExtraError(name.replace("_", "-"), "serve", "retrieveall serve") from None


def _open(name: str, verify: bool, server: str | None, device: str | None, settings: ServiceSettings) -> RetrieveAll:
    """The model, with everything read that the first request would wait for."""
    from retrieveall import RetrieveAll

    # With the admin token, languages can be added while it runs: the first one, too.
    changeable = settings.admin_token is not None
    opened = RetrieveAll.from_pretrained(
        name, verify=verify, server=server, device=device, allow_no_adapters=changeable
    )
    if changeable:
        from retrieveall.serving.changes import check_changeable

        check_changeable(opened)
    opened.predict("Ada Lovelace, London")
    return opened
