"""Token classification: pieces, batches, what the model sees, and answers of PromptNER that are read leniently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from retrieveall.benchmark.methods.base import Job, repeated
from retrieveall.benchmark.methods.classifier import ClassifierRunner, TagBatches, split_words
from retrieveall.benchmark.methods.promptner import choose_examples, read_free
from retrieveall.benchmark.settings import UnmaskedLmMethod
from retrieveall.config import BackboneConfig, LabelConfig, TrainingConfig
from retrieveall.data import segment
from retrieveall.types import Entity, Sentence
from tiny import codec_of

LABELS = ("PER", "ORG", "LOC")


@pytest.fixture(scope="module")
def runner(causal_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ClassifierRunner:
    job = Job(
        method=UnmaskedLmMethod(name="x", kind="unmasked_lm", max_tokens=16),
        corpora={},
        labels=tuple(LabelConfig(name=name) for name in LABELS),
        seed=1,
        folder=tmp_path_factory.mktemp("job"),
        backbone=BackboneConfig(path=str(causal_folder)),
        training=TrainingConfig(batch_size=2),
        device="cpu",
    )
    return ClassifierRunner(job)


def _logits(module: Any, runner: ClassifierRunner, text: str) -> torch.Tensor:
    from retrieveall.benchmark.methods.classifier import collate

    words = segment(text)
    pieces = split_words(runner._codec, words, [0] * len(words), 100)
    with torch.inference_mode():
        return module(**collate(pieces, 0))["logits"]


def test_the_first_word_sees_the_last_one(runner: ClassifierRunner) -> None:
    """LS-unLLaMA's point. With the causal mask in its place the first word would not."""
    module = runner._make(training=False).eval()
    one, other = (_logits(module, runner, f"Anna sah {name}") for name in ("Köln", "Ada"))
    assert not torch.allclose(one[0], other[0])
    module.full_attention = False
    one, other = (_logits(module, runner, f"Anna sah {name}") for name in ("Köln", "Ada"))
    assert torch.allclose(one[0], other[0])


def test_padding_changes_nothing(runner: ClassifierRunner) -> None:
    from retrieveall.benchmark.methods.classifier import collate

    module = runner._make(training=False).eval()
    texts = ["Anna", "Karl May wurde gestern in Köln erwähnt"]
    pieces = [split_words(runner._codec, segment(text), [0] * 9, 100)[0] for text in texts]
    with torch.inference_mode():
        together = module(**collate(pieces, 0))["logits"]
    apart = torch.cat([_logits(module, runner, text) for text in texts])
    assert torch.allclose(together, apart, atol=1e-5)


def test_only_adapters_and_the_head_are_trained(runner: ClassifierRunner) -> None:
    module = runner._make(training=True)
    trained = {name for name, each in module.named_parameters() if each.requires_grad}
    assert all("lora_" in name or name.startswith("head.") for name in trained)
    assert any("lora_" in name for name in trained)


@pytest.mark.parametrize("most", [8, 16, 64])
def test_pieces_hold_every_word_once_and_fit(tiny_tokenizer: Any, most: int) -> None:
    words = segment("Karl May wurde gestern in der Zeitung von Bad Homburg erwähnt , sagt Anna Meier .")
    tags = list(range(len(words)))
    pieces = split_words(codec_of(tiny_tokenizer), words, tags, most)
    assert [tag for piece in pieces for tag in piece.tags] == tags
    assert all(len(piece.ids) <= most and len(piece.reads) == len(piece.tags) for piece in pieces)
    assert [piece.first for piece in pieces] == [piece.tags[0] for piece in pieces]


def test_batches_of_an_epoch_hold_each_sentence_once(tiny_tokenizer: Any) -> None:
    codec = codec_of(tiny_tokenizer)
    pieces = [split_words(codec, segment(f"Anna {number}"), [number, 0], 64)[0] for number in range(7)]
    batches = TagBatches(pieces, TrainingConfig(batch_size=3, epochs=2), 0)
    seen = [sorted(x for i in range(3) for x in batches[3 * epoch + i]["labels"].tolist()) for epoch in (0, 1)]
    assert len(batches) == 6
    assert seen[0] == seen[1] == sorted([*range(7), *[0] * 7])
    again = TagBatches(pieces, TrainingConfig(batch_size=3, epochs=2), 0)
    assert torch.equal(again[4]["ids"], batches[4]["ids"])  # after a restart, in the middle of the second epoch


def test_small_languages_are_repeated_whole() -> None:
    sentences = [Sentence("a"), Sentence("b")]
    assert len(repeated(sentences, 5)) == 4
    assert repeated(sentences, 0) == sentences
    assert repeated([], 5) == []


TEXT = "Ada Lovelace met Karl May in London . London was cold ."
ANSWERS = [
    ("1. Ada Lovelace | True | a person (PER)\n2. London | True | a place (LOC)", [(0, 12, "PER"), (29, 35, "LOC")]),
    ("London | LOC\nLondon | LOC", [(29, 35, "LOC"), (38, 44, "LOC")]),
    ("- London | false | as it is cold (LOC)", []),
    ("* karl may | True | per", []),  # not as it stands in the text
    ("* Karl May | yes | per", [(17, 25, "PER")]),
    ("Karl May", []),
    ("Karl May | True | as it is somebody", []),
    ("Paris | True | (LOC)", []),
    ("London | True | not ORG but (LOC)", [(29, 35, "LOC")]),
    ("London | True | (LOC)\nText: Karl May\nKarl May | True | (PER)", [(29, 35, "LOC")]),
    ("", []),
    ("| True | (LOC)\n|||\n1.", []),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "spans"), ANSWERS)
def test_free_answers_are_read_leniently(answer: str, spans: list[tuple[int, int, str]]) -> None:
    assert read_free(answer, TEXT, LABELS) == spans


def test_examples_show_every_label_first() -> None:
    sentences = [Sentence(f"x {n}", (Entity(0, 1, "PER", "x"),)) for n in range(20)]
    sentences += [Sentence("y", (Entity(0, 1, "LOC", "y"),)), Sentence("z", (Entity(0, 1, "ORG", "z"),))]
    chosen = choose_examples(sentences, 4, 3)
    assert {entity.label for each in chosen[:3] for entity in each.entities} == set(LABELS)
    assert len(chosen) == len(set(chosen)) == 4
    assert choose_examples(sentences, 4, 3) == chosen
    assert choose_examples(sentences, 0, 3) == []
