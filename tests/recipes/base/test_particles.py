"""Korean names end before their particles, unless the corpora say that the syllable is a part of the name."""

from __future__ import annotations

import random

import pytest

from recipes.base.particles import Particles
from retrieveall.types import Entity, Sentence


def sentence(mention: str, label: str = "LOC", after: str = " 왔다.") -> Sentence:
    return Sentence(f"나는 {mention}{after}", (Entity(3, 3 + len(mention), label, mention),), "ko", "ko:1")


def counted(**times: int) -> Particles:
    return Particles(sentence(mention) for mention, count in times.items() for _ in range(count))


@pytest.mark.parametrize(
    ("mention", "label", "name"),
    [
        ("부산에서", "LOC", "부산"),
        ("부산에서는", "LOC", "부산"),
        ("한국은행으로부터", "ORG", "한국은행"),
        ("김민수에게", "PER", "김민수"),
        ("이순신씨", "PER", "이순신"),
        ("New York에서", "LOC", "New York"),
        ("엘리자베스 여왕까지", "PER", "엘리자베스 여왕"),
        ("광주를", "LOC", "광주"),
        ("'부산'", "LOC", "부산"),
        ("《토지》에서", "ORG", "토지"),
        ("대한항공(주)", "ORG", "대한항공"),
        ("부산.", "LOC", "부산"),
        ("U.S.", "LOC", "U.S"),
        ("부산", "LOC", "부산"),
        ("에서", "LOC", "에서"),
    ],
)
def test_particles_that_are_sure_and_punctuation_are_taken_off(mention: str, label: str, name: str) -> None:
    (found,) = counted().strip([sentence(mention, label)])
    (entity,) = found.entities
    assert entity.text == found.text[entity.start : entity.end] == name


def test_a_syllable_of_the_name_stays_where_the_corpora_have_the_name() -> None:
    assert counted(경기도=5).name("경기도") == "경기도"
    assert counted(제주=5, 제주도=2).name("제주도") == "제주"
    assert counted(제주=2, 제주도=5).name("제주도") == "제주도"
    assert counted().name("인도") == "인도"
    assert counted(인도=4).name("인도는") == "인도"
    assert counted().name("김영은", "PER") == "김영은"
    assert counted().name("세종대왕은", "PER") == "세종대왕"
    assert counted(서울=3).name("서울이") == "서울"
    assert counted(코펜하겐을=4).name("코펜하겐을") == "코펜하겐을"


@pytest.mark.parametrize(
    ("mention", "fits"),
    [("부산는", False), ("파리은", False), ("부산은", True), ("파리는", True), ("서울로", True), ("부산로", False)],
)
def test_a_particle_fits_the_sound_before_it(mention: str, fits: bool) -> None:
    stem = mention[:-1]
    assert counted(**{stem: 3}).name(mention) == (stem if fits else mention)


def test_a_name_is_a_beginning_of_its_mention_whatever_that_is() -> None:
    rng = random.Random(1)
    pieces = [
        "서울",
        "은",
        "는",
        "에서",
        "으로",
        "씨",
        "님",
        "도",
        "(",
        ")",
        ".",
        " ",
        "York",
        "'",
        "《",
        "이",
        "Ⅱ",
        "東",
    ]
    particles = counted(서울=3, 서울도=1)
    for _ in range(3000):
        mention = "".join(rng.choices(pieces, k=rng.randint(1, 6))).strip()
        if not mention:
            continue
        name = particles.name(mention, rng.choice(("PER", "LOC")))
        assert name
        assert mention.startswith(name)
        given = sentence(mention)
        (found,) = particles.strip([given])
        assert (found.text, found.language, found.id) == (given.text, given.language, given.id)
        for entity in found.entities:
            assert 3 <= entity.start < entity.end <= 3 + len(mention)
            assert found.text[entity.start : entity.end] == entity.text


def test_a_mention_of_quotes_alone_is_none() -> None:
    assert counted().strip([sentence("''")])[0].entities == ()
