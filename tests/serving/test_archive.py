"""S6: uploaded archives. What is not exactly the files of one language is refused, and nothing is written outside."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retrieveall.errors import InputError, ModelFolderError, RetrieveAllError, UnsafeFileError
from retrieveall.serving.archive import ADAPTER_FILES, pack, unpack

GOOD = {f"adapters/sw/{name}": name.encode() for name in ADAPTER_FILES}
LIMIT = 1 << 20


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def archive(path: Path, extra: Any = (), mode: str = "w", good: dict[str, bytes] = GOOD) -> Path:
    """A tar file of ``extra`` members and the good files."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in [*extra, *((member(name, size=len(data)), data) for name, data in good.items())]:
            tar.addfile(info, io.BytesIO(data))
    return path


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_good_archive(tmp_path: Path, mode: str) -> None:
    folders = [(member(name, tarfile.DIRTYPE), b"") for name in ("adapters", "adapters/sw", "./adapters/sw/")]
    packed = archive(tmp_path / "packed", folders, mode)
    unpack(packed, tmp_path / "out", "sw", LIMIT)
    assert tree(tmp_path / "out") == set(GOOD)
    assert (tmp_path / "out/adapters/sw/adapter_config.json").read_bytes() == b"adapter_config.json"
    pack(tmp_path / "out", "sw", tmp_path / "again.tar.gz")
    unpack(tmp_path / "again.tar.gz", tmp_path / "out2", "sw", LIMIT)
    assert tree(tmp_path / "out2") == set(GOOD)


INSIDE = "adapters/sw/adapter_config.json"
EVIL: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "link": [(member(INSIDE, tarfile.SYMTYPE, "/etc/passwd"), b"")],
    "hard link": [(member(INSIDE, tarfile.LNKTYPE, "/etc/passwd"), b"")],
    "link to a folder": [(member("adapters/sw", tarfile.SYMTYPE, "/tmp"), b"")],
    "device": [(member(INSIDE, tarfile.CHRTYPE), b"")],
    "pipe": [(member(INSIDE, tarfile.FIFOTYPE), b"")],
    "absolute": [(member("/tmp/evil", size=1), b"x")],
    "absolute, known": [(member(f"/{INSIDE}", size=1), b"x")],
    "dots": [(member("../evil", size=1), b"x")],
    "dots inside": [(member("adapters/sw/../../../evil", size=1), b"x")],
    "dots, known": [(member(f"adapters/../{INSIDE}", size=1), b"x")],
    "backslash": [(member("adapters\\sw\\evil", size=1), b"x")],
    "drive": [(member("C:/evil", size=1), b"x")],
    "pickle": [(member("adapters/sw/adapter_model.bin", size=3), b"\x80\x04.")],
    "code": [(member("adapters/sw/modeling.py", size=1), b"x")],
    "another language": [(member("adapters/de/adapter_config.json", size=1), b"x")],
    "settings": [(member("retrieveall.yaml", size=1), b"x")],
    "folder elsewhere": [(member("../../evil", tarfile.DIRTYPE), b"")],
    "long name": [(member("a" * 5000, size=1), b"x")],
    "twice": [(member(INSIDE, size=1), b"x")],
    "twice, other spelling": [(member(f"./{INSIDE}", size=1), b"x")],
    "many": [(member("adapters/sw", tarfile.DIRTYPE), b"")] * 100,
    "sparse": [(member(INSIDE, tarfile.GNUTYPE_SPARSE, size=0), b"")],
}


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_evil_members_are_refused(tmp_path: Path, kind: str, mode: str) -> None:
    packed = archive(tmp_path / "packed", EVIL[kind], mode)
    before = tree(tmp_path)
    with pytest.raises(RetrieveAllError, match="expected"):
        unpack(packed, tmp_path / "deep/er/out", "sw", LIMIT)
    written = {name for name in tree(tmp_path) - before if not name.startswith("deep/er/out/adapters/sw/")}
    assert written == set()
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_bomb_is_never_unpacked(tmp_path: Path) -> None:
    """Ten gigabytes of zeros in ten megabytes, of which one is read."""
    bomb = tmp_path / "bomb"
    head = member(INSIDE, size=10 << 30).tobuf()
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(64):
            file.write(bytes(1 << 20))
    with pytest.raises(UnsafeFileError, match="at most 1,048,576 bytes"):
        unpack(bomb, tmp_path / "out", "sw", LIMIT)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) <= LIMIT + (1 << 20)


def test_a_bomb_in_a_header_is_never_unpacked(tmp_path: Path) -> None:
    """tarfile reads extended headers into memory before it says what the member is."""
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(member("x", tarfile.XHDTYPE, size=8 << 30).tobuf())
        for _ in range(64):
            file.write(bytes(1 << 20))
    with pytest.raises(RetrieveAllError):
        unpack(tmp_path / "bomb", tmp_path / "out", "sw", LIMIT)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(INSIDE, "x")


WRONG: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"hello" * 500),
    "zip": _zip,
    "pickle": lambda path: path.write_bytes(pickle.dumps([1])),
    "gzip of nothing": lambda path: path.write_bytes(gzip.compress(b"")),
    "half a gzip": lambda path: path.write_bytes(gzip.compress(os.urandom(4000))[:900]),
    "noise": lambda path: path.write_bytes(b"\x1f\x8b" + random.Random(1).randbytes(5000)),
    "no adapter": lambda path: archive(path, good={}),
    "half an adapter": lambda path: archive(path, good=dict(list(GOOD.items())[:2])),
    "half a knowledge": lambda path: archive(path, good={**GOOD, "knowledge/sw/words.parquet": b"x"}),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_language_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    WRONG[kind](tmp_path / "packed")
    with pytest.raises(ModelFolderError, match="expected"):
        unpack(tmp_path / "packed", tmp_path / "out", "sw", LIMIT)


def test_damaged_archives_never_crash(tmp_path: Path) -> None:
    good = archive(tmp_path / "good", mode="w:gz").read_bytes()
    plain = archive(tmp_path / "plain").read_bytes()
    choose = random.Random(3)
    for number in range(200):
        data = bytearray(choose.choice([good, plain]))
        for _ in range(choose.randint(1, 8)):
            data[choose.randrange(len(data))] = choose.randrange(256)
        packed = tmp_path / "damaged"
        packed.write_bytes(bytes(data[: choose.randrange(len(data))] if number % 3 == 0 else data))
        try:
            unpack(packed, tmp_path / f"out{number}", "sw", LIMIT)
        except RetrieveAllError:
            continue


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((str, "de", "x"), "the model folder as a path, got type"),
        (("folder", "de", str), "the archive as a path, got type"),
        (("folder", 5, "x"), "language identifier"),
        (("folder", "a/b", "x"), "language identifier"),
    ],
)
def test_what_cannot_be_packed(arguments: tuple[Any, Any, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        pack(*arguments)
