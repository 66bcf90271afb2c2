"""The recipe of base in small, through the same code as the whole of it."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from base_fixtures import save_encoder
from safetensors.torch import load_file

from recipes.base.recipe import Settings, model
from recipes.build import HERE, main
from recipes.mini.sentences import read_sentences
from recipes.settings import read_settings
from recipes.steps import Step, all_steps, build
from retrieveall import RetrieveAll
from retrieveall.adapters import AdapterPool
from retrieveall.config import ModelConfig, load_yaml
from retrieveall.engines.local.packed import PACKED, read_packed
from retrieveall.knowledge import KnowledgeBase
from retrieveall.model_folder import SETTINGS

LANGUAGES = ("de", "en", "ja")
TABLE = "embeddings.word_embeddings.weight"
SELDOM = "weight_average: 0, checkpoint_minutes: 60, validation_sentences: 5"
CHANGES = [
    "languages=[en,de,ja]",
    "backbone={pieces: 1000, tags: 13}",
    "corpora={panx: {others: 30}, running: 20, of: {de/news: 8}, validation: 8}",
    "negatives={sentences: 40, held_out: 5}",
    f"tuning={{steps: 150, batch_size: 4, row_length: 160, learning_rate: 0.003, {SELDOM}}}",
    "plain_text={languages: [de], sentences: 6, most_read: 12, least: 0.0, without_names: 1.0}",
    "retrieving_corpora={panx: {others: 24}, running: 10, validation: 8}",
    f"tuning_with_knowledge={{steps: 20, batch_size: 4, learning_rate: 0.001, frozen_layers: 1, {SELDOM}}}",
    f"adapters={{steps: 60, batch_size: 4, learning_rate: 0.005, calibration_sentences: 5, {SELDOM}}}",
]


@dataclass(frozen=True)
class Build:
    """A finished build, and the command line that asks for it."""

    out: Path
    arguments: Namespace

    @property
    def last(self) -> Step:
        settings = read_settings(Settings, HERE / "base" / "recipe.yaml", small=True, changes=CHANGES)
        return model(settings, self.arguments)

    def folder(self, name: str) -> Path:
        (found,) = (step.folder(self.out) for step in all_steps(self.last) if step.name == name)
        return found

    def sentences(self, step: str, kind: str, language: str) -> list[Any]:
        return list(read_sentences(self.folder(step) / kind / f"{language}.jsonl"))

    def command(self, *more: str) -> list[str]:
        where = [part for name, path in vars(self.arguments).items() if path for part in (f"--{name}", str(path))]
        changes = [argument for change in CHANGES for argument in ("--set", change)]
        return ["base", *where, "--out", str(self.out), "--small", *changes, *more]


@pytest.fixture(scope="module")
def built(small_corpora: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """All steps of a small build, by its command: as running text, the corpora of PAN-X under another name."""
    panx, lmtext = small_corpora
    home = tmp_path_factory.mktemp("base")
    for language in ("de", "en"):
        news = home / "running" / language / "news"
        news.mkdir(parents=True)
        for split in ("train", "validation"):
            text = (panx / language / f"{split}.tsv").read_text(encoding="utf-8")
            (news / f"{split}.tsv").write_text(text.replace(" .", " ,"), encoding="utf-8")
    texts = [(panx / language / "train.tsv").read_text(encoding="utf-8") for language in LANGUAGES]
    counts = Counter(line.split("\t")[0] for text in texts for line in text.splitlines() if line)
    letters = {letter for text in texts for letter in text} | set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:"
    )
    encoder = save_encoder(home / "encoder", [word for word, _ in counts.most_common()], letters - set("\t\n"))
    arguments = Namespace(
        panx=panx, running=home / "running", lmtext=lmtext, backbone=str(encoder), tuned=None, device="cpu"
    )
    found = Build(home / "out", arguments)
    main(found.command())
    return found


def test_training_sentences_are_of_all_kinds_and_have_their_ids(built: Build) -> None:
    for language in LANGUAGES:
        for step in ("sentences", "retrieving-sentences"):
            train = built.sentences(step, "train", language)
            assert all(s.text[e.start : e.end] == e.text for s in train for e in s.entities)
            kinds = Counter(sentence.id.split(":")[0] for sentence in train)
            assert {"panx", "template", "list", "phrase"} <= set(kinds)
            assert ("plain-text" in kinds) == (step == "retrieving-sentences" and language == "de")
            pool = {sentence.id for sentence in built.sentences(step, "pool", language)}
            named = {sentence.id for sentence in train if sentence.id.split(":")[0] in ("panx", f"{language}/news")}
            assert named <= pool, "retrieval must not show them to themselves"
            assert len(pool) == (120 if language == "ja" else 240)
            assert len(built.sentences(step, "validation", language)) == (8 if language == "ja" else 16)
    kinds = Counter(sentence.id.split(":")[0] for sentence in built.sentences("sentences", "train", "de"))
    assert (kinds["panx"], kinds["de/news"]) == (30, 8)


def test_tuning_leaves_the_embeddings_as_they_were_cut(built: Build) -> None:
    cut = load_file(built.folder("backbone") / "backbone" / "model.safetensors")
    tuned = load_file(built.folder("tuning") / "model" / "backbone" / "model.safetensors")
    assert torch.equal(tuned[TABLE], cut[TABLE])
    assert [name for name in tuned if torch.equal(tuned[name], cut[name])] == [TABLE]


def test_a_build_goes_on_from_a_shipped_backbone(built: Build, tmp_path: Path) -> None:
    shipped = built.folder("model") / "model" / "backbone"
    arguments = Namespace(**{**vars(built.arguments), "tuned": shipped})
    steps = {step.name: step for step in all_steps(Build(tmp_path, arguments).last)}
    assert "tuning" not in steps
    assert "backbone" not in steps
    assert steps["tuning-with-knowledge"].key != built.folder("tuning-with-knowledge").name.rsplit("-", 1)[1]
    build(steps["given"], tmp_path)
    given = steps["given"].folder(tmp_path) / "model" / "backbone"
    weights, packed = load_file(given / "model.safetensors"), read_packed(shipped)
    assert weights.keys() == packed.keys()
    assert all(torch.equal(weights[name], packed[name]) for name in packed)
    assert (given / "tokenizer.json").read_bytes() == (shipped / "tokenizer.json").read_bytes()


def test_the_device_is_no_part_of_a_steps_key(built: Build) -> None:
    there = Build(built.out, Namespace(**{**vars(built.arguments), "device": "cuda"}))
    assert there.last.key == built.last.key
    assert there.last.run.keywords == {"device": "cuda"}  # type: ignore[attr-defined]


def test_the_second_tuning_goes_on_from_the_first_above_its_frozen_layers(built: Build) -> None:
    first, second = (
        load_file(built.folder(name) / "model" / "backbone" / "model.safetensors")
        for name in ("tuning", "tuning-with-knowledge")
    )
    kept = {name for name in second if torch.equal(second[name], first[name])}
    assert kept == {name for name in second if name.startswith(("embeddings.", "encoder.layer.0."))}
    assert all((second[name] - first[name]).abs().max() < 0.1 for name in second), "it starts where the first ended"
    config = load_yaml(ModelConfig, built.folder("tuning-with-knowledge") / "model" / SETTINGS)
    assert (config.prompt.entity_examples, config.prompt.without_adapter) == (10, True)


def test_what_is_retrieved_for_is_joined_with_no_names(built: Build) -> None:
    for language in LANGUAGES:
        own = {sentence.id: sentence for sentence in built.sentences("retrieving-sentences", "pool", language)}
        for sentence in built.sentences("retrieving-sentences", "train", language):
            if sentence.id in own:
                in_letter = 2  # greeting and signature
                assert len(sentence.entities) <= len(own[sentence.id].entities) + in_letter, sentence


def test_the_model_has_the_tuned_encoder_packed(built: Build) -> None:
    tuned = load_file(built.folder("tuning-with-knowledge") / "model" / "backbone" / "model.safetensors")
    backbone = built.folder("model") / "model" / "backbone"
    assert [path.name for path in backbone.glob("*.safetensors")] == [PACKED]
    final = read_packed(backbone)
    assert torch.equal(final[TABLE], tuned[TABLE]), "rounded when it was cut, and not once more"
    assert final.keys() == tuned.keys()
    for name, tensor in tuned.items():
        assert (final[name] - tensor).abs().max() <= 0.01 * tensor.abs().max()


def test_the_tuned_encoder_labels_plain_text(built: Build) -> None:
    found = read_sentences(built.folder("plain-text") / "de.jsonl")
    assert [sentence.id for sentence in found] == [f"plain-text:{number}" for number in range(6)]
    assert all(s.text[e.start : e.end] == e.text for s in found for e in s.entities)
    assert not (built.folder("plain-text") / "model").exists()
    assert not (built.folder("plain-text") / "en.jsonl").exists()


def test_the_model_opens_and_finds_names(built: Build) -> None:
    home = built.folder("model") / "model"
    found = RetrieveAll.from_pretrained(home, device="cpu")
    assert found.languages == LANGUAGES
    assert (found.config.name, found.config.windows.hangul) == ("retrieveall-base-small", "particles")
    assert type(found.engine.model).__name__ == "CompactBert"  # type: ignore[attr-defined]
    texts = [
        sentence.text for language in LANGUAGES for sentence in built.sentences("sentences", "validation", language)
    ]
    gold = [s.entities for language in LANGUAGES for s in built.sentences("sentences", "validation", language)]
    right = 0
    for text, entities, prediction in zip(texts, gold, found.predict(texts), strict=True):
        assert all(text[each.start : each.end] == each.text for each in prediction.entities)
        spans = {(each.start, each.end, each.label) for each in prediction.entities}
        right += len(spans & {(each.start, each.end, each.label) for each in entities})
    assert right > 10, "of 40; without training one or two"
    base = KnowledgeBase.open(home / "knowledge")
    assert [len(base.sentences(language)) for language in LANGUAGES] == [240, 240, 120]
    assert all(AdapterPool(home).card(language).data["sentences"] > 30 for language in LANGUAGES)


def test_a_second_build_does_nothing(built: Build, capsys: pytest.CaptureFixture[str]) -> None:
    times = {path: path.stat().st_mtime_ns for path in built.out.rglob("*")}
    main(built.command())
    assert "==" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in built.out.rglob("*")} == times


def test_other_settings_run_anew_from_where_they_differ(built: Build, capsys: pytest.CaptureFixture[str]) -> None:
    def to_do(change: str) -> set[str]:
        main(built.command("--plan", "--set", change))
        rows = [line.partition("  ") for line in capsys.readouterr().out.splitlines()]
        return {row.split()[0].rpartition("-")[0] for state, _, row in rows if state == "to do"}

    end = {"tuning-with-knowledge", "model"}
    assert to_do("adapters.learning_rate=0.02") == {"model"}
    assert to_do("tuning_with_knowledge.seed=1") == end
    assert to_do("retrieving_sentences.seed=1") == {"retrieving-sentences", *end}
    assert to_do("knowledge_dimension=16") == {"knowledge", *end}
    assert to_do("tuning.seed=1") == {"tuning", "plain-text", "retrieving-sentences", *end}
    assert to_do("backbone.seed=1") == {"backbone", "tuning", "plain-text", "retrieving-sentences", *end}


def test_trainings_run_in_all_processes(built: Build) -> None:
    parallel = {step.name for step in all_steps(built.last) if step.parallel}
    assert parallel == {"tuning", "tuning-with-knowledge", "model"}
    note = json.loads((built.folder("model") / "done.json").read_text())
    assert note["arguments"]["backbone"] == built.folder("tuning-with-knowledge").name
