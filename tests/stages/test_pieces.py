"""Long texts in pieces: no character is lost, offsets are those of the text, and few windows exist at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieveall import pipeline
from retrieveall.errors import EngineError
from retrieveall.stages import cut_pieces, group_pieces
from retrieveall.stages.pieces import Piece
from tests.tiny import Flaky

if TYPE_CHECKING:
    from pathlib import Path

    from retrieveall import RetrieveAll

PARAGRAPH = "Anna Meier wurde gestern in Bad Homburg erwähnt . Siehe auch Siemens .\n\n"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text("ab .\n。", max_size=60), max_size=4), st.integers(2, 20))
def test_pieces_are_the_text(texts: list[str], size: int) -> None:
    pieces = list(cut_pieces(texts, size))
    assert sorted({piece.document for piece in pieces}) == list(range(len(texts)))
    for number, text in enumerate(texts):
        own = [piece for piece in pieces if piece.document == number]
        assert "".join(piece.text for piece in own) == text
        for piece in own:
            assert len(piece.text) <= size
            assert text[piece.offset : piece.offset + len(piece.text)] == piece.text
    assert [piece for group in group_pieces(pieces, size) for piece in group] == pieces


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("one. two\n\nthree. four five", "one. two\n\n"),
        ("one two. three\nfour five six", "one two. "),
        ("one two\nthree four", "one two\n"),
        ("one two three four", "one two "),
        ("北京很大很大。上海也很大很大", "北京很大很大。"),
        ("x" * 40, "x" * 12),
    ],
)
def test_pieces_end_where_no_entity_continues(text: str, first: str) -> None:
    assert next(cut_pieces([text], 12)).text == first


@pytest.fixture
def tiny(tiny_model: Path) -> RetrieveAll:
    from retrieveall import RetrieveAll

    return RetrieveAll.from_pretrained(tiny_model)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of at most two paragraphs."""

    def cut(texts: Iterable[str]) -> Iterable[Piece]:
        return cut_pieces(texts, 2 * len(PARAGRAPH))

    def group(pieces: Iterable[Piece]) -> Iterable[list[Piece]]:
        return group_pieces(pieces, 2 * len(PARAGRAPH))

    monkeypatch.setattr(pipeline, "cut_pieces", cut)
    monkeypatch.setattr(pipeline, "group_pieces", group)


@pytest.mark.usefixtures("small_pieces")
def test_a_long_text_is_its_pieces_and_few_windows_exist_at_a_time(
    tiny: RetrieveAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    retrieve = tiny.stages.retrieve

    def counting(windows: Sequence[Any], **options: Any) -> Any:
        counts.append(len(windows))
        return retrieve(windows, **options)

    monkeypatch.setattr(tiny.stages, "retrieve", counting)
    done: list[int] = []
    text = PARAGRAPH * 11
    (found,) = tiny.predict(text, progress=done.append)
    assert found.text == text
    assert sum(done) == len(text)
    assert len(done) == 6
    assert max(counts) == counts[0]
    (once,) = tiny.predict(PARAGRAPH * 2)
    assert once.entities, "the tiny model finds nothing: the test shows nothing"
    size = len(PARAGRAPH) * 2
    expected = [(e.start + i * size, e.end + i * size, e.label) for i in range(5) for e in once.entities]
    assert [(e.start, e.end, e.label) for e in found.entities if e.start < 5 * size] == expected
    assert all(text[e.start : e.end] == e.text for e in found.entities)
    assert sum(found.route.adapters.values()) == pytest.approx(1) or not found.route.adapters
    assert len({n.sentence for n in found.knowledge.neighbours}) == len(found.knowledge.neighbours)
    similarities = [n.similarity for n in found.knowledge.neighbours]
    assert similarities == sorted(similarities, reverse=True)
    exact = [known for known in found.knowledge.entities if known.similarity == 1 and not known.partial]
    assert exact
    assert all(text[known.start : known.end] == known.surface for known in exact)


@pytest.mark.usefixtures("small_pieces")
def test_a_text_fails_if_a_piece_does_and_the_others_stay(tiny: RetrieveAll, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "engine", Flaky(tiny.engine, {0}))  # the first request of every group
    with pytest.raises(EngineError) as raised:
        tiny.predict([PARAGRAPH * 5])
    assert set(raised.value.failures) == {0}
