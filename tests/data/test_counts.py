"""What is counted of predictions, and said of a language without an adapter at the end of a run."""

from __future__ import annotations

import pytest

from retrieveall.cli.extraction import Done
from retrieveall.data.counts import counts_of, unknown_notes
from retrieveall.types import Entity, Knowledge, Prediction, Route

KNOWN, UNKNOWN = Route({"de": 1.0}), Route({}, {}, "unknown")


def predicted(text: str, route: Route, windows: int, unknown: int) -> Prediction:
    entities = (Entity(0, 1, "PER", text[:1], 0.9),)
    return Prediction(text, entities, route, Knowledge(), windows=windows, unknown_windows=unknown)


def test_texts_windows_and_characters_are_counted() -> None:
    some = [predicted("abc", KNOWN, 4, 1), predicted("defg", UNKNOWN, 3, 2), predicted("h", KNOWN, 2, 0)]
    assert counts_of(some) == {
        "texts": 3,
        "characters": 8,
        "entities": 3,
        "unknown": 1,
        "partly": 1,
        "windows": 9,
        "unknown_windows": 3,
    }


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([predicted("a", KNOWN, 1, 0)], None),
        ([predicted("a", UNKNOWN, 1, 1), predicted("a", KNOWN, 1, 0)], "1 of 2 texts is in a language"),
        ([predicted("a", UNKNOWN, 1, 1)], "1 of 1 text is in a language"),
        (
            [predicted("a", KNOWN, 40, 3), predicted("a", KNOWN, 1, 0)],
            "parts of 1 of 2 texts (3 of 41 windows) are in a language",
        ),
        (
            [predicted("a", UNKNOWN, 1, 1), predicted("a", KNOWN, 9, 3), predicted("a", KNOWN, 1, 0)],
            "1 of 3 texts, and parts of 1 more (4 of 11 windows in all), are in a language",
        ),
    ],
)
def test_the_note_is_one_line_that_counts_wherever_it_occurs(texts: list[Prediction], said: str | None) -> None:
    done = Done()
    done.add(texts)
    notes = unknown_notes(done, ["de", "en"])
    assert len(notes) == (said is not None)
    for note in notes:
        assert note.startswith(f"note: {said} that the model has no adapter for; ")
        assert "The model has: de, en; add one with: retrieveall add-language" in note
