"""One writer at a time, on file systems with and without ``flock``; a writer that died locks nobody out."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from folders import make_old, state

from retrieveall.errors import ModelFolderError, UnsafeFileError
from retrieveall.storage import Manifest, Transaction, lock, recover

fcntl = pytest.importorskip("fcntl")

TAKEN = [errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES]
UNSUPPORTED = [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF]
BROKEN = [errno.EIO, errno.ESTALE, errno.EPERM, errno.ENOSPC]


def failing(number: int) -> Callable[..., None]:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_old(tmp_path / "m")
    return tmp_path / "m"


def write(folder: Path, text: str = "new") -> None:
    with Transaction(folder) as transaction:
        transaction.path("a").write_text(text)


class TestErrors:
    @pytest.mark.parametrize("number", TAKEN, ids=errno.errorcode.get)
    def test_the_lock_is_taken(self, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        before = state(folder)
        monkeypatch.setattr(fcntl, "flock", failing(number))
        with pytest.raises(ModelFolderError, match=r"another process is writing to .*; wait until it has finished"):
            write(folder)
        assert state(folder) == before

    @pytest.mark.parametrize("number", UNSUPPORTED, ids=errno.errorcode.get)
    def test_the_file_system_has_no_locks(self, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        monkeypatch.setattr(fcntl, "flock", failing(number))
        with Transaction(folder) as transaction:
            transaction.path("a").write_text("new")
            with pytest.raises(ModelFolderError, match=r"another process .* is writing"):
                write(folder)
            recover(folder)  # a reader leaves a writer that is alive alone
        assert (folder / "a").read_text() == "new"
        Manifest.load(folder).verify()
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]

    @pytest.mark.parametrize("number", BROKEN, ids=errno.errorcode.get)
    def test_the_disk_is_broken(self, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        before = state(folder)
        monkeypatch.setattr(fcntl, "flock", failing(number))
        with pytest.raises(ModelFolderError, match=f"could not write to .*: {os.strerror(number)}"):
            write(folder)
        assert state(folder) == before

    @pytest.mark.parametrize("number", UNSUPPORTED, ids=errno.errorcode.get)
    def test_the_file_system_cannot_flush_folders(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
                raise OSError(number, os.strerror(number))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        write(folder)
        assert (folder / "a").read_text() == "new"


def test_a_system_without_fcntl(folder: Path) -> None:
    """As Windows."""
    code = """
import pathlib, sys
sys.modules["fcntl"] = None
from retrieveall.storage import Transaction
with Transaction(pathlib.Path(sys.argv[1])) as transaction:
    transaction.path("a").write_text("new")
    try:
        Transaction(pathlib.Path(sys.argv[1])).__enter__()
    except Exception as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "another process" in done.stdout
    assert (folder / "a").read_text() == "new"


HOLDER = """
import errno, fcntl, sys
from pathlib import Path

def no_flock(*_):
    raise OSError(errno.ENOLCK, "No locks available")

folder, kind, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if kind == "lock file":
    fcntl.flock = no_flock
from retrieveall.storage import Transaction, transaction as module

def wait(*_):
    print("ready", flush=True)
    sys.stdin.readline()

if moment == "decided":
    apply = module._apply
    module._apply = lambda *args: (wait(), apply(*args))
with Transaction(folder) as transaction:
    transaction.path("a").write_text("of the holder")
    if moment == "staged":
        wait()
"""


@pytest.fixture(params=["flock", "lock file"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "lock file":
        monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
    return str(request.param)


@pytest.fixture
def hold(folder: Path, kind: str) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a process that stays in a transaction until it reads a line."""
    started: list[subprocess.Popen[str]] = []

    def start(moment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(folder), kind, moment]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        return holder

    yield start
    for holder in started:
        holder.kill()
        holder.communicate()


class TestTwoProcesses:
    def test_the_second_writer_is_told_and_may_come_later(
        self, folder: Path, hold: Callable[[str], subprocess.Popen[str]], kind: str
    ) -> None:
        holder = hold("staged")
        before = state(folder)
        recover(folder)
        with pytest.raises(ModelFolderError, match="another process") as caught:
            write(folder)
        assert (f"({holder.pid} on " in str(caught.value)) == (kind == "lock file")
        assert state(folder) == before
        holder.communicate("go\n", timeout=30)
        assert (folder / "a").read_text() == "of the holder"
        write(folder)
        assert (folder / "a").read_text() == "new"
        assert not (folder / lock.LOCK_FILE).exists()

    @pytest.mark.parametrize("reaped", [True, False], ids=["gone", "zombie"])
    @pytest.mark.parametrize("moment", ["staged", "decided"])
    def test_a_writer_that_was_killed_locks_nobody_out(
        self, folder: Path, hold: Callable[[str], subprocess.Popen[str]], moment: str, reaped: bool
    ) -> None:
        holder = hold(moment)
        before = state(folder)
        holder.send_signal(signal.SIGKILL)
        if reaped:
            holder.wait(30)
        else:
            os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        recover(folder)
        assert not (folder / lock.LOCK_FILE).exists()
        assert not (folder / ".staging").exists()
        if moment == "decided":
            assert (folder / "a").read_text() == "of the holder"
        else:
            assert {**state(folder), lock.LOCK_FILE: None} == {**before, lock.LOCK_FILE: None}
        write(folder)
        assert (folder / "a").read_text() == "new"

    def test_a_reader_waits_for_one_that_is_about_to_finish(
        self, folder: Path, hold: Callable[[str], subprocess.Popen[str]]
    ) -> None:
        holder = hold("decided")
        reader = threading.Thread(target=recover, args=(folder,))
        reader.start()
        time.sleep(0.1)
        assert reader.is_alive()
        holder.communicate("go\n", timeout=30)
        reader.join(10)
        assert not reader.is_alive()
        assert (folder / "a").read_text() == "of the holder"


def kill_at(step: int, work: Callable[[], None]) -> None:
    """Run ``work`` and die at the ``step``-th change of the disk."""
    left = step

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in ("open", "write", "replace", "unlink", "mkdir", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    work()


def identity(**changes: object) -> str:
    return json.dumps({**json.loads(lock._identity()), **changes})


class TestLockFiles:
    """Of other holders; the file system has no ``flock``."""

    @pytest.fixture(autouse=True)
    def _no_flock(self, no_flock: None) -> None:
        pass

    @pytest.mark.parametrize(
        "changes",
        [{"started": "1"}, {"pid": 2**22 + 1}, {"pid": 2**70}],
        ids=["another process has its number", "no such process", "no number of a process"],
    )
    def test_of_a_process_that_no_longer_runs(self, folder: Path, changes: dict[str, object]) -> None:
        (folder / lock.LOCK_FILE).write_text(identity(**changes))
        write(folder)
        assert (folder / "a").read_text() == "new"
        assert not list(folder.glob(f"{lock.LOCK_FILE}*"))

    @pytest.mark.parametrize(
        "content",
        [
            identity(host="elsewhere pid:[1]"),
            identity(),
            identity(pid=1, started=""),
            identity(pid=0),
            identity(pid=-1),
            identity(pid="1"),
            identity(pid=True),
            "",
            "[]",
            "{",
            "null",
            "\x80" * 100_000,
            '{"pid": 1}',
        ],
        ids=range(13),
    )
    def test_of_one_that_may_run(self, folder: Path, content: str) -> None:
        (folder / lock.LOCK_FILE).write_text(content)
        before = state(folder)
        recover(folder)
        with pytest.raises(ModelFolderError, match=r"wait until .* or delete .*\.writer\.lock if") as caught:
            write(folder)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        assert state(folder) == before
        (folder / lock.LOCK_FILE).unlink()
        write(folder)

    def test_of_one_that_died_before_it_wrote_its_name(self, folder: Path) -> None:
        (folder / lock.LOCK_FILE).touch()
        with pytest.raises(ModelFolderError, match="another process"):
            write(folder)
        os.utime(folder / lock.LOCK_FILE, (time.time() - 61,) * 2)
        write(folder)
        assert not list(folder.glob(f"{lock.LOCK_FILE}*"))

    def test_a_writer_that_is_killed_at_any_step(
        self, folder: Path, tmp_path: Path, fast: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lock, "_FILLED_SECONDS", -1.0)
        seen = []
        for step in range(1000):
            copy = Path(shutil.copytree(folder, tmp_path / str(step)))
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    kill_at(step, lambda copy=copy: write(copy))
                os._exit(0)
            killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            recover(copy)
            Manifest.load(copy).verify()
            seen.append((copy / "a").exists())
            write(copy, "again")
            assert (copy / "a").read_text() == "again"
            assert {path.name for path in copy.iterdir() if path.name.startswith(".")} == set()
            if not killed:
                break
        assert step > 20
        assert seen == sorted(seen)
        assert set(seen) == {False, True}

    def test_that_is_a_link_or_a_pipe(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(identity(pid=2**22 + 1))
        os.mkfifo(tmp_path / "pipe")
        for target in ("secret", "pipe", "nothing"):
            (folder / lock.LOCK_FILE).symlink_to(tmp_path / target)
            if target == "secret":
                write(folder)
                assert not (folder / lock.LOCK_FILE).is_symlink()
            else:
                with pytest.raises(ModelFolderError, match="another process"):
                    write(folder)
                (folder / lock.LOCK_FILE).unlink()
        assert (tmp_path / "secret").is_file()

    def test_a_taker_that_died_in_the_middle(self, folder: Path) -> None:
        """Its claim to the dead holder's lock is taken over as well."""
        dead, taker = identity(started="1"), identity(started="2")
        assert lock._create(folder / lock.LOCK_FILE, dead)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", failing(errno.EIO))
            patch.setattr(lock, "_release", lambda *_: None)
            with pytest.raises(OSError, match="Input"):
                lock._acquire(folder / lock.LOCK_FILE, taker)
        assert len(list(folder.glob(f"{lock.LOCK_FILE}*"))) == 2
        write(folder)
        assert not list(folder.glob(f"{lock.LOCK_FILE}*"))

    def test_a_disk_that_fails_leaves_no_claim_and_no_empty_lock(self, folder: Path) -> None:
        for name in ("replace", "write"):
            (folder / lock.LOCK_FILE).write_text(identity(started="1"))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, name, failing(errno.ENOSPC))
                with pytest.raises(ModelFolderError, match="No space left"):
                    write(folder)
            assert len(list(folder.glob(f"{lock.LOCK_FILE}*"))) == 1
            write(folder)

    def test_of_many_that_find_a_dead_holder_one_takes_over(self, folder: Path) -> None:
        for _ in range(20):
            (folder / lock.LOCK_FILE).write_text(identity(started="1"))
            barrier, took = threading.Barrier(4), []

            def take(barrier: threading.Barrier = barrier, took: list[str] = took) -> None:
                own = lock._identity()
                barrier.wait()
                if lock._acquire(folder / lock.LOCK_FILE, own):
                    took.append(own)

            threads = [threading.Thread(target=take) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(took) == 1
            assert (folder / lock.LOCK_FILE).read_text() == took[0]
            lock._release(folder / lock.LOCK_FILE, took[0])
            assert not list(folder.glob(f"{lock.LOCK_FILE}*"))

    def test_the_lock_of_another_is_not_released(self, folder: Path) -> None:
        with Transaction(folder):
            (folder / lock.LOCK_FILE).write_text("of another")
        assert (folder / lock.LOCK_FILE).read_text() == "of another"


COUNTER = """
import errno, fcntl, sys, time
from pathlib import Path

def no_flock(*_):
    raise OSError(errno.ENOLCK, "No locks available")

if sys.argv[2] == "lock file":
    fcntl.flock = no_flock
from retrieveall.errors import ModelFolderError
from retrieveall.storage import Transaction
folder, done = Path(sys.argv[1]), 0
while done < 20:
    try:
        with Transaction(folder) as transaction:
            count = int((folder / "count").read_text())
            transaction.path("count").write_text(str(count + 1))
        done += 1
    except ModelFolderError as error:
        assert "another process" in str(error), error
        time.sleep(0.001)
"""


def test_no_change_of_two_processes_is_lost(folder: Path, kind: str) -> None:
    (folder / "count").write_text("0")
    command = [sys.executable, "-c", COUNTER, str(folder), kind]
    for process in [subprocess.Popen(command) for _ in range(2)]:
        assert process.wait(120) == 0
    assert (folder / "count").read_text() == "40"


def test_a_lock_file_counts_where_flock_works_too(folder: Path) -> None:
    """The other machine sees the folder through a file system without ``flock``."""
    (folder / lock.LOCK_FILE).write_text(identity(host="elsewhere"))
    (folder / ".staging/files").mkdir(parents=True)
    recover(folder)
    assert (folder / ".staging/files").is_dir()
    with pytest.raises(ModelFolderError, match="on elsewhere"):
        write(folder)
    (folder / lock.LOCK_FILE).write_text(identity(started="1"))
    write(folder)
    assert not (folder / lock.LOCK_FILE).exists()


def test_a_model_on_a_read_only_disk_can_be_read(folder: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".staging/files").mkdir(parents=True)
    before = state(folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lock, "_create", refuse)
    recover(folder)
    assert state(folder) == before
    (folder / ".staging/commit.json").write_text('{"format": 1, "delete": [], "move": []}')
    with pytest.raises(ModelFolderError, match="Read-only file system; repeat when the disk can be written"):
        recover(folder)


@pytest.mark.parametrize("name", [".staging/commit.json", ".staging", ".writer.lock", ".writer.lock/x"])
def test_the_files_of_the_transaction_are_not_of_the_model(folder: Path, name: str) -> None:
    with Transaction(folder) as transaction:
        for act in (transaction.path, transaction.delete, transaction.replace_folder):
            with pytest.raises(UnsafeFileError, match="belongs to the transaction"):
                act(name)
