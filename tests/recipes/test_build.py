"""The recipe of the shipped model in small, through the same code as the whole of it."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from recipes.build import HERE, main, plan
from recipes.mini.masked_words import MaskedWords
from recipes.mini.recipe import Settings, model
from recipes.mini.sentences import read_sentences
from recipes.mini.tokenizer import SPECIAL_TOKENS, open_tokenizer
from recipes.settings import read_settings
from recipes.steps import Step, all_steps, build, steps_to_run
from retrieveall import RetrieveAll
from retrieveall.adapters import AdapterPool
from retrieveall.decoders.calibration import UNCALIBRATED
from retrieveall.knowledge import KnowledgeBase
from retrieveall.training.loss import PredictionLoss

pytest.importorskip("gensim")

LANGUAGES = ("de", "en", "ja")
TRAININGS = ("masked-words", "tuning-1", "tuning-2", "taught-tuning", "model")
OFTEN = "checkpoint_minutes: 0.00001"  # after every step
ROUND = f"batch_size: 4, row_length: 160, learning_rate: 0.01, validation_sentences: 5, {OFTEN}"
CHANGES = [
    "languages=[en,de,ja]",
    "vectors.dimension=32",
    "tokenizer.size=500",
    "backbone={width: 32, inner: 48, layers: 2, heads: 2}",
    f"masked_words={{batch_size: 4, steps: 6, {OFTEN}}}",
    f"tuning=[{{steps: 10, context_examples: 1, {ROUND}}}, {{steps: 80, context_examples: 0, {ROUND}}}]",
    "teacher={sentences: 20, least: 0.5}",
    "taught_corpora={panx: {others: 100}, running: 30, validation: 40}",
    f"taught_tuning={{steps: 20, learning_rate: 0.003, batch_size: 4, validation_sentences: 5, {OFTEN}}}",
    f"adapters={{steps: 60, batch_size: 4, calibration_sentences: 40, learning_rate: 0.01, {OFTEN}}}",
]


@dataclass(frozen=True)
class Build:
    """A finished build, and the command line that asks for it."""

    out: Path
    corpora: tuple[Path, Path]
    teacher: Path
    running: Path

    @property
    def last(self) -> Step:
        return self.taught(None)

    def taught(self, backbone: Path | None) -> Step:
        settings = read_settings(Settings, HERE / "mini" / "recipe.yaml", small=True, changes=CHANGES)
        panx, lmtext = self.corpora
        where = {"panx": panx, "lmtext": lmtext, "running": self.running, "teacher": str(self.teacher)}
        return model(settings, Namespace(**where, backbone=backbone))

    def folder(self, name: str) -> Path:
        (found,) = (step.folder(self.out) for step in all_steps(self.last) if step.name == name)
        return found

    def command(self, *more: str) -> list[str]:
        panx, lmtext = map(str, self.corpora)
        changes = [argument for change in CHANGES for argument in ("--set", change)]
        where = ["--panx", panx, "--running", str(self.running), "--lmtext", lmtext, "--teacher", str(self.teacher)]
        return ["mini", *where, "--out", str(self.out), "--small", *changes, *more]


@pytest.fixture(scope="module")
def built(small_corpora: tuple[Path, Path], tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """All steps of a small build, by its command; its teacher is its own model before it is taught."""
    home = tmp_path_factory.mktemp("build")
    shutil.copytree(small_corpora[0] / "de", home / "running" / "de" / "news")
    untaught = Build(home / "out", small_corpora, tiny_model, home / "running")
    (tuned,) = (step for step in all_steps(untaught.last) if step.name == "tuning-2")
    build(tuned, untaught.out)
    shutil.copytree(tuned.folder(untaught.out) / "model", home / "teacher")
    found = replace(untaught, teacher=home / "teacher")
    main(found.command())
    return found


def digests(folder: Path) -> dict[str, bytes]:
    """Every file of a model but what tells when it was made."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_tokenizer_has_the_labels_and_every_special_token(built: Build) -> None:
    tokenizer = open_tokenizer(built.folder("tokenizer"))
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    assert all(len(tokenizer.encode(f" {label}").ids) == 1 for label in ("PER", "ORG", "LOC"))


def test_every_token_of_the_text_has_a_vector(built: Build) -> None:
    vectors = load_file(built.folder("vectors") / "vectors.safetensors")["vectors"]
    text = load_file(built.folder("text") / "text.safetensors")
    assert len(vectors) == open_tokenizer(built.folder("tokenizer")).get_vocab_size()
    assert text["offsets"][-1] == len(text["ids"])
    frequent = np.flatnonzero(np.bincount(text["ids"], minlength=len(vectors)) >= 10)
    assert len(frequent) > 20
    assert vectors[frequent].any(axis=1).all()


def test_plain_text_is_taken_with_and_without_names(built: Build) -> None:
    places = {"en": "London", "de": "Ulm", "ja": "パリ"}
    for language, place in places.items():
        named = read_sentences(built.folder("positives") / f"{language}.jsonl")
        assert {(e.text, e.label) for s in named for e in s.entities} <= {(place, "LOC"), (place.lower(), "LOC")}
        assert len(named) == 15
        held_out = read_sentences(built.folder("negatives") / "held-out" / f"{language}.jsonl")
        trained = read_sentences(built.folder("negatives") / f"{language}.jsonl")
        assert len(held_out) == 20 < len(trained)
        assert not any(place.lower() in s.text.lower() or s.entities for s in [*held_out, *trained])


def test_the_knowledge_is_that_of_all_languages(built: Build) -> None:
    base = KnowledgeBase.open(built.folder("knowledge"))
    assert base.languages == LANGUAGES
    assert [len(base.sentences(language)) for language in LANGUAGES] == [120] * 3
    assert base.encoder.dimension == 32


def test_it_is_taught_by_gold_sentences_and_by_the_teacher(built: Build) -> None:
    for language in LANGUAGES:
        labels = read_sentences(built.folder("labels") / f"{language}.jsonl")
        read = (built.folder("labels") / "read" / f"{language}.jsonl").read_text(encoding="utf-8")
        assert 0 < len(labels) <= read.count("\n") == 20
        train = read_sentences(built.folder("taught-sentences") / "train" / f"{language}.jsonl")
        kinds = Counter(sentence.id.split(":")[0] for sentence in train)
        assert (kinds["panx"], kinds["plain-text"]) == (100, len(labels))
        assert kinds["de/news"] == (30 if language == "de" else 0)
        assert {"template", "list", "phrase", "fragment"} <= set(kinds)


def test_a_given_backbone_is_taught_as_it_is(built: Build, tmp_path: Path) -> None:
    tuned = built.folder("tuning-2") / "backbone"
    (given,) = (step for step in all_steps(built.taught(tuned)) if step.name == "given")
    build(given, tmp_path)
    copied = given.folder(tmp_path) / "backbone"
    assert (copied / "model.safetensors").read_bytes() == (tuned / "model.safetensors").read_bytes()
    assert {step.name for step in all_steps(built.taught(tuned))} == {
        "given", "negatives", "labels", "taught-sentences", "taught-tuning", "mixed", "model"
    }  # fmt: skip


def test_the_adapters_are_on_weights_between_those_before_and_after(built: Build) -> None:
    before, after, mixed = (
        load_file(built.folder(name) / "backbone" / "model.safetensors")
        for name in ("tuning-2", "taught-tuning", "mixed")
    )
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    for name in before:
        assert np.allclose(mixed[name], 0.25 * before[name] + 0.75 * after[name], atol=1e-6)


def test_the_model_opens_and_finds_names(built: Build) -> None:
    found = RetrieveAll.from_pretrained(built.folder("model") / "model", device="cpu")
    assert found.languages == LANGUAGES
    assert found.config.name == "retrieveall-mini-small"
    (prediction,) = found.predict(["Karl May wurde gestern in der Zeitung erwähnt ."])
    assert [(entity.text, entity.label) for entity in prediction.entities] == [("Karl May", "PER")]


def test_adapters_are_calibrated_and_scored(built: Build) -> None:
    pool = AdapterPool(built.folder("model") / "model")
    for language in LANGUAGES:
        card = pool.card(language)
        assert card.alpha == 32
        assert card.calibration != UNCALIBRATED
        assert card.scores["validation_f1"] > 0.5
        assert card.data["sentences"] > 140, "PAN-X, plain text, what is made by rule"


def test_a_second_build_does_nothing(built: Build, capsys: pytest.CaptureFixture[str]) -> None:
    times = {path: path.stat().st_mtime_ns for path in built.out.rglob("*")}
    main(built.command())
    assert "==" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in built.out.rglob("*")} == times


def test_other_settings_train_anew_from_where_they_differ(built: Build, capsys: pytest.CaptureFixture[str]) -> None:
    def plan_with(change: str) -> dict[str, str]:
        """The state of each step, by name."""
        main(built.command("--plan", "--set", change))
        rows = [line.partition("  ") for line in capsys.readouterr().out.splitlines()]
        return {row.split()[0].rpartition("-")[0]: state for state, _, row in rows}

    states = plan_with("adapters.learning_rate=0.02")
    assert [name for name, state in states.items() if state == "to do"] == ["model"]
    assert list(states.values()).count("done") == len(states) - 1
    states = plan_with("masked_words.seed=1")
    assert [name for name, state in states.items() if state == "to do"] == [*TRAININGS[:-1], "mixed", "model"]


def test_the_plan_says_how_long_a_training_is(built: Build) -> None:
    lines = {line.split()[1]: line for line in plan(built.last, built.out).splitlines()}
    assert lines[built.folder("tuning-2").name].endswith(" 80 steps, 0.1 million tokens")
    assert lines[built.folder("model").name].endswith(" 60 steps, 0.0 million tokens")


class Killed(BaseException):
    """Nothing in between catches it."""


def test_a_build_that_is_killed_in_every_training_ends_with_the_same_model(
    built: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = replace(built, out=tmp_path)
    for step in all_steps(again.last):
        if step.name not in (*TRAININGS, "mixed"):
            shutil.copytree(step.folder(built.out), step.folder(again.out))
    calls: dict[str, int] = {}

    def kill_after(kind: Any, batches: int) -> None:
        forward = kind.forward

        def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
            name = steps_to_run(again.last, again.out)[0].name
            calls[name] = calls.get(name, 0) + 1
            if calls[name] == batches:
                raise Killed
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(kind, "forward", counted)

    kill_after(MaskedWords, 4)
    kill_after(PredictionLoss, 4)
    for name in TRAININGS:
        with pytest.raises(Killed):
            build(again.last, again.out)
        assert f"started     {name}-" in plan(again.last, again.out)
    build(again.last, again.out)
    # 4 batches until it is killed; the last of them comes once more.
    assert calls["masked-words"] == 6 + 1
    assert calls["tuning-1"] == 10 + 1
    assert not steps_to_run(again.last, again.out)
    first, second = (digests(each.folder("model") / "model") for each in (built, again))
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert calls["taught-tuning"] == 20 + 1
    note = json.loads((again.folder("tuning-2") / "done.json").read_text())
    assert note["arguments"]["backbone"] == again.folder("tuning-1").name
