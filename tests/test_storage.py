"""Files appear whole or not at all, whatever moment the power goes; and nothing leaves its folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import InputError, ModelFolderError, RetrieveAllError, UnsafeFileError
from retrieveall.storage import (
    Manifest,
    Transaction,
    check_safetensors,
    recover,
    refuse_unsafe_weights,
    safe_join,
    write_atomic,
)

CALLS = ("replace", "fsync", "unlink", "rmdir", "mkdir", "open")
OLD = {
    "retrieveall.yaml": b"old config",
    "adapters/de/adapter_model.safetensors": b"old de",
    "adapters/de/extra.txt": b"only in the old one",
    "adapters/fr/adapter_model.safetensors": b"old fr",
    "adapters/fr/adapter_config.json": b"{}",
    "knowledge/es.parquet": b"stays",
}


@pytest.fixture
def fast(monkeypatch):
    """No real flushing: it takes milliseconds a call and no test can see it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class PowerCut(BaseException):
    """Not an Exception, as kill -9 is not."""


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


def change(folder: Path) -> None:
    """Replace de by fewer files, cut fr, add ja in a new folder, change a file at the root."""
    with Transaction(folder) as transaction:
        staged = transaction.replace_folder("adapters/de")
        (staged / "adapter_model.safetensors").write_bytes(b"new de")
        transaction.delete("adapters/fr")
        transaction.path("adapters/ja/deep/adapter_model.safetensors").write_bytes(b"new ja")
        transaction.path("retrieveall.yaml").write_bytes(b"new config")


def state(folder: Path) -> dict[str, bytes | None]:
    """Every file's bytes; None for a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if ".staging" not in path.parts
    }


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


def test_write_atomic_follows_the_umask(tmp_path):
    mask = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a/b", b"x")
    finally:
        os.umask(mask)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o640


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


def test_the_manifest_finds_damage_and_names_it(tmp_path):
    make_old(tmp_path / "m")
    manifest = Manifest.load(tmp_path / "m")
    assert sorted(manifest.files) == sorted(OLD)
    manifest.verify()
    path = tmp_path / "m/adapters/de/extra.txt"
    data = path.read_bytes()
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
        with pytest.raises(ModelFolderError, match=r"de/extra\.txt was altered"):
            manifest.verify()
    manifest.verify(full=False)
    manifest.verify("adapters/fr")
    manifest.verify("adapters/d")  # a prefix is a file or a folder, not a beginning of a name
    path.write_bytes(data[:-1])
    with pytest.raises(ModelFolderError, match=r"extra\.txt is damaged: expected 19 bytes, found 18"):
        manifest.verify("adapters/de", full=False)
    path.unlink()
    with pytest.raises(ModelFolderError, match=r"extra\.txt is missing"):
        manifest.verify("adapters/de/extra.txt", full=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nonsense",
        '{"format": 2, "files": {}}',
        '{"format": 1}',
        '{"format": 1, "files": {"a": 1}}',
        '{"format": 1, "files": {"a": {"sha256": "x", "size": 1}}}',
        '{"format": 1, "files": {"a": {"sha256": "' + "0" * 64 + '", "size": -1}}}',
        '{"format": 1, "files": {"a": {"sha256": "' + "0" * 64 + '", "size": true}}}',
    ],
)
def test_malformed_manifests(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ModelFolderError, match=r"manifest\.json"):
        Manifest.load(tmp_path)


def test_a_folder_without_manifest(tmp_path):
    assert Manifest.find(tmp_path) is None
    with pytest.raises(ModelFolderError, match="is missing"):
        Manifest.load(tmp_path)


def test_safetensors_headers_equal_the_librarys(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors import safe_open
    from safetensors.torch import save_file

    tensors = {
        "a": torch.ones(2, 3),
        "b": torch.ones(4, dtype=torch.bfloat16),
        "empty": torch.ones(0, 3),
        "scalar": torch.tensor(1, dtype=torch.int64),
        "flag": torch.ones(3, dtype=torch.bool),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        expected = {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
    assert check_safetensors(tmp_path / "x.safetensors") == expected


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_header_is_refused_or_harmless(tmp_path_factory, data):
    """What passes our check, the library opens; what the library refuses, we refuse."""
    from safetensors import SafetensorError, safe_open

    header = (
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1,3],"data_offsets":[8,11]}}'
    )
    content = bytearray(len(header).to_bytes(8, "little") + header + bytes(11))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("h") / "x.safetensors"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else content)
    try:
        found = check_safetensors(path)
    except ModelFolderError:
        return
    try:
        with safe_open(path, "np") as file:
            assert set(file.keys()) == set(found)
    except SafetensorError as error:
        raise AssertionError(f"we accept what the library refuses: {error}") from error


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(ModelFolderError, match="No such file"):
        check_safetensors(tmp_path / "x.safetensors")


def test_a_huge_claimed_header_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:  # a sparse file of 8 GB
        file.write((7 << 30).to_bytes(8, "little") + b"{")
        file.truncate(8 << 30)
    with pytest.raises(ModelFolderError, match="header of 1 to 100000000 bytes"):
        check_safetensors(path)


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "ckpt", "BIN"])
def test_weights_that_could_only_be_unpickled(tmp_path, suffix):
    (tmp_path / f"model.{suffix}").write_bytes(b"")
    with pytest.raises(UnsafeFileError, match="safe_serialization=True"):
        refuse_unsafe_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    refuse_unsafe_weights(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "adapter_config.json"])
@pytest.mark.parametrize("body", [{"auto_map": {"x": "evil--m.Y"}}, {"a": {"b": [{"trust_remote_code": True}]}}])
def test_configurations_that_name_code(tmp_path, name, body):
    (tmp_path / name).write_text(json.dumps(body))
    with pytest.raises(UnsafeFileError, match=f"{name} asks to import code"):
        refuse_unsafe_weights(tmp_path)
    (tmp_path / name).write_text(json.dumps({"auto_map": {}, "trust_remote_code": False}))
    refuse_unsafe_weights(tmp_path)
