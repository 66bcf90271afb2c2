"""Training examples: windows and prompts of inference; never the sentence itself, its duplicates, or its mentions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieveall.config import KnowledgeShares, ModelConfig
from retrieveall.decoders import Decoder, complete_config, make_decoder
from retrieveall.decoders.tagging import TagSet
from retrieveall.knowledge import KnowledgeBase
from retrieveall.stages import Stages
from retrieveall.tokens import TokenCodec
from retrieveall.training.examples import Examples, cached_examples, encode_examples, examples_key, level_shares
from retrieveall.types import Entity, Sentence
from tiny import codec_of

LABELS = ("PER", "ORG", "LOC")


def sentence(text: str, mention: str, label: str, number: int) -> Sentence:
    start = text.index(mention)
    return Sentence(text, (Entity(start, start + len(mention), label, mention),), "de", f"de-{number}")


@pytest.fixture(scope="module")
def planted() -> list[Sentence]:
    """0 and 1 are duplicates; 2 differs from them in one word; Xanthippe is mentioned in these three only."""
    return [
        sentence("Gestern kam Xanthippe nach Hause .", "Xanthippe", "PER", 0),
        sentence("Gestern kam Xanthippe nach Hause .", "Xanthippe", "PER", 1),
        sentence("Heute kam Xanthippe nach Hause .", "Xanthippe", "PER", 2),
        sentence("Morgen fährt Otto nach Köln .", "Köln", "LOC", 3),
        sentence("In Köln regnet es .", "Köln", "LOC", 4),
        sentence("Die Bahn fährt .", "Bahn", "ORG", 5),
    ]


class Parts:
    """What makes examples, for one knowledge base and one decoder."""

    def __init__(self, codec: TokenCodec, knowledge: KnowledgeBase, **settings: Any) -> None:
        raw = {
            "labels": [{"name": name} for name in LABELS],
            "prompt": {"template": "mini.v1", "context_examples": 3, "max_tokens": 300},
            "windows": {"words": 24, "overlap": 6},
            "decoder": {"attention": "full", "spacing": "always"},
        }
        self.codec = codec
        self.config = complete_config(ModelConfig.model_validate(raw | settings), codec)
        self.stages = Stages(self.config, knowledge, codec)
        self.decoder: Decoder = make_decoder(self.config, codec)

    def encode(self, sentences: list[Sentence], level: str = "both") -> Examples:
        return encode_examples(self.stages, self.decoder, sentences, [level])[level]

    def shown(self, examples: Examples, i: int) -> str:
        return self.codec.decode(ids_of(examples, i))


def ids_of(examples: Examples, i: int) -> list[int]:
    found: list[int] = examples.ids[examples.ids_at[i] : examples.ids_at[i + 1]].tolist()
    return found


def labels_of(examples: Examples, i: int) -> list[int]:
    found: list[int] = examples.labels[examples.labels_at[i] : examples.labels_at[i + 1]].tolist()
    return found


@pytest.fixture(scope="module")
def codec(tiny_tokenizer: Any) -> TokenCodec:
    return codec_of(tiny_tokenizer, "always")


@pytest.fixture(scope="module")
def parts(codec: TokenCodec, planted: list[Sentence]) -> Parts:
    return Parts(codec, KnowledgeBase.build({"de": planted}))


def test_neither_the_sentence_nor_its_duplicate_is_shown(parts: Parts, planted: list[Sentence]) -> None:
    examples = parts.encode(planted)
    for i, own in enumerate(planted):
        assert parts.shown(examples, i).count(own.text.split()[0]) == 1, "in the input only"


def test_own_mentions_and_those_of_duplicates_do_not_count(parts: Parts, planted: list[Sentence]) -> None:
    windows = parts.stages.window([each.text for each in planted])
    found = parts.stages.retrieve(windows, exclude=planted, votes=False)
    first, _, near, _, koeln, bahn = found
    assert [(e.surface, e.label_counts()) for e in first.entities] == [("Xanthippe", {"PER": 1})]
    assert [(e.surface, e.label_counts()) for e in near.entities] == [("Xanthippe", {"PER": 2})]
    assert [(e.surface, e.label_counts()) for e in koeln.entities] == [("Köln", {"LOC": 1})]
    assert not bahn.entities
    levels = encode_examples(parts.stages, parts.decoder, planted, ["none", "entity", "both"])
    lengths = [levels[name].lengths for name in ("none", "entity", "both")]
    assert lengths[0][5] == lengths[1][5] < lengths[2][5], "nothing is known of the words of the last one"
    assert all(lengths[0][:5] < lengths[1][:5])


def test_tags_sit_on_the_words(parts: Parts, planted: list[Sentence]) -> None:
    examples = parts.encode(planted[3:4])
    assert TagSet(LABELS).decode(labels_of(examples, 0)) == [(4, 5, "LOC")]
    first, last = examples.words[4]
    assert parts.codec.decode(ids_of(examples, 0)[first : last + 1]).strip() == "Köln"
    assert examples.positions.tolist() == examples.words[:, 1].tolist()


# -- windows -----------------------------------------------------------------------------------------------------------


def long_sentence(words: int) -> Sentence:
    """Without a sentence end, an entity of three words in every ten."""
    text, entities = "", []
    for i in range(words):
        if i % 10 == 7:
            start = len(text)
            entities.append(Entity(start, start + len("New York City"), "LOC", "New York City"))
            text += "New York City "
        elif i % 10 < 7:
            text += f"wort{i} "
    return Sentence(text.strip(), tuple(entities), "de", "long")


@pytest.mark.parametrize(
    "decoder",
    [
        {"attention": "full", "spacing": "always"},
        {"attention": "repeat", "spacing": "always"},
        {"kind": "generation", "spacing": "always"},
    ],
    ids=["full", "repeat", "generation"],
)
def test_a_long_sentence_is_trained_on_in_the_windows_of_inference(
    codec: TokenCodec, planted: list[Sentence], decoder: dict[str, str]
) -> None:
    template = "mini-answer.v1" if decoder.get("kind") else "mini.v1"
    parts = Parts(
        codec,
        KnowledgeBase.build({"de": planted}),
        decoder=decoder,
        prompt={"template": template, "max_tokens": 300, "context_examples": 2},
    )
    long = long_sentence(1200)
    windows = parts.stages.window([long.text])
    examples = parts.encode([planted[0], long, planted[3]])
    assert len(windows) > 40
    assert len(examples) == len(windows) + 2
    longest = parts.config.prompt.max_tokens + parts.config.decoder.longest_answer
    assert examples.lengths.max() <= longest


def test_every_word_of_a_long_sentence_is_learnt_once(parts: Parts) -> None:
    long = long_sentence(600)
    windows = parts.stages.window([long.text])
    examples = parts.encode([long], "none")
    tags, labels = TagSet(LABELS), []
    for i, window in enumerate(windows):
        own = labels_of(examples, i)
        assert len(own) <= window.kept_words
        labels.append(own)
    total = sum(window.kept_words for window in windows)
    learnt = sum(map(len, labels))
    assert total - 3 * len(windows) <= learnt <= total, "all but those of entities that a window cuts"
    flat = [tag for own in labels for tag in own]
    counts = {name: flat.count(tags.index(name, "LOC")) for name in "BIE"}
    assert min(counts.values()) > 40, "whole entities"


# -- levels of knowledge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ({}, {"none": 0.1, "entity": 0.3, "both": 0.6}),
        ({"context_examples": 0}, {"none": 0.1, "entity": 0.9}),
        ({"entity_examples": 0}, {"none": 0.4, "both": 0.6}),
        ({"entity_examples": 0, "context_examples": 0}, {"none": 1.0}),
    ],
)
def test_levels_that_look_the_same_are_one(prompt: dict[str, int], expected: dict[str, float]) -> None:
    config = ModelConfig.model_validate({"labels": [{"name": "PER"}], "prompt": prompt})
    found = level_shares(config, KnowledgeShares(none=1, entity=3, both=6))
    assert found == pytest.approx(expected)


def test_a_level_without_a_share_is_not_made() -> None:
    config = ModelConfig.model_validate({"labels": [{"name": "PER"}]})
    assert level_shares(config, KnowledgeShares(none=0, entity=2, both=0)) == {"entity": 1.0}
    with pytest.raises(ValueError, match="above 0"):
        KnowledgeShares(none=0, entity=0, both=0)


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_kept_examples_are_those_that_were_made(parts: Parts, planted: list[Sentence], tmp_path: Path) -> None:
    calls: list[int] = []

    def encode() -> dict[str, Examples]:
        calls.append(1)
        return encode_examples(parts.stages, parts.decoder, planted, ["none", "both"])

    path = tmp_path / "run" / "de.safetensors"
    made = cached_examples(path, "key", ["none", "both"], encode)
    kept = cached_examples(path, "key", ["none", "both"], encode)
    assert len(calls) == 1
    for level, examples in made.items():
        for name in ("ids", "ids_at", "positions", "labels", "labels_at", "words", "words_at"):
            assert np.array_equal(getattr(kept[level], name), getattr(examples, name))
    cached_examples(path, "another key", ["none", "both"], encode)
    cached_examples(path, "another key", ["entity"], encode)
    path.write_bytes(path.read_bytes()[:200])
    cached_examples(path, "another key", ["none", "both"], encode)
    assert len(calls) == 4, "what was kept for something else, or is damaged, is made anew"


@pytest.mark.parametrize(
    "change",
    ["labels", "ids", "texts", "language", "retrieval", "windows", "prompt", "decoder", "tokenizer", "train", "none"],
)
def test_examples_are_made_anew_when_anything_they_depend_on_changes(
    codec: TokenCodec, planted: list[Sentence], change: str
) -> None:
    relabelled = [replace(s, entities=tuple(replace(e, label="ORG") for e in s.entities)) for s in planted]
    pools = {
        "labels": {"de": relabelled},
        "ids": {"de": [replace(s, id=f"x{i}") for i, s in enumerate(planted)]},
        "texts": {"de": [*planted[:-1], replace(planted[-1], text="Die Bahn steht .")]},
        "language": {"de": planted, "en": planted[:1]},
    }
    settings: dict[str, dict[str, Any]] = {
        "retrieval": {"retrieval": {"near_matches": False}},
        "windows": {"windows": {"words": 20, "overlap": 6}},
        "prompt": {"prompt": {"template": "mini.v1", "context_examples": 2, "max_tokens": 300}},
        "decoder": {"decoder": {"attention": "repeat", "spacing": "always"}},
    }

    def key(pool: dict[str, list[Sentence]], train: list[Sentence], codec: TokenCodec, **changed: Any) -> str:
        # An encoder that is the same whatever the sentences: only what is meant changes.
        knowledge = KnowledgeBase.build(pool, _Letters())
        return examples_key(Parts(codec, knowledge, **changed).config, codec, knowledge.fingerprint(), train)

    other = codec
    if change == "tokenizer":
        changed = codec.tokenizer.backend.__class__.from_str(codec.tokenizer.backend.to_str())
        changed.add_tokens(["xyz"])
        other = TokenCodec(replace(codec.tokenizer, backend=changed), "always")
    before = key({"de": planted}, planted, codec)
    train = relabelled if change == "train" else planted
    after = key(pools.get(change, {"de": planted}), train, other, **settings.get(change, {}))
    assert (before == after) is (change == "none")


class _Letters:
    """An encoder of letter counts."""

    name = "letters"
    dimension = 26

    def encode(self, texts: Any) -> Any:
        counts = np.array([[text.count(chr(97 + i)) + 0.01 for i in range(26)] for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)
