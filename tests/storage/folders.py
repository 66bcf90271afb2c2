"""Folders to change, and a file system that fails at a chosen call; for the tests of storage."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from retrieveall.storage import Manifest

CALLS = ("replace", "fsync", "unlink", "rmdir", "mkdir", "open")
OLD = {
    "retrieveall.yaml": b"old config",
    "adapters/de/adapter_model.safetensors": b"old de",
    "adapters/de/extra.txt": b"only in the old one",
    "adapters/fr/adapter_model.safetensors": b"old fr",
    "adapters/fr/adapter_config.json": b"{}",
    "knowledge/es.parquet": b"stays",
}


class Breaker:
    """Lets ``count`` calls of the file system pass; then one call, or every one, fails."""

    def __init__(self, monkeypatch, failure, count, *, forever):
        self.failure, self.left, self.forever, self.tripped = failure, count, forever, False
        for name in CALLS:
            monkeypatch.setattr(os, name, self.guard(name, getattr(os, name)))

    def guard(self, name, real):
        def call(*args, **kwargs):
            if self.tripped and self.forever:
                raise self.failure()
            if not self.tripped:
                if self.left == 0:
                    self.tripped = True
                    raise self.failure()
                self.left -= 1
            return real(*args, **kwargs)

        return call


def full_disk():
    return OSError(errno.ENOSPC, "No space left on device")


def fill(folder: Path, files=OLD) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def make_old(folder: Path) -> None:
    folder.mkdir()
    fill(folder)
    Manifest.of(folder).write()


def state(folder: Path) -> dict[str, bytes | None]:
    """Every file's bytes; None for a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if ".staging" not in path.parts
    }
