"""What a training prompt may show: never the sentence itself, its twin, or its own mentions."""

from __future__ import annotations

from typing import Any

import pytest

from retrieveall.config import ModelConfig, TrainingConfig
from retrieveall.decoding import TagSet
from retrieveall.engines.encoding import TokenCodec
from retrieveall.knowledge import KnowledgeBase
from retrieveall.training.dataset import Collator, LengthSampler, TaggingDataset
from retrieveall.training.examples import ExampleBuilder
from retrieveall.types import Entity, Sentence


def sentence(text: str, mention: str, label: str, number: int) -> Sentence:
    start = text.index(mention)
    return Sentence(text, (Entity(start, start + len(mention), label, mention),), "de", f"de-{number}")


@pytest.fixture(scope="module")
def planted() -> list[Sentence]:
    """0 and 1 are twins; 2 differs from them in one word; Xanthippe is mentioned in these three only."""
    return [
        sentence("Gestern kam Xanthippe nach Hause .", "Xanthippe", "PER", 0),
        sentence("Gestern kam Xanthippe nach Hause .", "Xanthippe", "PER", 1),
        sentence("Heute kam Xanthippe nach Hause .", "Xanthippe", "PER", 2),
        sentence("Morgen fährt Otto nach Köln .", "Köln", "LOC", 3),
        sentence("In Köln regnet es .", "Köln", "LOC", 4),
        sentence("Die Bahn fährt .", "Bahn", "ORG", 5),
    ]


@pytest.fixture(scope="module")
def builder(planted: list[Sentence], tiny_tokenizer: Any) -> ExampleBuilder:
    config = ModelConfig.model_validate(
        {
            "labels": [{"name": name} for name in ("PER", "ORG", "LOC")],
            "prompt": {"template": "mini.v1", "context_examples": 3},
            "decoder": {"attention": "full", "spacing": "always"},
        }
    )
    return ExampleBuilder(config, KnowledgeBase.build({"de": planted}), TokenCodec(tiny_tokenizer, "always"))


def test_neither_the_sentence_nor_its_twin_is_retrieved(builder: ExampleBuilder, planted: list[Sentence]) -> None:
    found = builder.knowledge_of(planted, leave_out=True)
    for own, knowledge in zip(planted, found, strict=True):
        assert len(knowledge.neighbours) == 3
        assert own.text not in {neighbour.sentence.text for neighbour in knowledge.neighbours}


def test_own_mentions_and_those_of_twins_do_not_count(builder: ExampleBuilder, planted: list[Sentence]) -> None:
    first, _, near, _, koeln, bahn = builder.knowledge_of(planted, leave_out=True)
    assert [(e.surface, e.label_counts()) for e in first.entities] == [("Xanthippe", {"PER": 1})]
    assert [(e.surface, e.label_counts()) for e in near.entities] == [("Xanthippe", {"PER": 2})]
    assert [(e.surface, e.label_counts()) for e in koeln.entities] == [("Köln", {"LOC": 1})]
    assert not bahn.entities


def test_without_leaving_out_the_plant_would_be_seen(builder: ExampleBuilder, planted: list[Sentence]) -> None:
    knowledge = builder.knowledge_of(planted[:1], leave_out=False)[0]
    assert knowledge.neighbours[0].sentence.text == planted[0].text
    assert knowledge.entities[0].label_counts() == {"PER": 3}


def test_tags_sit_on_the_words(builder: ExampleBuilder, planted: list[Sentence], tiny_tokenizer: Any) -> None:
    example = next(builder.build(planted[3:4]))
    tags = TagSet(("PER", "ORG", "LOC"))
    assert tags.decode(example.tags) == [(4, 5, "LOC")]
    ids = example.ids[example.starts[4] : example.reads[4] + 1]
    assert tiny_tokenizer.decode(ids).strip() == "Köln"


@pytest.fixture
def dataset(builder: ExampleBuilder, planted: list[Sentence]) -> TaggingDataset:
    found = builder.knowledge_of(planted, leave_out=True)
    return TaggingDataset(builder, planted, found, TrainingConfig(knowledge_dropout=0.5, word_dropout=0.5), 2)


def test_randomness_depends_on_seed_epoch_and_sentence_only(dataset: TaggingDataset) -> None:
    forward = [dataset[i].ids for i in range(len(dataset))]
    backward = [dataset[i].ids for i in reversed(range(len(dataset)))][::-1]
    assert forward == backward
    dataset.epoch = 1
    assert [dataset[i].ids for i in range(len(dataset))] != forward


def test_every_epoch_is_another_permutation(dataset: TaggingDataset) -> None:
    sampler = LengthSampler(dataset, 2, seed=3)
    orders = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert dataset.epoch == epoch
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    sampler.set_epoch(2)
    assert list(sampler) == orders[2]


def test_collator_keeps_reads_on_their_tokens(dataset: TaggingDataset) -> None:
    dataset.epoch = 5
    collate = Collator(0, ["de"])
    examples = collate.arrange([dataset[i] for i in range(3)])
    batch = collate(examples)
    flat = batch["ids"].flatten()
    assert flat[batch["reads"]].tolist() == [e.ids[r] for e in examples for r in e.reads]
    assert batch["tags"].tolist() == [tag for e in examples for tag in e.tags]
    assert batch["lengths"].tolist() == [len(e.ids) for e in examples]
