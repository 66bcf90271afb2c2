"""Several files change as one, at whatever moment the power goes."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folders import Breaker, fill, full_disk, make_old, state

from retrieveall.errors import InputError, ModelFolderError, RetrieveAllError, UnsafeFileError
from retrieveall.storage import Manifest, Transaction, recover


class PowerCut(BaseException):
    """Not an Exception, as kill -9 is not."""


def change(folder: Path) -> None:
    """Replace de by fewer files, cut fr, add ja in a new folder, change a file at the root."""
    with Transaction(folder) as transaction:
        staged = transaction.replace_folder("adapters/de")
        (staged / "adapter_model.safetensors").write_bytes(b"new de")
        transaction.delete("adapters/fr")
        transaction.path("adapters/ja/deep/adapter_model.safetensors").write_bytes(b"new ja")
        transaction.path("retrieveall.yaml").write_bytes(b"new config")


def crash_points(tmp_path, scenario, failure, *, forever):
    """Run ``scenario`` in a fresh folder with the failure at the n-th call, for every n until it succeeds."""
    for count in range(1000):
        folder = tmp_path / str(count)
        scenario(folder, None)
        with pytest.MonkeyPatch.context() as patch:
            breaker = Breaker(patch, failure, count, forever=forever)
            error: BaseException | None = None
            try:
                change(folder)
            except (PowerCut, OSError, RetrieveAllError) as raised:
                error = raised
        yield folder, error
        if not breaker.tripped:
            assert count > 20  # the breaker did break something before
            return
    raise AssertionError("never succeeded")


def prepared(folder, _):
    make_old(folder)


def empty(folder, _):
    folder.mkdir()


@pytest.fixture
def new_state(tmp_path, fast):
    """What the change makes of each scenario when nothing fails."""
    states = {}
    for scenario in (prepared, empty):
        folder = tmp_path / scenario.__name__
        scenario(folder, None)
        before = state(folder)
        change(folder)
        states[scenario] = before, state(folder)
    return states


def test_a_transaction_does_what_it_says(new_state):
    before, after = new_state[prepared]
    files = {name: data for name, data in after.items() if data is not None and name != "manifest.json"}
    assert files == {
        "retrieveall.yaml": b"new config",
        "adapters/de/adapter_model.safetensors": b"new de",
        "adapters/ja/deep/adapter_model.safetensors": b"new ja",
        "knowledge/es.parquet": b"stays",
    }
    assert sorted(json.loads(after["manifest.json"])["files"]) == sorted(files)
    assert "adapters/fr" not in after
    assert before != after


@pytest.mark.parametrize("scenario", [prepared, empty])
def test_a_power_cut_at_every_step_leaves_old_or_new(tmp_path, new_state, scenario):
    seen = []
    for folder, _ in crash_points(tmp_path, scenario, PowerCut, forever=True):
        recover(folder)
        seen.append(new_state[scenario].index(state(folder)))
        assert not (folder / ".staging").exists()
        if seen[-1] or scenario is prepared:
            Manifest.load(folder).verify()
        recover(folder)
        assert state(folder) == new_state[scenario][seen[-1]]
    assert seen == sorted(seen)  # once decided, the change is never taken back
    assert {0, 1} == set(seen)


def test_a_power_cut_while_recovering_from_a_power_cut(tmp_path, new_state):
    old, new = new_state[prepared]
    for number, (folder, _) in enumerate(crash_points(tmp_path, prepared, PowerCut, forever=True)):
        if number % 3:  # every third first crash, with every second one
            continue
        for count in range(1000):
            with pytest.MonkeyPatch.context() as patch:
                breaker = Breaker(patch, PowerCut, count, forever=True)
                with contextlib.suppress(PowerCut):
                    recover(folder)
            if not breaker.tripped:
                break
        assert state(folder) in (old, new)
        Manifest.load(folder).verify()


@pytest.mark.parametrize("forever", [False, True], ids=["one failure", "every call fails from then on"])
def test_a_full_disk_at_every_step_says_which_state_the_folder_is_in(tmp_path, new_state, forever):
    old, new = new_state[prepared]
    messages = set()
    for folder, error in crash_points(tmp_path, prepared, full_disk, forever=forever):
        if error is not None:
            assert isinstance(error, ModelFolderError)
            assert "\n" not in str(error)
            assert "No space left" in str(error)
            messages.add(str(error).rpartition("; ")[2])
        decided = error is None or "the change is saved" in str(error)
        if not decided:
            assert state(folder) == old
        recover(folder)
        assert state(folder) == (new if decided else old)
    assert len(messages) >= 2


def test_an_exception_inside_leaves_the_old_state(tmp_path):
    make_old(tmp_path / "m")
    before = state(tmp_path / "m")

    def fail_halfway() -> None:
        with Transaction(tmp_path / "m") as transaction:
            transaction.delete("adapters/de")
            transaction.path("adapters/ja/x").write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()
    assert state(tmp_path / "m") == before
    assert not (tmp_path / "m/.staging").exists()


def test_the_other_files_are_not_touched(tmp_path):
    make_old(tmp_path / "m")
    other = tmp_path / "m/knowledge/es.parquet"
    before = other.stat()
    change(tmp_path / "m")
    after = other.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_one_writer_at_a_time_and_a_reader_leaves_it_alone(tmp_path):
    make_old(tmp_path / "m")
    with Transaction(tmp_path / "m") as transaction:
        transaction.path("a").write_bytes(b"1")
        recover(tmp_path / "m")
        with pytest.raises(ModelFolderError, match="another process is writing"), Transaction(tmp_path / "m"):
            pass
    assert (tmp_path / "m/a").read_bytes() == b"1"
    with Transaction(tmp_path / "m") as transaction:
        transaction.delete("a")
    assert not (tmp_path / "m/a").exists()


def test_paths_of_a_transaction_stay_inside(tmp_path):
    make_old(tmp_path / "m")
    (tmp_path / "victim").write_bytes(b"safe")
    with Transaction(tmp_path / "m") as transaction:
        for act in (transaction.path, transaction.delete, transaction.replace_folder):
            with pytest.raises(UnsafeFileError):
                act("../victim")
        transaction.delete("not/there")
    with pytest.raises(InputError, match="plain files"), Transaction(tmp_path / "m") as transaction:
        transaction.path("link").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="is a folder"), Transaction(tmp_path / "m") as transaction:
        transaction.path("adapters").write_bytes(b"")
    assert (tmp_path / "victim").read_bytes() == b"safe"


def test_a_link_out_of_the_folder_is_not_deleted_half(tmp_path):
    """Refused before the change is decided: a journal that names it could never be finished."""
    make_old(tmp_path / "m")
    (tmp_path / "victim").write_bytes(b"safe")
    (tmp_path / "m/adapters/fr/link").symlink_to(tmp_path / "victim")
    before = state(tmp_path / "m")
    for name in ("adapters/fr", "adapters/fr/link"):
        with pytest.raises(UnsafeFileError, match="link out"), Transaction(tmp_path / "m") as transaction:
            transaction.delete(name)
        recover(tmp_path / "m")
        assert state(tmp_path / "m") == before
    assert (tmp_path / "victim").read_bytes() == b"safe"


@pytest.mark.parametrize(
    "journal",
    [
        {"format": 1, "delete": ["../victim"], "move": []},
        {"format": 1, "delete": ["retrieveall.yaml", "../victim"], "move": []},
        {"format": 1, "delete": [], "move": ["../victim"]},
        {"format": 1, "delete": [7], "move": []},
        {"format": 2, "delete": [], "move": []},
        {},
    ],
)
def test_a_journal_that_came_with_a_download_cannot_reach_outside(tmp_path, journal):
    make_old(tmp_path / "m")
    (tmp_path / "victim").write_bytes(b"safe")
    (tmp_path / "m/.staging/files").mkdir(parents=True)
    (tmp_path / "m/.staging/commit.json").write_text(json.dumps(journal))
    before = state(tmp_path / "m")
    with pytest.raises(ModelFolderError):
        recover(tmp_path / "m")
    assert state(tmp_path / "m") == before
    assert (tmp_path / "victim").read_bytes() == b"safe"


def test_a_staging_folder_that_links_out_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    fill(
        outside,
        {"files/retrieveall.yaml": b"evil", "commit.json": b'{"format": 1, "delete": [], "move": []}'},
    )
    before = state(outside)
    make_old(tmp_path / "m")
    (tmp_path / "m/.staging").symlink_to(outside)
    with pytest.raises(UnsafeFileError, match="is a link"):
        recover(tmp_path / "m")
    (tmp_path / "m/.staging").unlink()
    (tmp_path / "m/.staging").mkdir()
    (tmp_path / "m/.staging/files").symlink_to(outside / "files")
    journal = {"format": 1, "delete": [], "move": ["retrieveall.yaml"]}
    (tmp_path / "m/.staging/commit.json").write_text(json.dumps(journal))
    with pytest.raises(UnsafeFileError, match="link out of its folder"):
        recover(tmp_path / "m")
    assert state(outside) == before


WRITER = """
import sys
from pathlib import Path
from retrieveall.storage import Transaction
folder = Path(sys.argv[1])
for number in range(int(sys.argv[2]), 1_000_000):
    with Transaction(folder) as transaction:
        for name in ("a", "b/c", "b/d/e", f"n/{number}"):
            transaction.path(name).write_text(str(number))
        transaction.delete(f"n/{number - 1}")
    print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_kill_9_in_the_middle_of_writing(tmp_path):
    wait = random.Random(4)
    last = 0
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(last + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            done = int(writer.stdout.readline())
            time.sleep(wait.uniform(0, 0.05))
            writer.kill()
            done = max([done, *map(int, writer.stdout.read().split())])
        recover(tmp_path)
        manifest = Manifest.load(tmp_path)
        manifest.verify()
        last = int((tmp_path / "a").read_text())
        assert last >= done  # what was reported as written is there
        assert manifest.names() == ["a", "b/c", "b/d/e", f"n/{last}"]
        assert {(tmp_path / name).read_text() for name in manifest.names()} == {str(last)}
        assert {name for name, data in state(tmp_path).items() if data is not None} == {
            *manifest.names(),
            "manifest.json",
        }
