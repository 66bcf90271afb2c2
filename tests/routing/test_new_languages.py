"""Routing over a whole knowledge base: large and small languages beside each other, and texts in none of them."""

from __future__ import annotations

import random

import pytest

from retrieveall.knowledge import KnowledgeBase
from retrieveall.routing import Router
from retrieveall.types import Route, Sentence

LETTERS = {"large": "aeioulmnrst", "small": "aeouyzkwvbg", "cyrillic": "абвгдежзиклмнопрст"}
"""Two languages share most of their script, as German and Polish do."""


def word(language: str, rng: random.Random) -> str:
    return "".join(rng.choice(LETTERS[language]) for _ in range(rng.randint(2, 8)))


def lexicon(language: str) -> list[str]:
    rng = random.Random(language)
    return [word(language, rng) for _ in range(400)]


def sentences(language: str, count: int, seed: int = 0) -> list[Sentence]:
    rng = random.Random(f"{language} {seed}")
    words = lexicon(language)
    return [
        Sentence(" ".join(rng.choices(words, k=rng.randint(4, 12))), (), language, f"{language}-{seed}-{number}")
        for number in range(count)
    ]


def routes(base: KnowledgeBase, texts: list[str]) -> list[Route]:
    found = base.retrieve(texts, 3, match_languages=True)
    return [Router().route(each.languages, base.languages) for each in found]


@pytest.fixture(scope="module")
def pools() -> dict[str, list[Sentence]]:
    return {
        "large": sentences("large", 10_000),
        "small": sentences("small", 10),
        "cyrillic": sentences("cyrillic", 500),
    }


@pytest.fixture(scope="module")
def base(pools: dict[str, list[Sentence]]) -> KnowledgeBase:
    """The encoder knows nothing of the small language, which comes later."""
    built = KnowledgeBase.build({name: own for name, own in pools.items() if name != "small"})
    built.add_language("small", pools["small"])
    return built


TEXTS = {language: [each.text for each in sentences(language, 40, seed=1)] for language in LETTERS}


@pytest.mark.parametrize("language", sorted(LETTERS))
def test_ten_sentences_win_their_texts_beside_ten_thousand(base: KnowledgeBase, language: str) -> None:
    right = [route.language == language for route in routes(base, TEXTS[language])]
    assert sum(right) >= 39


def test_ten_copies_of_a_pool_change_no_route(base: KnowledgeBase, pools: dict[str, list[Sentence]]) -> None:
    texts = [text for some in TEXTS.values() for text in some[:20]]
    before = routes(base, texts)
    copied = KnowledgeBase(base.encoder, base.scale, {})
    for language, own in pools.items():
        copied.add_language(language, own if language == "large" else own * 10)
    assert routes(copied, texts) == before


def test_the_order_of_sentences_and_texts_changes_no_route(
    base: KnowledgeBase, pools: dict[str, list[Sentence]]
) -> None:
    texts = [text for some in TEXTS.values() for text in some[:20]]
    before = routes(base, texts)
    assert routes(base, texts[::-1]) == before[::-1]
    assert [routes(base, [text])[0] for text in texts[::7]] == before[::7]
    shuffled = KnowledgeBase(base.encoder, base.scale, {})
    for language, own in reversed(pools.items()):
        shuffled.add_language(language, random.Random(7).sample(own, len(own)))
    assert routes(shuffled, texts) == before


def test_adding_a_language_leaves_the_matches_of_the_others(
    base: KnowledgeBase, pools: dict[str, list[Sentence]]
) -> None:
    without = KnowledgeBase(base.encoder, base.scale, {})
    for language in ("large", "cyrillic"):
        without.add_language(language, pools[language])
    texts = TEXTS["large"][:5]
    for more, less in zip(
        base.retrieve(texts, 1, match_languages=True), without.retrieve(texts, 1, match_languages=True), strict=True
    ):
        assert {name: each for name, each in more.languages.items() if name != "small"} == less.languages


@pytest.mark.parametrize(
    "text",
    [
        "Ο Κυριάκος Μητσοτάκης γεννήθηκε στην Αθήνα",
        "ولد جمال عبد الناصر في الإسكندرية",
        "नरेंद्र मोदी का जन्म गुजरात में हुआ",
        "ประยุทธ์ เดินทางไปกรุงเทพ",
        "徳川家康は江戸に",
    ],
)
def test_an_unseen_script_is_unknown(base: KnowledgeBase, text: str) -> None:
    [route] = routes(base, [text])
    assert (route.reason, route.language) == ("unknown", None)


def test_a_long_text_in_other_letters_of_a_known_script_is_unknown(base: KnowledgeBase) -> None:
    [route] = routes(base, ["xqj qxhj jjxq hxqq jqhx cqxj xhjq qqjx hjxc qjxh cxqj hhqx"])
    assert route.reason == "unknown"


@pytest.mark.parametrize("text", ["", "1984", "!!! 12:30 --", "😀"])
def test_a_text_without_letters_has_no_language(base: KnowledgeBase, text: str) -> None:
    assert routes(base, [text])[0].reason == "fallback"


@pytest.mark.parametrize("text", ["q", "xq", "zx"])
def test_a_short_word_is_not_unknown(base: KnowledgeBase, text: str) -> None:
    assert routes(base, [text])[0].reason != "unknown"


def test_a_foreign_word_does_not_make_a_text_unknown(base: KnowledgeBase) -> None:
    for language in ("large", "cyrillic"):
        for foreign in ("東京", "Αθήνα", TEXTS["cyrillic" if language == "large" else "large"][0].split()[0]):
            for route in routes(base, [f"{text} {foreign}" for text in TEXTS[language][:10]]):
                assert route.language == language


def test_every_text_of_a_knowledge_without_sentences_is_a_fallback() -> None:
    one = KnowledgeBase.build({"one": [Sentence("ein Satz", (), "one")], "none": []})
    assert routes(one, ["ein Satz"])[0].language == "one"
    digits = KnowledgeBase.build({"one": [Sentence("1 2 3", (), "one")]})
    assert routes(digits, ["ein Satz", "3 2 1"])[1].reason == "fallback"
