"""Every shipped benchmark loads; the cells that settings ask for, and what their keys depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retrieveall.benchmark import BenchmarkConfig, load_benchmark
from retrieveall.benchmark.cells import Cell, cells_of, settings_of
from retrieveall.benchmark.corpora import Corpus, Gold, read_corpora
from retrieveall.config import LabelConfig, parse_config
from retrieveall.errors import ConfigError
from retrieveall.types import Entity, Sentence

CONFIGS = Path(__file__).parents[2] / "benchmarks" / "configs"
LABELS = (LabelConfig(name="PER"),)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_benchmarks_can_be_planned(path: Path, tmp_path: Path) -> None:
    """Settings, presets, training settings of each method and seed: all that is checked before anything runs."""
    config = load_benchmark(path)
    assert config.name == path.stem
    assert cells_of(config, _corpora(config.data.languages), LABELS)
    methods = {method.kind for method in config.methods}
    for method in config.methods:
        if method.kind == "retrieveall":
            assert config.model_settings(method) is not None
    assert "retrieveall" in methods


def _corpora(languages: tuple[str, ...], sentences: int = 5) -> dict[str, Corpus]:
    return {
        language: Corpus(
            language,
            [
                Sentence(f"Ada {n} {language}", (Entity(0, 3, "PER", "Ada"),), language, str(n))
                for n in range(sentences)
            ],
            [],
            [Gold(Sentence("Ada", (Entity(0, 3, "PER", "Ada"),), language, "t"), (True,))],
        )
        for language in languages
    }


def _config(*methods: dict[str, Any], **settings: Any) -> BenchmarkConfig:
    raw = {
        "name": "x",
        "data": {"path": "x", "languages": ["de", "en", "ja"], "train": 4} | settings.pop("data", {}),
        "backbone": "owner/model",
        "methods": [{"name": f"m{number}", **method} for number, method in enumerate(methods)],
    }
    return parse_config(BenchmarkConfig, raw | settings, "x")


def _cells(*methods: dict[str, Any], **settings: Any) -> list[Cell]:
    config = _config(*methods, **settings)
    return cells_of(config, _corpora(config.data.languages), LABELS)


def test_a_joint_method_has_one_cell_and_others_one_a_language() -> None:
    joint, *single = _cells({"kind": "unmasked_lm"}, {"kind": "crf"}, {"kind": "unmasked_lm", "adapters": "own"})
    assert joint.languages == ("de", "en", "ja")
    assert [cell.languages for cell in single] == [("de",), ("en",), ("ja",)] * 2


def test_seeds_of_a_method_take_the_place_of_the_common_ones() -> None:
    cells = _cells({"kind": "unmasked_lm", "seeds": [1, 2]}, {"kind": "unmasked_lm", "languages": ["de"]}, seeds=[7])
    assert [(cell.seed, cell.languages) for cell in cells] == [
        (1, ("de", "en", "ja")),
        (2, ("de", "en", "ja")),
        (7, ("de",)),
    ]


def test_sets_and_sizes_are_combined_without_repeats() -> None:
    config = _config(
        {"kind": "unmasked_lm"}, sets=["all", "grow", "alone"], sizes=[2], small=["ja"], data={"train": {"default": 4}}
    )
    found = [(each.languages, each.sizes[each.languages[-1]]) for each in settings_of(config)]
    assert found == [
        (("de", "en", "ja"), 4),
        (("de", "en", "ja"), 2),
        (("de",), 4),
        (("de", "en"), 4),
        (("en",), 4),
        (("ja",), 4),
        (("ja",), 2),
    ]


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"method": {"k": 3}}, {"training": False}),
    ({"method": {"routing": "top1"}}, {"training": False}),
    ({"method": {"levels": "entity"}}, {"training": False}),
    ({"method": {"train_levels": "entity"}}, {"training": True}),
    ({"method": {"adapters": "shared"}}, {"training": True}),
    ({"method": {"examples": "random"}}, {"training": True}),
    ({"method": {"training": {"epochs": 9}}}, {"training": True}),
    ({"seeds": [5]}, {"training": True}),
    ({"backbone": "owner/other"}, {"training": True}),
    ({"dtype": "bfloat16"}, {"training": True}),
    ({"at_least": 10}, {"training": True}),
    ({"training": {"epochs": 9}}, {"training": True}),
    ({"preset": "qwen2.5-7b"}, {"training": True}),
    ({"data": {"train": 3}}, {"training": True}),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=lambda value: str(value))
def test_a_key_changes_with_what_the_result_depends_on(change: dict[str, Any], expected: dict[str, Any]) -> None:
    def cell(method: dict[str, Any] | None = None, **settings: Any) -> Cell:
        (found,) = _cells({"kind": "retrieveall", "train_k": 2, **(method or {})}, **settings)
        return found

    before, after = cell(), cell(**change)
    assert before.key != after.key
    assert (before.training_key != after.training_key) is expected["training"]


def test_a_key_does_not_change_with_names_and_threads() -> None:
    (before,) = _cells({"kind": "unmasked_lm"})
    (after,) = _cells({"kind": "unmasked_lm", "name": "other"}, name="y", threads=2, keep_models=True)
    assert (before.key, before.training_key) == (after.key, after.training_key)


def test_a_local_backbone_is_known_by_its_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"x")
    (one,), (two,) = (_cells({"kind": "unmasked_lm"}, backbone=str(tmp_path / name)) for name in ("one", "two"))
    assert one.key == two.key
    (tmp_path / "two" / "model.safetensors").write_bytes(b"y")
    from retrieveall.benchmark.cells import backbone_fingerprint

    backbone_fingerprint.cache_clear()
    (changed,) = _cells({"kind": "unmasked_lm"}, backbone=str(tmp_path / "two"))
    assert changed.key != one.key


def test_smaller_training_sets_are_parts_of_larger_ones(corpus_folder: Path) -> None:
    config = _config({"kind": "crf"}, data={"path": str(corpus_folder), "languages": ["de"], "train": 4, "test": 2})
    (small,) = read_corpora(config.data)
    (large,) = read_corpora(config.data, [9])
    assert list(large.first(4).train) == list(small.train)
    assert (len(large.train), len(small.test)) == (9, 2)


def test_a_corpus_without_test_labels_is_tested_on_its_validation_split(corpus_folder: Path) -> None:
    data = {"path": str(corpus_folder), "languages": ["de"], "test_split": "validation", "train": None}
    (corpus,) = read_corpora(_config({"kind": "crf"}, data=data).data)
    assert (len(corpus.test), len(corpus.validation)) == (3, 0)


@pytest.mark.parametrize(("train", "knowledge", "expected"), [(4, None, 4), (4, 7, 7), (4, "all", 12), (7, 4, 7)])
def test_knowledge_holds_the_training_sentences_first(
    corpus_folder: Path, train: int, knowledge: int | str | None, expected: int
) -> None:
    data = {"path": str(corpus_folder), "languages": ["de"], "train": train, "knowledge": knowledge}
    (corpus,) = read_corpora(_config({"kind": "crf"}, data=data).data)
    assert (len(corpus.train), len(corpus.knowledge)) == (train, expected)
    assert corpus.knowledge[:train] == list(corpus.train)
    assert len({each.id for each in corpus.knowledge}) == expected
    assert len(corpus.first(2).knowledge) == len(corpus.more_knowledge or [1, 2])


def test_more_knowledge_makes_another_cell() -> None:
    corpora = _corpora(("de",))
    more = {"de": replace(corpora["de"].first(2), more_knowledge=corpora["de"].train)}
    config = _config({"kind": "retrieveall"}, data={"languages": ["de"], "train": 2})
    (without,), (with_more,) = cells_of(config, corpora, LABELS), cells_of(config, more, LABELS)
    assert without.sizes == with_more.sizes
    assert without.key != with_more.key


@pytest.mark.parametrize("key", ["methods.0.depth", "methods.9.k", "data.size", "training.epoch"])
def test_wrong_overrides_are_refused(key: str) -> None:
    with pytest.raises(ConfigError):
        cells_of(load_benchmark(CONFIGS / "smoke.yaml", {key: 3}), _corpora(("de", "en")), LABELS)
