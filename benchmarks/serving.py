"""Load test of the service: many clients in mixed languages, beside the same load handled one by one.

    python -m benchmarks.serving --model base --clients 64 --seconds 120
    python -m benchmarks.serving --model base --churn de    # a language leaves and returns every second meanwhile

Starts ``retrieveall serve`` as a process of its own and prints one JSON object: requests, errors, p50 and p99 of the
latency, texts a second and the server's memory, once with batches and once with one text at a time. With ``--churn``
there are also a client that sends slowly, one that hangs up, within its request and after it, and one that sends
garbage; how often the server answered each of them and how is in ``disturbances``. Ends with 1 if a request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TEXTS = [
    "Ada Lovelace met Charles Babbage in London in 1833, and the Royal Society has her letters.",
    "Angela Merkel wurde in Hamburg geboren und arbeitete lange in Berlin.",
    "Marie Curie a enseigné à la Sorbonne, à Paris.",
    "Gabriel García Márquez nació en Aracataca y vivió en la Ciudad de México.",
    "Юрий Гагарин родился в деревне Клушино.",
    "李白出生于碎叶城，后来住在长安。",
    "徳川家康は江戸に幕府を開いた。",
    "세종대왕은 한양에서 훈민정음을 만들었다.",
]
TOKEN = "benchmark-admin-token"
SAMPLE_SECONDS = 1.0


@dataclass
class Measured:
    """What the clients saw and the server used."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    disturbances: Counter[str] = field(default_factory=Counter)
    ready: bool = False
    memory: list[int] = field(default_factory=list)
    wall: float = 0.0

    def summary(self) -> dict[str, Any]:
        ordered = sorted(self.seconds) or [0.0]
        quantiles = {
            f"p{q}_ms": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * q // 100)], 1) for q in (50, 95, 99)
        }
        # The first tenth is left out: until then the model loads and its buffers grow.
        places = {"start": len(self.memory) // 10, "middle": len(self.memory) // 2, "end": len(self.memory) - 1}
        memory = {name: round(self.memory[place] / 1e6, 1) for name, place in places.items() if self.memory}
        return {
            "requests": sum(self.statuses.values()),
            "errors": self.errors,
            "statuses": dict(self.statuses),
            "texts_per_second": round(self.statuses["200"] / self.wall, 2) if self.wall else 0.0,
            **quantiles,
            "memory_mb": memory,
            "changes": dict(self.changes),
            "disturbances": dict(self.disturbances),
            "ready_at_the_end": self.ready,
        }

    @property
    def errors(self) -> int:
        """Requests and changes that failed. What the clients that disturb get is not among them."""
        failed = sum(number for status, number in self.statuses.items() if status != "200")
        return failed + sum(number for what, number in self.changes.items() if not what.endswith(" 200"))


def text_of(choose: random.Random) -> str:
    """A text that no other request has: nothing can be answered from a cache."""
    return f"{choose.choice(TEXTS)} ({choose.randrange(10**9)})"


@contextmanager
def server(model: str, batch: int, threads: int | None) -> Iterator[tuple[str, int]]:
    """The address and the process id of a running service."""
    command = [sys.executable, "-m", "retrieveall", "serve", model, "--port", "0", "--batch", str(batch)]
    command += ["--threads", str(threads)] if threads else []
    environment = {**os.environ, "RETRIEVEALL_SERVE_ADMIN_TOKEN": TOKEN}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip().rpartition(" ")[2]
        if not address.startswith("http"):
            sys.exit("the server did not start; run the same retrieveall serve to see why")
        yield address, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def resident(process: int) -> tuple[int, int]:
    """Bytes of memory of a process, and how many of them are pages of files."""
    pages = Path(f"/proc/{process}/statm").read_text().split()
    size = os.sysconf("SC_PAGE_SIZE")
    return int(pages[1]) * size, int(pages[2]) * size


async def client(url: str, seed: int, until: float, measured: Measured) -> None:
    import httpx

    choose = random.Random(seed)
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as http:
        while time.monotonic() < until:
            started = time.monotonic()
            try:
                answer = await http.post("/v1/extract", json={"texts": text_of(choose)})
                status = str(answer.status_code)
            except httpx.HTTPError as error:
                status = type(error).__name__
            measured.statuses[status] += 1
            if status == "200":
                measured.seconds.append(time.monotonic() - started)


async def watch(process: int, until: float, measured: Measured, shown: int | None) -> None:
    while time.monotonic() < until:
        memory, files = resident(process)
        if shown and len(measured.memory) % shown == 0:
            parts = f"{memory / 1e6:.0f} MB, {files / 1e6:.0f} of them files"
            requests, changes = sum(measured.statuses.values()), sum(measured.changes.values())
            print(f"{len(measured.memory)} s: {parts}; {requests} requests, {changes} changes", file=sys.stderr)
        measured.memory.append(memory)
        await asyncio.sleep(SAMPLE_SECONDS)


async def churn(url: str, language: str, archive: bytes, until: float, measured: Measured) -> None:
    """A language leaves and returns, as often as once a second."""
    import httpx

    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False, headers=headers) as http:
        while time.monotonic() < until:
            for method, body in (("DELETE", None), ("PUT", archive)):
                try:
                    answer = await http.request(method, f"/v1/languages/{language}", content=body)
                    status = str(answer.status_code)
                except httpx.HTTPError as error:
                    status = type(error).__name__
                measured.changes[f"{method} {status}"] += 1
                await asyncio.sleep(1.0)


async def disturb(url: str, until: float, measured: Measured) -> None:
    """A client that sends slowly, two that hang up, one that sends garbage; all at once, again and again."""
    place = urlsplit(url)
    body = json.dumps({"texts": [TEXTS[0]] * 8}).encode()
    head = ["POST /v1/extract HTTP/1.1", f"Host: {place.netloc}", "Content-Type: application/json", "Connection: close"]
    request = "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body
    step = -(-len(request) // 20)
    slow = [request[start : start + step] for start in range(0, len(request), step)]
    kinds: list[tuple[str, list[bytes], float, bool]] = [  # what is sent, the pause after each part, whether it reads
        ("slow", slow, 0.1, True),
        ("hung up within the request", [request[:-5]], 0.1, False),
        ("hung up after the request", [request], 0.05, False),
        ("garbage", [b"\x00\xff garbage\r\n\r\n"], 0.05, True),
        ("garbage as body", [request.replace(b"{", b"\xff")], 0.05, True),
    ]

    async def again(name: str, parts: list[bytes], pause: float, reads: bool) -> None:
        while time.monotonic() < until:
            try:
                outcome = await _one_way(place.hostname or "", place.port or 80, parts, pause, reads)
            except (TimeoutError, OSError) as error:
                outcome = type(error).__name__
            measured.disturbances[f"{name}: {outcome}"] += 1
            await asyncio.sleep(0.5)  # they are to disturb the load, and not to be it

    await asyncio.gather(*(again(*kind) for kind in kinds))


async def _one_way(host: str, port: int, parts: list[bytes], pause: float, reads: bool) -> str:
    """Send the parts, and hang up; the status of the answer, if it is read."""
    reader, writer = await asyncio.open_connection(host, port, family=socket.AF_INET)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        if not reads:
            return "gone"
        words = (await asyncio.wait_for(reader.readline(), 120)).split()
        return words[1].decode() if len(words) > 1 else "no answer"
    finally:
        writer.close()


async def is_ready(url: str) -> bool:
    import httpx

    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
        return (await http.get("/readyz")).status_code == 200


async def load(url: str, process: int, args: argparse.Namespace, archive: bytes | None) -> Measured:
    measured = Measured()
    started = time.monotonic()
    until = started + args.seconds
    tasks = [client(url, seed, until, measured) for seed in range(args.clients)]
    tasks.append(watch(process, until, measured, args.watch))
    if archive is not None:
        tasks += [churn(url, args.churn, archive, until, measured), disturb(url, until, measured)]
    await asyncio.gather(*tasks)
    measured.wall = time.monotonic() - started
    measured.ready = await is_ready(url)
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--watch", type=int, metavar="N", help="also print the memory at every Nth second")
    parser.add_argument("--churn", metavar="LANG", help="remove and add this language all the time")
    args = parser.parse_args()
    from retrieveall.model_folder import ModelFolder
    from retrieveall.serving.archive import pack

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        ModelFolder.open(args.model).copy_to(model)  # languages of a model of the package cannot be changed
        archive = None
        if args.churn:
            pack(model, args.churn, Path(folder) / "archive")
            archive = (Path(folder) / "archive").read_bytes()
        results: dict[str, Any] = {"clients": args.clients, "seconds": args.seconds, "model": args.model}
        errors = 0
        for name, batch in {"batches": args.batch, "one by one": 1}.items():
            with server(str(model), batch, args.threads) as (url, process):
                measured = asyncio.run(load(url, process, args, archive))
            results[name] = measured.summary()
            errors += measured.errors
    print(json.dumps(results, indent=1))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
