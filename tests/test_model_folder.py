"""Model folders: opening, copying, uploading, and taking a language out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from retrieveall.errors import AdapterError, InputError, LanguageError, ModelFolderError
from retrieveall.model_folder import ModelFolder, shipped_models
from retrieveall.storage import Manifest, Transaction

if TYPE_CHECKING:
    from retrieveall import RetrieveAll
    from retrieveall.types import Entity

Plain = Callable[[Any], list["Entity"]]


def open_model(path: Path, **options: Any) -> RetrieveAll:
    from retrieveall import RetrieveAll

    return RetrieveAll.from_pretrained(path, device="cpu", **options)


def digests(folder: Path) -> dict[str, str]:
    """Every file by its path, with a checksum of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestOpen:
    def test_a_folder(self, tiny_model: Path) -> None:
        for name in (tiny_model, str(tiny_model)):
            folder = ModelFolder.open(name)
            assert folder.path == tiny_model
            assert folder.config.name == "tiny"
            assert folder.languages() == ("de", "en", "zh")
            assert folder.knowledge().languages == ("de", "en", "zh")

    def test_a_home_relative_path(self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tiny_model.parent))
        assert ModelFolder.open(f"~/{tiny_model.name}").config.name == "tiny"

    @pytest.mark.parametrize(
        "name",
        [
            *("nowhere", "", "/no/where", "a/b/c", "../x", "a\0b", "~nobody-of-this-name/x", "C:\\x", "\ud800"),
            pytest.param("x" * 10_000, id="long"),
        ],
    )
    def test_what_is_no_model_is_one_line(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelFolderError) as caught:
            ModelFolder.open(name)
        assert len(str(caught.value)) < 500
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", [None, 3, b"mini"])
    def test_what_is_no_name(self, name: Any) -> None:
        with pytest.raises(
            InputError, match=f"expected the name of a shipped model, .* got {type(name).__name__}; give"
        ):
            ModelFolder.open(name)

    def test_a_folder_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(ModelFolderError, match=r"expected retrieveall\.yaml in .*is this a model folder"):
            ModelFolder.open(tmp_path)

    def test_settings_that_the_manifest_does_not_vouch_for(self, model_copy: Path) -> None:
        manifest = Manifest.load(model_copy)
        manifest.update({}, removed=["retrieveall.yaml"]).write()
        with pytest.raises(ModelFolderError, match="in the manifest"):
            ModelFolder.open(model_copy)

    def test_shipped_models_open_by_name(self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for path in shipped_models().values():
            assert (path / "retrieveall.yaml").is_file()
        monkeypatch.setattr("retrieveall.model_folder.shipped_models", lambda: {"mini": tiny_model})
        assert ModelFolder.open("mini").path == tiny_model

    def test_without_verification_only_sizes_are_compared(self, model_copy: Path) -> None:
        path = model_copy / "knowledge" / "de" / "sentences.parquet"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        ModelFolder.open(model_copy, verify=False)
        with pytest.raises(ModelFolderError, match=r"sentences\.parquet was altered"):
            ModelFolder.open(model_copy)
        path.write_bytes(b"?")
        with pytest.raises(ModelFolderError, match=r"sentences\.parquet is truncated"):
            ModelFolder.open(model_copy, verify=False)


class TestHub:
    def test_an_id_is_fetched_at_its_revision(self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []

        def download(repo_id: str, *, revision: str | None = None) -> str:
            asked.append((repo_id, revision))
            return str(tiny_model)

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        assert ModelFolder.open("someone/model", revision="abc").path == tiny_model
        assert asked == [("someone/model", "abc")]

    def test_a_failure_is_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def download(*_: Any, **__: Any) -> str:
            raise ValueError("It has\ntwo lines. And another sentence.")

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        with pytest.raises(
            ModelFolderError, match=r"got 'someone/model': .* failed: It has two lines\. \(ValueError\);"
        ):
            ModelFolder.open("someone/model")

    @pytest.mark.parametrize(
        ("error", "why"),
        [
            ("LocalEntryNotFoundError", "not reachable.*check the path or the network, or download the model"),
            ("RepositoryNotFoundError", "no such model, or it is private; check the path or the id"),
            ("RevisionNotFoundError", "no revision 'v2'; check the revision"),
            ("GatedRepoError", "request access"),
        ],
    )
    def test_what_the_hub_says_becomes_what_to_do(self, monkeypatch: pytest.MonkeyPatch, error: str, why: str) -> None:
        from huggingface_hub import errors

        kind = getattr(errors, error)

        def download(*_: Any, **__: Any) -> str:
            raise kind.__new__(kind)  # the real ones want a response of the server

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        expected = rf"got 'someone/model': there is no such folder, and the download failed: .*{why}"
        with pytest.raises(ModelFolderError, match=expected):
            ModelFolder.open("someone/model", revision="v2")

    def test_the_real_client_refuses_bad_ids_and_no_network(self) -> None:
        for name, why in {
            "a/..": "check the path or the id",
            "a/b--c": "check the path or the id",
            "someone/model-that-is-not-there": "there is no local copy; check the path or the network",
        }.items():
            with pytest.raises(ModelFolderError, match=f"the download failed: .*{why}") as caught:
                ModelFolder.open(name)
            assert "\n" not in str(caught.value)

    def test_push_uploads_what_the_manifest_lists(self, model_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: dict[str, Any] = {}

        class Api:
            def __init__(self, token: str | None) -> None:
                calls["token"] = token

            def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
                calls["repo"] = repo_id, private, exist_ok
                return f"https://hub/{repo_id}"

            def upload_folder(self, **options: Any) -> None:
                calls["upload"] = options

        monkeypatch.setattr("huggingface_hub.HfApi", Api)
        (model_copy / "notes.txt").write_text("not part of the model")
        folder = ModelFolder.open(model_copy)
        assert folder.push("me/model", private=True, token="t") == "https://hub/me/model"
        assert calls["token"] == "t"
        assert calls["repo"] == ("me/model", True, True)
        assert calls["upload"]["folder_path"] == str(model_copy)
        assert set(calls["upload"]["allow_patterns"]) == set(digests(model_copy)) - {"notes.txt"}
        assert calls["upload"]["delete_patterns"] == ["adapters/*", "knowledge/*"]

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("401\nUnauthorized")

        monkeypatch.setattr(Api, "upload_folder", fail)
        with pytest.raises(ModelFolderError, match="could not upload to 'me/model': 401 Unauthorized"):
            folder.push("me/model", private=True, token=None)
        (model_copy / "retrieveall.yaml").write_text("altered")
        with pytest.raises(ModelFolderError, match=r"retrieveall\.yaml"):
            folder.push("me/model", private=True, token=None)


class TestCopy:
    def test_a_copy_is_the_same_model(
        self, loaded: RetrieveAll, tiny_model: Path, tmp_path: Path, mixed_texts: list[str]
    ) -> None:
        loaded.save_pretrained(tmp_path / "new" / "copy")
        assert digests(tmp_path / "new" / "copy") == digests(tiny_model)
        assert open_model(tmp_path / "new" / "copy").predict(mixed_texts) == loaded.predict(mixed_texts)

    def test_only_to_where_nothing_is(self, loaded: RetrieveAll, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        for target in (tmp_path, tmp_path / "file"):
            with pytest.raises(ModelFolderError, match="new or empty folder"):
                loaded.save_pretrained(target)
        assert digests(tmp_path) == {"file": hashlib.sha256(b"x").hexdigest()}

    def test_damage_is_not_copied_and_vouched_for(self, model_copy: Path, tmp_path: Path) -> None:
        folder = ModelFolder.open(model_copy)
        path = model_copy / "knowledge" / "zh" / "sentences.parquet"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.raises(ModelFolderError, match=r"zh/sentences\.parquet"):
            folder.copy_to(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_files_beside_the_model_stay_behind(self, model_copy: Path, tmp_path: Path, tiny_model: Path) -> None:
        (model_copy / "secret.txt").write_text("x")
        ModelFolder.open(model_copy).copy_to(tmp_path / "copy")
        assert digests(tmp_path / "copy") == digests(tiny_model)


class TestRemoveLanguage:
    def test_other_files_and_other_predictions_stay(
        self, loaded: RetrieveAll, model_copy: Path, mixed_texts: list[str], without_scores: Plain
    ) -> None:
        before = digests(model_copy)
        ModelFolder.open(model_copy).remove_language("en")
        after = digests(model_copy)
        gone = {name for name in before if name.split("/")[:2] in (["adapters", "en"], ["knowledge", "en"])}
        assert len(gone) > 5
        assert set(after) == set(before) - gone
        assert {name for name in after if after[name] != before[name]} == {"manifest.json"}
        folder = ModelFolder.open(model_copy)  # checks every file against the new manifest
        assert folder.languages() == folder.knowledge().languages == ("de", "zh")

        # With the language fixed, and none of the removed language's sentences among what was retrieved.
        model = open_model(model_copy)
        texts = ["昨天王小明上了报纸。", "参见北京大学", "（李白）没有来！"]
        for old, new in zip(loaded.predict(texts, language="zh"), model.predict(texts, language="zh"), strict=True):
            assert old.entities == new.entities
        with pytest.raises(LanguageError, match="de, zh"):
            model.predict(texts, language="en")
        assert not any("en" in each.route.votes for each in model.predict(mixed_texts))

    @pytest.mark.parametrize("language", ["fr", "", "..", "../backbone", "encoder", "de/../en", "x" * 10_000])
    def test_what_is_not_there_is_one_line_and_changes_nothing(self, model_copy: Path, language: str) -> None:
        before = digests(model_copy)
        with pytest.raises(LanguageError, match="de, en, zh") as caught:
            ModelFolder.open(model_copy).remove_language(language)
        assert len(str(caught.value)) < 300
        assert digests(model_copy) == before

    def test_the_last_language(self, model_copy: Path) -> None:
        folder = ModelFolder.open(model_copy)
        for language in ("de", "en", "zh"):
            folder.remove_language(language)
        assert ModelFolder.open(model_copy).languages() == ()
        with pytest.raises(ModelFolderError, match="no language; add one with: retrieveall add-language") as caught:
            open_model(model_copy)
        assert str(model_copy) in str(caught.value)
        [prediction] = open_model(model_copy, allow_no_adapters=True).predict("Karl May in London")
        assert prediction.route.adapters == {}
        assert prediction.route.reason == "fallback"
        assert prediction.knowledge.neighbours == ()


class TestWithoutAdapters:
    """A training that was stopped leaves settings and knowledge. Opened by mistake, its answers would be noise."""

    @pytest.fixture
    def stopped(self, model_copy: Path) -> Path:
        with Transaction(model_copy) as transaction:
            transaction.delete("adapters")
        return model_copy

    def test_is_refused_with_the_command_that_goes_on(self, stopped: Path) -> None:
        with pytest.raises(ModelFolderError, match=f"did not finish.*retrieveall train DATA --out {stopped}") as caught:
            open_model(stopped)
        assert "allow_no_adapters=True" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("command", [["extract", "Ada"], ["evaluate", "DATA"], ["serve", "MODEL"]])
    def test_by_every_command_that_predicts(self, stopped: Path, tmp_path: Path, command: list[str]) -> None:
        from typer.testing import CliRunner

        from retrieveall.cli.app import app

        (tmp_path / "de").mkdir()
        (tmp_path / "de" / "test.tsv").write_text("Ada\tB-PER\nkam\tO\n", encoding="utf-8")
        given = [str({"DATA": tmp_path, "MODEL": stopped}.get(each, each)) for each in command]
        if "MODEL" not in command:
            given += ["--model", str(stopped)]
        result = CliRunner().invoke(app, given)
        assert result.exit_code == 1, result.output
        assert f"retrieveall train DATA --out {stopped}" in result.stderr
        assert len(result.stderr.splitlines()) == 1

    def test_on_purpose(self, stopped: Path) -> None:
        import pickle

        model = open_model(stopped, allow_no_adapters=True)
        assert model.predict("Karl May in London")[0].route.adapters == {}
        assert pickle.loads(pickle.dumps(model)).languages == ()

    def test_a_language_can_be_added(self, stopped: Path, corpus: dict[str, list[Any]], tmp_path: Path) -> None:
        """To an empty model, but not one whose sentences wait for their adapter."""
        from retrieveall.config import TrainingConfig
        from retrieveall.training.run import LanguageData, add_language

        def add() -> None:
            data = LanguageData(corpus["de"])
            add_language(stopped, "de", data, TrainingConfig(steps=1), tmp_path / "run", device="cpu", show_bar=False)

        with pytest.raises(LanguageError, match="training did not finish"):
            add()
        for language in ("de", "en", "zh"):
            ModelFolder.open(stopped).remove_language(language)
        add()
        assert open_model(stopped).languages == ("de",)


class TestReload:
    """A running process sees what was added, removed or replaced in its folder."""

    def test_a_removed_language(self, model_copy: Path) -> None:
        model = open_model(model_copy)
        model.predict(["Karl May"], language="de")
        ModelFolder.open(model_copy).remove_language("de")
        model.reload()
        assert model.languages == ("en", "zh")
        with pytest.raises(LanguageError):
            model.predict(["Karl May"], language="de")
        [prediction] = model.predict(["Karl May"])
        assert "de" not in prediction.route.adapters
        assert not any(neighbour.language == "de" for neighbour in prediction.knowledge.neighbours)

    def test_a_replaced_adapter(self, model_copy: Path, mixed_texts: list[str], without_scores: Plain) -> None:
        """F7: the same name, other weights; nothing stale."""
        model = open_model(model_copy)
        before = model.predict(mixed_texts, language="de")
        with Transaction(model_copy) as transaction:
            target = transaction.replace_folder("adapters/de")
            for path in (model_copy / "adapters" / "zh").iterdir():
                shutil.copyfile(path, target / path.name)
        model.reload()
        after = model.predict(mixed_texts, language="de")
        chinese = model.predict(mixed_texts, language="zh")
        for old, new, other in zip(before, after, chinese, strict=True):
            assert new.entities == other.entities
            assert new.text == old.text
        assert any(old.entities != new.entities for old, new in zip(before, after, strict=True))

    def test_an_adapter_of_another_backbone(
        self, model_copy: Path, build_model: Callable[..., Path], tmp_path: Path, without_scores: Plain
    ) -> None:
        """It is refused by name, and the others keep working."""
        model = open_model(model_copy)
        expected = model.predict(["Karl May in London"], language="en")
        other = build_model(tmp_path / "other", seed=1)
        with Transaction(model_copy) as transaction:
            target = transaction.replace_folder("adapters/de")
            for path in (other / "adapters" / "de").iterdir():
                shutil.copyfile(path, target / path.name)
        model.reload()
        with pytest.raises(AdapterError, match=r"'de' was trained on the backbone .*train it"):
            model.predict(["Karl May in London"], language="de")
        assert model.predict(["Karl May in London"], language="en") == expected


def test_the_model_that_is_not_in_the_wheel_says_where_it_is(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("retrieveall.model_folder.shipped_models", lambda: {"base": tiny_model})
    with pytest.raises(ModelFolderError, match=r"got 'mini'; it is not in the wheel.*pip install -e \."):
        ModelFolder.open("mini")
    with pytest.raises(ModelFolderError, match="got 'mimi'; check the path"):
        ModelFolder.open("mimi")
