"""What measuring reads and counts, with a model that answers from a table; values worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from recipes.measure.__main__ import parse
from recipes.measure.card import render_card
from recipes.measure.documents import documents_of, measure_documents
from recipes.measure.ordinary import measure_not_in_the_pool, measure_ordinary, parse_marked, read_ordinary
from recipes.measure.pairs import SentencePair, measure_pairs, pairs_of
from recipes.measure.panx import measure_panx
from recipes.measure.run import Inputs, parts_to_run
from recipes.measure.running import RunningSet, measure_running, negatives, read_running, score_set, summarise
from recipes.measure.speed import texts_of_words
from recipes.measure.tables import compare, render
from recipes.raw_text import raw_text
from retrieveall.errors import DataError, InputError
from retrieveall.types import Entity, Knowledge, Prediction, Route, Sentence


class TableModel:
    """Finds the (mention, label, probability) that ``answers`` gives for a text; routes Latin letters to English."""

    languages = ("en", "ko")

    def __init__(self, answers: Mapping[str, Sequence[tuple[str, str, float]]], reason: str = "vote") -> None:
        self.answers = answers
        self.reason = reason

    def predict(self, texts: Sequence[str], *, language: str | None = None) -> list[Prediction]:
        return [self._prediction(text) for text in texts]

    def _prediction(self, text: str) -> Prediction:
        entities = [
            Entity(text.index(mention), text.index(mention) + len(mention), label, mention, score)
            for mention, label, score in self.answers.get(text, ())
        ]
        route = Route({"en" if text.isascii() else "ko": 1.0}, reason=self.reason)
        return Prediction(text, tuple(sorted(entities)), route, Knowledge())


@pytest.fixture
def ner(tmp_path: Path) -> Path:
    """Two English sets and a Korean one."""
    files = {
        "train/en/news": "Ada\tB-PER\nleft\tO\nUlm\tB-LOC\n.\tO\n\nIt\tO\nrained\tO\n.\tO\n\nHe\tO\nsaid\tO\nso\tO\n",
        "measure/en/web": "Bob\tB-PER\nsang\tO\n!\tO\n",
        "train/ko/klue": "서울에서\tB-LOC\n만났다.\tO\n\n비가\tO\n왔다.\tO\n",
    }
    for name, lines in files.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "validation.tsv").write_text(lines, encoding="utf-8")
    return tmp_path


ANSWERS = {
    "Ada left Ulm.": [("Ada", "PER", 0.9), ("Ulm", "ORG", 0.6)],
    "It rained.": [("It", "PER", 0.5)],
    "서울에서 만났다.": [("서울", "LOC", 0.8)],
}


def test_sets_are_read_from_both_folders(ner: Path) -> None:
    sets = read_running(ner)
    assert [(each.name, each.language, each.texts) for each in sets] == [
        ("en/news", "en", ["Ada left Ulm.", "It rained.", "He said so"]),
        ("en/web", "en", ["Bob sang!"]),
        ("ko/klue", "ko", ["서울에서 만났다.", "비가 왔다."]),
    ]
    assert [each.texts for each in read_running(ner, sets=["en/news"], limit=1)] == [["Ada left Ulm."]]
    assert [each.name for each in read_running(ner, languages=["ko"])] == ["ko/klue"]
    with pytest.raises(InputError, match="en/none"):
        read_running(ner, sets=["en/none"])
    with pytest.raises(InputError, match="check --ner"):
        read_running(ner / "train")


def test_running_text_is_scored_by_set_and_language(ner: Path) -> None:
    found = measure_running(TableModel(ANSWERS), read_running(ner))
    news, korean = found["sets"]["en/news"], found["sets"]["ko/klue"]
    # One of three predictions is right, one of two gold entities is found: 2 * 1 / (3 + 2).
    assert (news["precision"], news["recall"], news["f1"]) == pytest.approx((1 / 3, 1 / 2, 2 / 5))
    assert korean["f1"] == 1.0, "서울 is widened to 서울에서"
    assert found["languages"]["en"]["f1"] == pytest.approx((2 / 5 + 0) / 2)
    assert found["mean"]["f1"] == pytest.approx((1 / 5 + 1) / 2)
    # 0.9 and 0.8 are right, 0.6 and 0.5 wrong, each in a bin of its own.
    assert found["calibration_error"] == pytest.approx((0.1 + 0.2 + 0.6 + 0.5) / 4)
    assert news["routed_right"] == korean["routed_right"] == 1.0
    assert negatives(found) == {
        "sets": {
            "en/news": {"entity_free": 2, "spurious": 1, "rate": 0.5},
            "en/web": {"entity_free": 0, "spurious": 0, "rate": None},
            "ko/klue": {"entity_free": 1, "spurious": 0, "rate": 0.0},
        },
        "entity_free": 3,
        "spurious": 1,
        "rate": pytest.approx(1 / 3),
    }


def test_documents_are_sentences_of_a_set_a_line_each(ner: Path) -> None:
    news, _, korean = (documents_of(each, 2) for each in read_running(ner))
    assert news.texts == ["Ada left Ulm.\nIt rained.", "He said so"]
    [first, _] = news.sentences
    assert [first.sentence.text[e.start : e.end] for e in first.sentence.entities] == ["Ada", "Ulm"]
    assert [first.sentence.text[start:end] for start, end in first.tokens[3:6]] == [".", "It", "rained"]
    assert korean.texts == ["서울에서 만났다.\n비가 왔다."]
    answers = {news.texts[0]: [("Ada", "PER", 0.9), ("It", "PER", 0.9)]}
    found = measure_documents(TableModel(answers), read_running(ner))  # ten sentences, so all of a set
    assert found["sets"]["en/news"]["sentences"] == 1
    assert found["sets"]["en/news"]["f1"] == 0.0


def test_other_labels_do_not_count() -> None:
    text = "Ada met Bob"
    gold = raw_text(Sentence(text, (Entity(0, 3, "PER"), Entity(8, 11, "MISC")), "en"))
    score = score_set([gold], [[Entity(0, 3, "PER", score=0.5), Entity(4, 7, "MISC", score=0.5)]])
    assert score.as_json()["f1"] == 1.0
    assert score.judged == ((0.5, True),)


def test_unknown_routes_are_counted(ner: Path) -> None:
    found = measure_running(TableModel({}, reason="fallback"), read_running(ner))
    assert found["mean"]["unknown_routes"] == 1.0
    assert found["sets"]["en/news"]["reasons"] == {"fallback": 3}
    assert found["calibration_error"] is None


def test_measures_that_a_set_lacks_have_no_mean() -> None:
    found = summarise({"fr/a": {"f1": 0.5}, "fr/b": {"f1": 1.0}, "ru/c": {"f1": 0.25}})
    assert found["languages"] == {"fr": {"f1": 0.75}, "ru": {"f1": 0.25}}
    assert found["mean"] == {"f1": 0.5}


def test_marks_become_entities() -> None:
    text, entities = parse_marked(r"⟦PER|Angela\nMerkel⟧ in\t⟦LOC|Ulm⟧, C:\temp|\\n")
    assert text == "Angela\nMerkel in\tUlm, C:\temp|\\\n"
    assert entities == (Entity(0, 13, "PER", "Angela\nMerkel"), Entity(17, 20, "LOC", "Ulm"))
    assert all(text[each.start : each.end] == each.text for each in entities)


@pytest.mark.parametrize("wrong", ["⟦PER|Ada", "Ada⟧", "⟦PER⟧", "⟦|Ada⟧", "⟦DATE|1900⟧", "⟦PER|⟧", "⟦PER|⟦LOC|Ulm⟧⟧"])
def test_a_wrong_mark_is_an_error_with_its_line(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text(f"# comment\n\nshort\tUlm\nshort\t{wrong}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r":4: expected ⟦LABEL\|mention⟧"):
        read_ordinary(tmp_path / "texts")
    (tmp_path / "texts").write_text("short Ulm\n", encoding="utf-8")
    with pytest.raises(DataError, match=":1: expected a kind"):
        read_ordinary(tmp_path / "texts")


def test_ordinary_texts_are_scored_exactly(tmp_path: Path) -> None:
    lines = "# kinds\nshort\tIn ⟦LOC|Ulm⟧\nno name\tHello\nno name\tBye\ncase\tNO ONE\ncase\t⟦PER|ADA⟧\n"
    (tmp_path / "texts").write_text(lines, encoding="utf-8")
    answers = {"In Ulm": [("Ulm", "LOC", 0.9)], "Hello": [("Hello", "PER", 0.4)], "ADA": [("ADA", "ORG", 0.5)]}
    found = measure_ordinary(TableModel(answers), read_ordinary(tmp_path / "texts"))
    assert (found["texts"], found["texts_right"], found["correct"], found["predicted"], found["gold"]) == (
        5,
        3,
        1,
        3,
        2,
    )
    assert {kind: each["f1"] for kind, each in found["kinds"].items()} == {"short": 1.0, "no name": 0.0, "case": 0.0}
    assert (found["no_name_rate"], found["unmarked_texts"]) == (0.5, 3)
    assert found["unmarked_rate"] == pytest.approx(1 / 3)
    assert [(miss["text"], miss["missed"], miss["wrong"]) for miss in found["misses"]] == [
        ("Hello", [], ["Hello"]),
        ("ADA", ["ADA"], ["ADA"]),
    ]


def test_texts_of_other_languages() -> None:
    found = measure_not_in_the_pool(TableModel({"Ada": [("Ada", "PER", 0.5)]}, reason="unknown"), ["Ada", "Αθήνα"])
    assert (found["unknown_routes"], found["with_entities"]) == (1.0, 0.5)


def running(language: str, *texts: str, corpus: str = "a") -> RunningSet:
    return RunningSet(f"{language}/{corpus}", tuple(raw_text(Sentence(text, (), language)) for text in texts))


def test_pairs_are_of_sentences_in_a_row() -> None:
    first = running("en", "One.", "Two ! ”", "Three", "Four.", "Five\nlines.", "Six.", "Seven")
    second = running("en", "A.", "B", corpus="b")
    # "Two!”" ends a sentence but is in a pair already, "Three" ends none, "Five" holds a line break.
    assert pairs_of([first, second]) == [("One.", "Two!”"), ("A.", "B"), ("Six.", "Seven")]
    assert pairs_of([first, second], 2) == [("One.", "Two!”"), ("A.", "B")]


@pytest.mark.parametrize(
    ("start", "end", "crosses"),
    [(0, 4, False), (0, 6, False), (0, 7, True), (4, 7, False), (6, 9, False), (3, 9, True)],
)
def test_an_entity_crosses_with_characters_of_both_sentences(start: int, end: int, crosses: bool) -> None:
    pair = SentencePair.joined("Ulm.", "\n\n", "Ada")
    assert pair.text == "Ulm.\n\nAda"
    assert pair.is_crossed_by(Entity(start, end, "LOC")) is crosses


def test_crossing_entities_are_counted_by_join() -> None:
    sets = [running("en", "He left Ulm.", "Ada sang."), running("zh", "他走了。", "我也走了。")]
    answers = {
        "He left Ulm. Ada sang.": [("Ulm. Ada", "PER", 0.5)],
        "He left Ulm.\tAda sang.": [("Ulm", "LOC", 0.5), ("Ada", "PER", 0.5)],
        "他走了。我也走了。": [("。我", "PER", 0.5)],
    }
    found = measure_pairs(TableModel(answers), sets)
    assert found["languages"] == {
        "en": {"pairs": 1, "joined": 1.0, "line breaks": 0.0, "tab": 0.0},
        "zh": {"pairs": 1, "joined": 1.0, "line breaks": 0.0, "tab": 0.0},
    }
    assert found["mean"]["joined"] == 1.0
    assert [each["text"] for each in found["crossing"]] == ["Ulm. Ada", "。我"]


def test_texts_have_the_same_number_of_words() -> None:
    sets = [running("en", "a b , c", "d e"), running("ja", "いろは", "にほへ")]
    assert texts_of_words(sets, count=9, words=3) == ["a b ,", "いろは", "c d e", "にほへ"]
    assert texts_of_words(sets, count=1, words=4) == ["a b , c", "いろはに"]


def test_panx_is_what_evaluate_gives(ner: Path) -> None:
    (ner / "en").mkdir()
    lines = "Ada\tB-PER\nleft\tO\nUlm\tB-LOC\n.\tO\n\nIt\tO\nrained\tO\n"
    (ner / "en" / "validation.tsv").write_text(lines, encoding="utf-8")
    model = TableModel({"Ada left Ulm .": [("Ada", "PER", 0.5)]})
    found = measure_panx(model, ner, ["de", "en"])
    assert list(found["languages"]) == ["en"]
    assert found["languages"]["en"]["f1"] == pytest.approx(2 / 3)
    assert measure_panx(model, ner, ["en"], limit=1)["languages"]["en"]["sentences"] == 1
    with pytest.raises(InputError, match=r"test\.tsv"):
        measure_panx(model, ner, ["en"], split="test")


def test_parts_need_their_inputs(ner: Path) -> None:
    assert parts_to_run(Inputs(ner=ner), None) == ["running", "negatives", "pairs", "documents", "speed"]
    assert parts_to_run(Inputs(ner=ner), ["speed", "running"]) == ["running", "speed"]
    for inputs, only in ((Inputs(ner=ner), ["panx"]), (Inputs(ner=ner), ["other"]), (Inputs(), None)):
        with pytest.raises(InputError):
            parts_to_run(inputs, only)


def test_tables_show_every_figure(ner: Path, tmp_path: Path) -> None:
    model = TableModel(ANSWERS)
    texts = tmp_path / "texts"
    texts.write_text("no name\tIt rained.\n", encoding="utf-8")
    everyday = tmp_path / "everyday"
    everyday.write_text("en\t⟦PER|It⟧ rained.\nen no name\tIt rained again.\n", encoding="utf-8")
    running_results = measure_running(model, read_running(ner))
    results: dict[str, Any] = {
        "model": "table",
        "provenance": {"commit": "0" * 40, "modified": False, "date": "", "manifest_sha256": None, "machine": {}},
        "running": running_results,
        "negatives": negatives(running_results),
        "ordinary": measure_ordinary(model, read_ordinary(texts)),
        "everyday": measure_ordinary(model, read_ordinary(everyday)),
        "not_in_the_pool": measure_not_in_the_pool(model, ["Αθήνα"]),
        "pairs": measure_pairs(model, read_running(ner)),
    }
    results = json.loads(json.dumps(results))
    shown = render(results)
    assert "| en/news | 3 | 40.0 | 33.3 | 50.0 | 100.0 | 0.0 |" in shown
    assert "| **all** | 3 | 1 | 33.3 |" in shown
    assert "- 'It rained.': marked nothing; found PER 'It'" in shown
    assert "Texts of kind “no name” with an entity: 100.0; of all 1 texts without a mark: 100.0." in shown
    assert "Of the 1 texts without a mark: 0.0 have an entity." in shown
    assert "| everyday, F1 | 100.0 | – |" in compare([results, {"model": "none"}])
    assert "| running, mean of languages, F1 | 60.0 | – |" in compare([results, {"model": "none"}])


def test_the_command_line() -> None:
    args = parse(["--out", "x.json", "--sets", "en/btc, ko/kmou", "--only", "running"])
    assert (args.model, args.limit, args.split) == ("base", 400, "validation")
    assert (args.sets, args.only) == (("en/btc", "ko/kmou"), ("running",))


def test_a_card_holds_the_tables_of_a_measurement_and_not_what_was_missed() -> None:
    missed = {"kind": "case", "text": "a text that was missed", "gold": [], "predicted": []}
    kinds = {
        "case": {"texts": 1, "texts_right": 0, "gold": 1, "predicted": 0, "f1": 0.0, "precision": 0.0, "recall": 0.0}
    }
    ordinary = {**kinds["case"], "kinds": kinds, "no_name_rate": 0.0, "unmarked_texts": 0, "unmarked_rate": 0.0}
    origin = {"commit": "abc", "modified": False, "manifest_sha256": None, "date": "2026", "machine": {}}
    results = {"ordinary": {**ordinary, "misses": [missed]}, "provenance": origin}
    card = render_card("# Card\n\n{origin}\n\n{ordinary}\n", results)
    assert "| case | 1 | 0 | 1 | 0 |" in card
    assert "commit abc" in card
    assert "missed" not in card
    assert "{" not in card
