"""Whatever an engine says, an entity is one stretch between borders, with a letter, without markup at its edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieveall.data import find_borders, normalise, segment
from retrieveall.decoders import gold_of
from retrieveall.engines import ScoreRequest, WriteRequest, Written
from retrieveall.stages import Window
from retrieveall.types import Entity

KINDS = ["full", "repeat", "generation"]
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MARKS = '.!?。…,;:-()[]{}<>|*_`#~=\\^"“”•→'
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["Anna", "Köln", "北京", "다", "St", "7", " ", " ", ". ", "。", "\n", "\n\n", "\t", "👍🏽", "❤️", "1️⃣"]
        ),
        st.sampled_from(MARKS),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
).map("".join)


class Greedy:
    """An engine that takes the whole window, or everything that it can get, for one entity."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Any]:
        rows = []
        for request in requests:
            scores = np.zeros((len(request.positions), len(request.candidates)), dtype=np.float32)
            scores[:, 0] = -60.0  # O
            scores[:, 4::4] = -9.0  # S
            scores[:, 2] = 9.0  # I: the longest span there is
            rows.append(scores)
        return rows

    def write(self, requests: Sequence[WriteRequest]) -> list[Any]:
        return [self._written(request.text) for request in requests]

    def _written(self, text: str) -> Written:
        # A line of an answer holds no line break, so each line of the text is one mention.
        pieces = text.splitlines() if "\n" in text else [text]
        return Written("\n".join(f"PER {' '.join(piece.split())}" for piece in pieces), (-0.1,) * len(pieces))


@pytest.fixture(params=KINDS)
def setting(request: pytest.FixtureRequest, make_setting: Callable[..., Any]) -> Any:
    return make_setting(request.param, 12, 4)


def whole(text: str) -> Window:
    source = normalise(text)
    words = segment(source.text)
    return Window(0, source, source.text, 0, words, (0, len(words)), find_borders(source.text, words))


def check(setting: Any, text: str) -> list[str]:
    """The entities of a greedy engine, each of which can be one."""
    window = whole(text)
    found = setting.entities(Greedy(), [text])[0]
    for start, end, _ in found:
        inside = [number for number, word in enumerate(window.words) if start <= word.start < end]
        assert window.allows(inside[0], inside[-1] + 1)
        assert regex.search(r"\p{L}", window.text[start:end])  # knows letters of a later Unicode than Python does
    return [window.text[start:end] for start, end, _ in found]


def test_whatever_the_text(setting: Any) -> None:
    @FEW
    @given(TEXTS)
    def run(text: str) -> None:
        check(setting, text)

    run()


@pytest.mark.parametrize(
    "text", ["?", "...", "2023", "1, 2 (3)", "👍", "👨‍👩‍👧 🎉", "***", "— 7 —", "₤ 5", "٣٤", "1️⃣ 2️⃣", "½ ②"]
)
def test_texts_without_a_letter_hold_no_entity(setting: Any, text: str) -> None:
    assert check(setting, text) == []


@pytest.mark.parametrize("mark", ["*", "**", "_", "`", "#", "|", "<", "[", "{", "~", "=", "^", "• ", "👍 ", "❤️", "🇩🇪"])
def test_markup_at_the_edges(setting: Any, mark: str) -> None:
    assert check(setting, f"{mark}Angela Merkel{mark}") == ["Angela Merkel"]


@pytest.mark.parametrize(
    "name", ["Yahoo!", "St.", "(Anna)", "“Anna”", "AT&T", "C. S. Lewis", "Angela\nMerkel", "Ham-\nburg"]
)
def test_what_belongs_to_a_name_stays_possible(setting: Any, name: str) -> None:
    if setting.config.decoder.kind == "tagging" or "\n" not in name:
        assert check(setting, name) == [name]


@pytest.mark.parametrize("separator", [". ", "! ", "\t", "\n\n", " | "])
def test_borders(setting: Any, separator: str) -> None:
    found = check(setting, separator.join(["Peter Jackson", "London", "Anna Meier"]))
    assert all(separator.strip(" ") not in each.rstrip(".!") for each in found)
    if setting.config.decoder.kind == "tagging":
        assert [each.rstrip(".! ") for each in found] == ["Peter Jackson", "London", "Anna Meier"]


def test_gold_that_cannot_be_is_not_learnt(setting: Any) -> None:
    text = "Anna traf Karl. London lag an 2023 und *Ulm* dort"
    gold = [
        Entity(text.index(name), text.index(name) + len(name), "PER")
        for name in ("Anna", "Karl. London", "2023", "*Ulm*")
    ]
    windows, prompts, _ = setting.prepared([text])
    targets = [
        setting.decoder.target(window, prompt, gold_of(window, gold))
        for window, prompt in zip(windows, prompts, strict=True)
    ]
    if setting.config.decoder.kind == "generation":
        answers = [setting.codec.decode(target.labels[:-1]) for target in targets]
        assert [answer for answer in answers if answer] == ["PER Anna"]
    else:
        hidden = {"Karl", ".", "London", "2023", "*", "Ulm"}
        kept = sum(word.text not in hidden for word in segment(text))
        assert sum(len(target.labels) for target in targets) == kept
        assert sum(label != 0 for target in targets for label in target.labels) == 1


@pytest.mark.parametrize("kind", ["full", "repeat"])
def test_probabilities_of_a_text_are_those_of_its_sentences(make_setting: Callable[..., Any], kind: str) -> None:
    """The units are independent, so a text gives what its sentences give alone."""
    setting = make_setting(kind, 40, 4)
    sentences = ["Anna met Karl May in New York.", "London is far!", "Köln, Ulm and Siemens."]

    class ByPosition:
        """Scores that depend on the word alone."""

        def __init__(self, words: Sequence[str]) -> None:
            self._words = list(words)

        def score(self, requests: Sequence[ScoreRequest]) -> list[Any]:
            [request] = requests
            seeds = [sum(map(ord, word)) for word in self._words]
            return [np.stack([np.random.default_rng(seed).normal(0, 2, len(request.candidates)) for seed in seeds])]

    def spans(text: str) -> list[Any]:
        windows, prompts, routes = setting.prepared([text])
        [reading] = setting.decoder.decode(ByPosition([w.text for w in windows[0].words]), windows, prompts, routes)
        return [(text[span.start : span.end], span.label, pytest.approx(span.probability)) for span in reading.spans]

    assert spans(" ".join(sentences)) == [span for sentence in sentences for span in spans(sentence)]
