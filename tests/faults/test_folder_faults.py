"""F2, F4 to F6: hostile names, damaged files, and a process killed in the middle."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from retrieveall import RetrieveAll
from retrieveall.adapters import AdapterPool
from retrieveall.cli.index import _write as write_index
from retrieveall.errors import AdapterError, ModelFolderError, RetrieveAllError, UnsafeFileError
from retrieveall.knowledge import KnowledgeBase
from retrieveall.model_folder import ModelFolder
from retrieveall.storage import Manifest
from retrieveall.types import Sentence

HOSTILE = ["../x", "a/../../x", "/etc/passwd", "C:\\x", "a\\b", "a\0b", "a\nb", "./a", "a//b", "x" * 10_000, "", ".."]


def state(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestHostileNames:
    """F4: refused in one line; nothing is read or written outside."""

    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_in_the_manifest(self, model_copy: Path, tmp_path: Path, name: str) -> None:
        path = model_copy / "manifest.json"
        raw = json.loads(path.read_text())
        raw["files"][name] = raw["files"]["retrieveall.yaml"]
        path.write_text(json.dumps(raw))
        (tmp_path / "x").write_bytes((model_copy / "retrieveall.yaml").read_bytes())
        with pytest.raises(UnsafeFileError, match="plain names") as caught:
            ModelFolder.open(model_copy)
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_as_an_adapter(self, model_copy: Path, name: str) -> None:
        manifest = Manifest.load(model_copy)
        record = manifest.files["retrieveall.yaml"]
        listed = f"adapters/{name}/adapter_config.json"
        raw = {"format": 1, "files": {listed: {"sha256": record.sha256, "size": record.size}}}
        (model_copy / "manifest.json").write_text(json.dumps(raw))
        with pytest.raises(RetrieveAllError) as caught:
            AdapterPool(model_copy).languages()
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("label", ["../x", "a b", "a\0b", "O", "", "x" * 10_000, "a/b"], ids=range(7))
    def test_as_a_label(self, model_copy: Path, label: str) -> None:
        path = model_copy / "retrieveall.yaml"
        path.write_text(path.read_text().replace("name: PER", f"name: {json.dumps(label)}"))
        Manifest.of(model_copy).write()
        with pytest.raises(RetrieveAllError, match=r"retrieveall\.yaml: labels") as caught:
            ModelFolder.open(model_copy)
        assert len(str(caught.value)) < 500

    def test_a_link_out_of_the_folder(self, model_copy: Path, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        for name in ("knowledge/de/sentences.parquet", "backbone/model.safetensors", "adapters/zh/adapter_config.json"):
            shutil.copyfile(model_copy / name, secret)
            (model_copy / name).unlink()
            (model_copy / name).symlink_to(secret)
            with pytest.raises(UnsafeFileError, match=r"link out of its folder"):
                ModelFolder.open(model_copy)
            (model_copy / name).unlink()
            shutil.copyfile(secret, model_copy / name)
        ModelFolder.open(model_copy)


class TestDamage:
    """F5: every file of the model, missing, cut off or altered in one bit, is found and named."""

    @pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "longer", "altered"])
    def test_every_file(self, model_copy: Path, fault: str) -> None:
        names = Manifest.load(model_copy).names()
        assert len(names) > 20
        for name in names:
            path = model_copy / name
            data = path.read_bytes()
            if fault == "missing":
                path.unlink()
            else:
                middle = len(data) // 2
                altered = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
                changes = {"empty": b"", "truncated": data[:-1], "longer": data + b"\0", "altered": altered}
                path.write_bytes(changes[fault])
            with pytest.raises(ModelFolderError) as caught:
                RetrieveAll.from_pretrained(model_copy)
            if name != "retrieveall.yaml" or fault != "missing":
                assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)
            path.write_bytes(data)
        ModelFolder.open(model_copy)

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '{"format": 2, "files": {}}', '{"format": 1}', "\x80", "[" * 10**6]
    )
    def test_the_manifest_itself(self, model_copy: Path, text: str) -> None:
        (model_copy / "manifest.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(ModelFolderError, match=r"manifest\.json"):
            ModelFolder.open(model_copy)
        (model_copy / "manifest.json").unlink()
        with pytest.raises(ModelFolderError, match=r"manifest\.json is missing"):
            ModelFolder.open(model_copy)


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a child that is killed with SIGKILL at its ``step``-th change of the disk.

    False where it ended before that.
    """
    child = os.fork()
    if child == 0:
        try:
            left = [step]

            def count(function: Callable[..., Any]) -> Callable[..., Any]:
                def counted(*args: Any, **kwargs: Any) -> Any:
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*args, **kwargs)

                return counted

            for module, names in {os: ["replace", "fsync", "unlink", "mkdir", "rmdir"], shutil: ["copyfile"]}.items():
                for name in names:
                    setattr(module, name, count(getattr(module, name)))
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
class TestKilled:
    """F6: the old state or the new one, never a mixture; and doing it again gives the new one."""

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A killed process loses nothing that it has written, flushed or not."""
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def test_while_a_language_is_removed(self, tiny_model: Path, tmp_path: Path) -> None:
        old = state(tiny_model)
        shutil.copytree(tiny_model, tmp_path / "reference")
        ModelFolder.open(tmp_path / "reference").remove_language("en")
        new = state(tmp_path / "reference")
        seen = set()
        for step in range(0, 1000, 3):
            folder = Path(shutil.copytree(tiny_model, tmp_path / str(step)))
            killed = killed_at(step, lambda folder=folder: ModelFolder.open(folder).remove_language("en"))
            languages = ModelFolder.open(folder).languages()
            found = state(folder)
            assert found == (new if languages == ("de", "zh") else old)
            if languages != ("de", "zh"):
                ModelFolder.open(folder).remove_language("en")
                assert state(folder) == new
            seen.add(languages)
            shutil.rmtree(folder)
            if not killed:
                break
        assert step > 10
        assert len(seen) == 2

    def test_while_a_model_is_saved(self, tiny_model: Path, tmp_path: Path) -> None:
        new = state(tiny_model)
        model = ModelFolder.open(tiny_model)
        seen = set()
        for step in range(0, 1000, 19):
            target = tmp_path / str(step)
            killed = killed_at(step, lambda target=target: model.copy_to(target))
            try:
                ModelFolder.open(target)
            except ModelFolderError:
                assert not target.is_dir() or state(target) == {}
                model.copy_to(target)
                seen.add("old")
            else:
                seen.add("new")
            assert state(target) == new
            shutil.rmtree(target)
            if not killed:
                break
        assert step > 20
        assert seen == {"old", "new"}

    def test_while_an_index_is_replaced(self, corpus: dict[str, list[Sentence]], tmp_path: Path) -> None:
        """An encoder of one corpus beside the vectors of another would find anything at all."""
        pytest.importorskip("scipy")
        first = KnowledgeBase.build({language: corpus[language] for language in ("de", "en")})
        second = KnowledgeBase.build({language: corpus[language] for language in ("en", "zh")})
        for base, name in ((first, "old"), (first, "new"), (second, "new")):
            write_index(base, tmp_path / name)
        old, new = state(tmp_path / "old"), state(tmp_path / "new")
        seen = set()
        for step in range(0, 1000, 3):
            folder = Path(shutil.copytree(tmp_path / "old", tmp_path / str(step)))
            killed = killed_at(step, lambda folder=folder: write_index(second, folder))
            languages = KnowledgeBase.open(folder).languages
            assert state(folder) == (new if languages == ("en", "zh") else old)
            seen.add(languages)
            shutil.rmtree(folder)
            if not killed:
                break
        assert seen == {("de", "en"), ("en", "zh")}


class TestFullDisk:
    def test_while_a_model_is_saved(self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        copied: list[Any] = []

        def full(source: Path, target: Path) -> None:
            copied.append(target)
            if len(copied) == 5:
                raise OSError(errno.ENOSPC, "No space left on device")
            target.write_bytes(source.read_bytes())

        model = ModelFolder.open(tiny_model)
        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(ModelFolderError, match=r"No space left on device.*free space and repeat"):
            model.copy_to(tmp_path / "copy")
        assert state(tmp_path / "copy") == {}
        model.copy_to(tmp_path / "copy")
        assert state(tmp_path / "copy") == state(tiny_model)

    def test_while_a_language_is_removed(self, model_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = state(model_copy)

        def full(*_: Any) -> NoReturn:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(ModelFolderError, match="No space left on device"):
                ModelFolder.open(model_copy).remove_language("en")
        assert ModelFolder.open(model_copy).languages() == ("de", "en", "zh")
        assert state(model_copy) == before


@pytest.mark.parametrize("fault", ["NaN", "a tensor too few", "another rank"])
def test_a_broken_adapter_leaves_the_other_languages_working(model_copy: Path, loaded: RetrieveAll, fault: str) -> None:
    """F2: one whose checksums agree, as that of a training that went wrong; the error names file and tensor."""
    import torch
    from safetensors.torch import load_file, save_file

    path = model_copy / "adapters" / "de" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    if fault == "NaN":
        tensors[name][0, 0] = torch.nan
    elif fault == "another rank":
        tensors[name] = tensors[name][:1].clone()
    else:
        del tensors[name]
    save_file(tensors, path)
    Manifest.of(model_copy).write()
    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    text = "Karl May in London"
    for _ in range(2):
        with pytest.raises(AdapterError) as caught:
            model.predict([text, text], language=["en", "de"])
        assert str(path) in str(caught.value)
        assert name in str(caught.value) or name.replace(".default", "") in str(caught.value)
        assert "\n" not in str(caught.value)
        assert model.predict(text, language="en") == loaded.predict(text, language="en")
