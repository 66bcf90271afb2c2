"""A file is written whole or not at all, and no name leaves its folder."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest
from folders import Breaker, fill, full_disk, make_old
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import ModelFolderError, UnsafeFileError
from retrieveall.storage import Manifest, Transaction, safe_join, write_atomic
from retrieveall.storage.files import remedy


def test_write_atomic_keeps_the_old_file_at_every_failure(tmp_path):
    path = tmp_path / "file"
    for count in range(100):
        path.write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patch:
            breaker = Breaker(patch, full_disk, count, forever=False)
            error = None
            try:
                write_atomic(path, b"new")
            except ModelFolderError as raised:
                error = raised
        assert [p.name for p in tmp_path.iterdir()] == ["file"]
        if not breaker.tripped:
            break
        if error is not None:  # making a folder that exists may fail without harm
            assert str(path) in str(error)
        assert path.read_bytes() == (b"old" if "old content" in str(error) else b"new")
    assert path.read_bytes() == b"new"
    assert count >= 3


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o027, 0o077], ids=oct)
def test_write_atomic_follows_the_umask(tmp_path, mask):
    old = os.umask(mask)
    try:
        write_atomic(tmp_path / "a/b", b"x")
        write_atomic(tmp_path / "a/b", b"y")
    finally:
        os.umask(old)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o666 & ~mask


def test_other_threads_never_see_another_umask(tmp_path, monkeypatch):
    """The umask is the whole process's: where it is changed for a moment, a thread's private file is not private."""
    real, modes, done = os.umask, set(), threading.Event()

    def umask(mask):
        before = real(mask)
        time.sleep(0.002)  # another thread's turn
        return before

    def create():
        number = 0
        while not done.is_set():
            path = tmp_path / f"private-{number % 50}"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
            modes.add(path.stat().st_mode & 0o777)
            path.unlink()
            number += 1

    old = real(0o077)
    try:
        monkeypatch.setattr(os, "umask", umask)
        thread = threading.Thread(target=create)
        thread.start()
        for number in range(50):
            write_atomic(tmp_path / "m" / str(number), b"x")
        with Transaction(tmp_path / "m") as transaction:
            transaction.path("a").write_bytes(b"x")
        done.set()
        thread.join()
    finally:
        real(old)
    assert modes == {0o600}


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../x",
        "a/./b",
        "/etc/passwd",
        "a//b",
        "a/",
        "C:\\x",
        "C:x",
        "a\\b",
        "a\0b",
        "x" * 256,
        "/".join(["x" * 200] * 100),
        "ж" * 128,
        "\ud800",
        "a\nb",
    ],
)
def test_names_that_leave_the_folder(tmp_path, name):
    with pytest.raises(UnsafeFileError) as caught:
        safe_join(tmp_path, name)
    assert len(str(caught.value)) < 600
    write_atomic(tmp_path / "manifest.json", json.dumps({"format": 1, "files": {name: {}}}).encode())
    with pytest.raises(UnsafeFileError):
        Manifest.load(tmp_path)


@settings(max_examples=150, deadline=None)
@given(name=st.text(st.sampled_from("ab./\\:\0~é"), max_size=12) | st.text(max_size=40))
def test_safe_join_stays_inside_or_refuses(name):
    root = Path("/some/model")
    try:
        path = safe_join(root, name)
    except UnsafeFileError:
        return
    assert os.path.normpath(path).startswith(str(root) + os.sep)
    assert path.relative_to(root).as_posix() == name


def test_links(tmp_path):
    root = tmp_path / "m"
    make_old(root)
    (tmp_path / "secret").write_bytes(b"")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "inside").symlink_to(root / "retrieveall.yaml")
    (root / "loop").symlink_to(root / "loop")
    (root / "folder").symlink_to(tmp_path)
    for name in ("out", "loop", "folder", "folder/secret"):
        with pytest.raises(UnsafeFileError, match="is a link"):
            safe_join(root, name)
    assert safe_join(root, "inside").read_bytes() == b"old config"


def test_the_links_of_a_hugging_face_cache_are_followed(tmp_path):
    blob = tmp_path / "models--x/blobs/abc"
    snapshot = tmp_path / "models--x/snapshots/main"
    fill(tmp_path, {"models--x/blobs/abc": b"data"})
    snapshot.mkdir(parents=True)
    (snapshot / "file").symlink_to(blob)
    (snapshot / "out").symlink_to(tmp_path)
    assert safe_join(snapshot, "file").read_bytes() == b"data"
    with pytest.raises(UnsafeFileError):
        safe_join(snapshot, "out")


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "free space"), (errno.EACCES, "permissions"), (errno.ENOENT, "check the path")]
)
def test_what_to_do_is_what_helps(number: int, said: str) -> None:
    assert said in remedy(OSError(number, "why"))
