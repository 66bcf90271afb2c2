"""Predictions as table, JSONL, CoNLL and HTML, without a model."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from cli_fakes import NEIGHBOUR
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from retrieveall.cli.render.base import Renderer
from retrieveall.cli.render.conll import ConllRenderer
from retrieveall.cli.render.html import HtmlRenderer
from retrieveall.cli.render.jsonl import JsonlRenderer
from retrieveall.cli.render.marks import likeness
from retrieveall.cli.render.table import TableRenderer
from retrieveall.data import read_corpus
from retrieveall.markup import stretches, visible
from retrieveall.types import Entity, Knowledge, KnownEntity, Neighbour, Prediction, Route, Sentence

LABELS = ("PER", "LOC")


def predict(text: str, *spans: tuple[int, int, str], language: str = "en", score: float = 0.87654321) -> Prediction:
    entities = tuple(Entity(start, end, label, text[start:end], score) for start, end, label in spans)
    known = KnownEntity(0, 3, "Ada", {"en": {"PER": 2}, "de": {"LOC": 1}}, 0.9)
    knowledge = Knowledge((Neighbour(NEIGHBOUR, 0.512345),), (known,))
    return Prediction(
        text, entities, Route({language: 0.8, "fr": 0.2}, {language: 0.8, "fr": 0.2}, "mixture"), knowledge
    )


def table(*, explain: bool = False, colour: bool = False) -> TableRenderer:
    console = Console(file=StringIO(), width=100, force_terminal=colour, color_system="standard" if colour else None)
    return TableRenderer(console, LABELS, explain=explain)


def whole(renderer: Renderer, *predictions: Prediction) -> str:
    return renderer.head() + "".join(renderer.item(each, {}) for each in predictions) + renderer.tail()


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=4)


def sorted_entities(text: str, raw: list[tuple[int, int]]) -> list[Entity]:
    cut = {(start, min(start + length, len(text))) for start, length in raw if start < len(text)}
    return [Entity(start, end, "PER", text[start:end]) for start, end in sorted(cut)]


@given(st.text(max_size=30), spans)
def test_stretches_are_the_text(text: str, raw: list[tuple[int, int]]) -> None:
    found = list(stretches(text, sorted_entities(text, raw)))
    assert "".join(stretch for stretch, _ in found) == text
    assert all(stretch == entity.text for stretch, entity in found if entity is not None)


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_visible_keeps_every_offset_and_no_control(text: str) -> None:
    shown = visible(text)
    assert len(shown) == len(text)
    shown.encode()
    assert not any((ord(c) < 0x20 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert all(a == b for a, b in zip(text, shown, strict=True) if a.isprintable())


# -- JSONL --------------------------------------------------------------------------------------------------------


def test_jsonl_has_the_documented_shape() -> None:
    line = JsonlRenderer().item(predict("Ada in 北京", (0, 3, "PER"), (7, 9, "LOC")), {})
    assert line == (
        '{"text": "Ada in 北京", "entities": ['
        '{"start": 0, "end": 3, "label": "PER", "text": "Ada", "score": 0.8765}, '
        '{"start": 7, "end": 9, "label": "LOC", "text": "北京", "score": 0.8765}], '
        '"route": {"adapters": {"en": 0.8, "fr": 0.2}, "votes": {"en": 0.8, "fr": 0.2}, "reason": "mixture"}, '
        '"language": "en"}\n'
    )


def test_jsonl_keeps_other_fields_and_replaces_its_own() -> None:
    fields = {"id": 7, "text": "Ada", "entities": "old", "language": "xx", "more": {"a": [1, None]}}
    record = json.loads(JsonlRenderer().item(predict("Ada", (0, 3, "PER")), fields))
    assert record["id"] == 7
    assert record["more"] == {"a": [1, None]}
    assert record["entities"][0]["label"] == "PER"
    assert record["language"] == "en"
    assert "knowledge" not in record


def test_jsonl_explains() -> None:
    record = json.loads(JsonlRenderer(explain=True).item(predict("Ada"), {}))
    assert record["knowledge"] == {
        "neighbours": [
            {
                "text": "Ada schrieb.",
                "language": "de",
                "id": "de-1",
                "similarity": 0.5123,
                "entities": [{"start": 0, "end": 3, "label": "PER", "text": "Ada"}],
            }
        ],
        "entities": [
            {
                "start": 0,
                "end": 3,
                "surface": "Ada",
                "similarity": 0.9,
                "inside": 0,
                "outside": 0,
                "partial": False,
                "counts": {"en": {"PER": 2}, "de": {"LOC": 1}},
            }
        ],
    }


def test_jsonl_survives_half_a_surrogate_pair_in_a_field() -> None:
    line = JsonlRenderer().item(predict("é"), {"id": "\ud800"})
    assert json.loads(line.encode())["id"] == "\ud800"


@given(st.text(max_size=40))
def test_jsonl_is_one_line_that_reads_back(text: str) -> None:
    line = JsonlRenderer().item(predict(text), {"note": text})
    assert line.count("\n") == 1
    assert json.loads(line)["text"] == json.loads(line)["note"] == text


def test_a_part_of_a_known_mention_is_called_so() -> None:
    part = KnownEntity(0, 3, "Ada Lovelace", {"en": {"PER": 2}}, inside=2, partial=True)
    assert likeness(part) == "part"
    assert likeness(KnownEntity(0, 3, "Adas", {"en": {"PER": 2}}, 0.857)) == "0.857"


# -- CoNLL --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "entity", "language"),
    [("Ada Lovelace wrote .", (0, 12, "PER"), "en"), ("我 在北京", (3, 5, "LOC"), "zh")],
)
def test_conll_reads_back(tmp_path: Path, text: str, entity: tuple[int, int, str], language: str) -> None:
    file = tmp_path / "out.conll"
    file.write_text(whole(ConllRenderer(), predict(text, entity, language=language)), encoding="utf-8")
    (sentence,) = read_corpus(file, language=language)
    start, end, label = entity
    assert sentence == Sentence(text, (Entity(start, end, label, text[start:end]),), language, sentence.id)


def test_conll_is_iob2_and_leaves_out_what_has_no_words() -> None:
    found = whole(ConllRenderer(), predict("Ada, Bo", (0, 3, "PER"), (5, 7, "PER")), predict("  "))
    assert found == "Ada\tB-PER\n,\tO\nBo\tB-PER\n\n"


# -- HTML ---------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags, attributes, and the text of the paragraphs without the label badges."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.paragraphs: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "input"):
            self._open.append(tag)
        if tag == "p":
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "p" in self._open and "b" not in self._open:
            self.paragraphs[-1] += data


def test_html_shows_label_score_and_direction() -> None:
    page = whole(HtmlRenderer(LABELS), predict("عاش في London", (7, 13, "LOC")))
    assert '<p dir="auto">' in page
    assert 'title="LOC, characters 7 to 13, probability 0.877"' in page
    assert "adapters en 0.80, fr 0.20 (mixture)" in page
    assert page.count("<mark") == len(LABELS) + 1  # the legend names every label
    assert "<b>LOC 0.88</b>" in page
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page.replace("http-equiv", "")  # nothing from elsewhere


def test_html_counts_and_filters_by_label() -> None:
    page = whole(HtmlRenderer(LABELS), predict("Ada, Bo", (0, 3, "PER"), (5, 7, "PER")), predict("Bonn", (0, 4, "LOC")))
    assert ">PER <b>2</b>" in page
    assert ">LOC <b>1</b>" in page
    assert "2 texts, 3 entities" in page
    boxes = [value for name, value in Page(page).attributes if name == "id"]
    assert boxes == ["label0", "label1"]
    for box, label in zip(boxes, LABELS, strict=True):
        assert f'aria-label="Show {label}"' in page
        assert f'<label for="{box}">' in page
        assert f"#{box}:not(:checked) ~ main .{box} {{ background: none" in page
    assert page.count('class="label0"') == 2
    assert page.index("<input") < page.index("<main>") < page.index("<nav>")  # styles only look forward


def test_html_never_runs_a_text() -> None:
    hostile = '<script>alert(1)</script><img src=x onerror="alert(1)">'
    sentence = Sentence(hostile, (Entity(0, 8, '"><script>', hostile[:8]),), '"><script>', "")
    known = KnownEntity(0, 8, hostile, {'"><script>': {'"><script>': 1}})
    entity = Entity(0, 8, '"><script>', hostile[:8], 0.5)
    route = Route({'"><script>': 1.0}, {}, '"><script>')
    prediction = Prediction(hostile, (entity,), route, Knowledge((Neighbour(sentence, 0.5),), (known,)))
    page = whole(HtmlRenderer(['"><script>'], explain=True, title="</title><script>"), prediction)
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert parsed.paragraphs == [hostile]


@given(st.text(max_size=30), spans)
def test_html_shows_every_character(text: str, raw: list[tuple[int, int]]) -> None:
    prediction = Prediction(text, tuple(sorted_entities(text, raw)), Route(), Knowledge())
    paragraphs = Page(whole(HtmlRenderer(LABELS), prediction)).paragraphs
    assert paragraphs == ([visible(text)] if text.strip() else [])


# -- table --------------------------------------------------------------------------------------------------------


def test_table_shows_entities_and_route() -> None:
    found = whole(table(), predict("Ada lives in London.", (0, 3, "PER"), (13, 19, "LOC"), score=0.5))
    assert found.splitlines() == [
        "Ada lives in London.",
        "  label  start  end  score  text",
        "  PER        0    3  0.500  Ada",
        "  LOC       13   19  0.500  London",
        "  adapters en 0.80, fr 0.20 (mixture) · votes en 0.80, fr 0.20",
        "",
    ]


def test_table_explains() -> None:
    found = whole(table(explain=True), predict("Ada"))
    assert "no entities" in found
    assert "0.512  de        Ada schrieb." in found
    assert "PER 2 en, LOC 1 de" in found


def test_table_takes_no_markup_and_no_control_from_a_text() -> None:
    found = whole(table(colour=True), predict("[red]Ada[/red] \x1b[2J :smile: \x9b", (5, 8, "PER")))
    assert "[red]" in found
    assert "[/red]" in found
    assert ":smile:" in found
    assert "␛[2J" in found
    assert "\x1b[2J" not in found
    assert "\x9b" not in found
    assert "\x1b[" in found  # its own colours
