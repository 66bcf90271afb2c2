"""Hub data sets through the real loading path of ``datasets``, from a folder of Parquet tables."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from retrieveall.data import read_corpus, read_hub
from retrieveall.errors import DataError, MissingExtraError
from retrieveall.types import Entity, Sentence

datasets = pytest.importorskip("datasets")
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of two configurations, laid out as on the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    root = tmp_path / "data"
    rows = {
        "de": [(["Angela", "Merkel", "in", "Köln"], [1, 2, 0, 3]), (["Bonn"], [3])],
        "PAN-X.ja": [(["東", "京", "#", "駅"], [3, 4, 0, 4])],
    }
    for name, items in rows.items():
        features = datasets.Features(
            {
                "tokens": datasets.Sequence(datasets.Value("string")),
                "ner_tags": datasets.Sequence(datasets.ClassLabel(names=TAGS)),
                "langs": datasets.Sequence(datasets.Value("string")),
            }
        )
        columns = {
            "tokens": [words for words, _ in items],
            "ner_tags": [tags for _, tags in items],
            "langs": [[name] * len(words) for words, _ in items],
        }
        (root / name).mkdir(parents=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(root / name / "train.parquet")
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train.parquet\n" for name in rows
    )
    (root / "README.md").write_text(f"---\nconfigs:\n{configs}---\n", encoding="utf-8")
    return root


def test_numbers_become_the_names_of_their_classes(folder: Path) -> None:
    assert list(read_hub(str(folder), "de", "train")) == [
        Sentence(
            "Angela Merkel in Köln",
            (Entity(0, 13, "PER", "Angela Merkel"), Entity(17, 21, "LOC", "Köln")),
            "de",
            "de-train-1",
        ),
        Sentence("Bonn", (Entity(0, 4, "LOC", "Bonn"),), "de", "de-train-2"),
    ]


def test_the_language_comes_from_the_configuration(folder: Path) -> None:
    [sentence] = read_hub(str(folder), "PAN-X.ja", "train")
    assert (sentence.text, sentence.language) == ("東京 駅", "ja")
    assert sentence.entities == (Entity(0, 2, "LOC", "東京"), Entity(3, 4, "LOC", "駅"))


@pytest.mark.parametrize(("configuration", "split"), [("fr", "train"), ("de", "test")])
def test_what_is_not_there_is_one_error(folder: Path, configuration: str, split: str) -> None:
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        read_hub(str(folder), configuration, split)
    assert "\n" not in str(caught.value)


def test_a_table_without_tags_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "data" / "train.parquet")
    with pytest.raises(DataError, match="expected a column tokens or words and a column ner_tags"):
        read_hub(str(tmp_path / "data"))


def test_without_the_package_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'retrieveall\[datasets\]'"):
        read_corpus("hf://unimelb-nlp/wikiann/de?split=train")


def test_the_retries_of_the_client_are_told_once_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = logging.getLogger("huggingface_hub.utils._http")
    before = list(client.filters)

    def load(*_: object, **__: object) -> object:
        for attempt in range(1, 6):
            client.warning("'%s' thrown while requesting HEAD https://...", "no network")
            client.warning(f"Retrying in 1s [Retry {attempt}/5].")
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"wikiann/de: the split 'train' cannot be loaded: no network; check the names"):
        read_corpus("hf://unimelb-nlp/wikiann/de")
    assert caplog.messages == ["the Hugging Face hub is not reachable; retrying for up to half a minute"]
    assert client.filters == before


def test_a_spec_names_data_set_configuration_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []

    def load(name: str, configuration: str | None, *, split: str, revision: str | None) -> object:
        seen.append((name, configuration, split, revision))
        raise ValueError("stop")

    monkeypatch.setattr(datasets, "load_dataset", load)
    for spec in ("hf://google/xtreme/PAN-X.de?split=validation", "hf://tner/conll2003"):
        with pytest.raises(DataError, match="stop"):
            read_corpus(spec)
    assert seen == [
        ("google/xtreme", "PAN-X.de", "validation", None),
        ("tner/conll2003", None, "train", None),
    ]
