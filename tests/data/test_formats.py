"""Every format of corpora: round trips, files as tools write them, repairs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from format_samples import BERLIN, EXACT_TEXTS, SPANS, TEXT, TRIPLES, Write, found, sentence

from retrieveall.data import read_corpus, validate, write_corpus
from retrieveall.data.formats import FORMATS
from retrieveall.errors import DataError, InputError

EXACT = [format.name for format in FORMATS if not format.of_tokens and format.name != "text"]
OF_TOKENS = [format.name for format in FORMATS if format.of_tokens]
ENDINGS = {"docbin": ".spacy", "brat": "", "datasets": ".parquet", "csv": ".csv", "conll": ".conll"}


@pytest.mark.parametrize("name", EXACT)
def test_texts_and_spans_survive_any_format_of_text(tmp_path: Path, name: str) -> None:
    pytest.importorskip("msgpack")
    target = tmp_path / f"x{ENDINGS.get(name, '.json')}"
    assert write_corpus(EXACT_TEXTS, target, format=name) == 3
    corpus = read_corpus(target)
    back = list(corpus)
    assert (corpus.format.name, corpus.notes) == (name, [])
    assert [(each.text, each.entities) for each in back] == [(each.text, each.entities) for each in EXACT_TEXTS]
    if name != "brat":  # which has neither ids nor languages
        assert back == EXACT_TEXTS


@pytest.mark.parametrize("name", OF_TOKENS)
@pytest.mark.parametrize("scheme", ["iob2", "iob1", "bioes"])
def test_tokens_and_tags_survive_any_format_of_tokens(tmp_path: Path, name: str, scheme: str) -> None:
    texts = [
        sentence("Ada Lovelace in Berlin , Rom", ("Ada Lovelace", "PER"), ("Berlin", "LOC"), ("Rom", "LOC")),
        sentence('# nichts , ; " hier'),
    ] * 3
    target = tmp_path / f"x{ENDINGS.get(name, '.jsonl')}"
    write_corpus(texts, target, format=name, scheme=scheme)  # type: ignore[arg-type]
    corpus = read_corpus(target)
    assert [(each.text, each.entities) for each in corpus] == [(each.text, each.entities) for each in texts]
    assert corpus.format.name == name


def test_tags_of_a_data_set_are_strings_in_json_lines(tmp_path: Path) -> None:
    write_corpus(EXACT_TEXTS[:1], tmp_path / "x.jsonl", format="datasets")
    row = json.loads((tmp_path / "x.jsonl").read_text("utf-8"))
    assert row["ner_tags"] == ["B-PER", "O", "O", "B-LOC", "O"]
    corpus = read_corpus(tmp_path / "x.jsonl")
    assert [entity.label for entity in next(corpus).entities] == ["PER", "LOC"]
    assert corpus.format.name == "datasets"


LS_VALUE = {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}
LS_REGION = {"value": LS_VALUE, "from_name": "label", "to_name": "text", "type": "labels"}
LS_SECOND = {"value": {"start": 13, "end": 19, "text": "Berlin", "labels": ["LOC"]}, "type": "labels"}
LS_RESULT = [LS_REGION, LS_SECOND, {"type": "choices", "value": {"choices": ["good"]}}, {"type": "relation"}]
LS_TASK = {"id": 1, "data": TEXT, "annotations": [{"result": LS_RESULT}]}
PAIR = [BERLIN[0], {"entities": TRIPLES}]
TOKENS = {"tokens": ["Ada", "wohnt", "in", "Berlin."], "ner_tags": ["B-PER", "O", "O", "B-LOC"]}

JSON_FILES: dict[str, tuple[str, object]] = {
    "own": ("jsonl", TEXT | {"id": 7, "entities": SPANS}),
    "own, in an array": ("jsonl", [TEXT | {"entities": SPANS}]),
    "doccano": ("doccano", TEXT | {"id": 3, "label": TRIPLES}),
    "doccano without id": ("doccano", TEXT | {"label": TRIPLES}),
    "doccano, labels": ("doccano", TEXT | {"labels": TRIPLES, "Comments": []}),
    "doccano, data": ("doccano", {"id": 3, "data": BERLIN[0], "label": TRIPLES}),
    "doccano, relations": (
        "doccano-relations",
        TEXT
        | {
            "entities": [
                {"id": 1, "start_offset": each["start"], "end_offset": each["end"], "label": each["label"]}
                for each in SPANS
            ],
            "relations": [{"from_id": 1, "to_id": 1, "type": "x"}],
        },
    ),
    "prodigy": ("prodigy", TEXT | {"spans": SPANS, "answer": "accept", "_input_hash": 1, "tokens": [{"text": "Ada"}]}),
    "prodigy without answer": ("prodigy", TEXT | {"spans": SPANS}),
    "label studio": ("label-studio", [LS_TASK]),
    "label studio, old": ("label-studio", [{"data": TEXT, "completions": LS_TASK["annotations"]}]),
    "label studio, other field": ("label-studio", [LS_TASK | {"data": {"url": "x", "body": BERLIN[0]}}]),
    "label studio, flat": ("label-studio", [TEXT | {"id": 1, "ner": [LS_VALUE, LS_SECOND["value"]], "annotator": 1}]),
    "label studio, one task": ("label-studio", LS_TASK),
    "spacy": ("spacy-jsonl", TEXT | {"entities": TRIPLES}),
    "spacy, pairs": ("spacy-jsonl", [PAIR]),
    "spacy, annotator": ("spacy-jsonl", {"classes": ["PER", "LOC"], "annotations": [PAIR, None]}),
    "spacy, ents": ("spacy-jsonl", TEXT | {"ents": SPANS, "tokens": [{"id": 0}]}),
    "datasets": ("datasets", TOKENS),
    "gliner": ("gliner", {"tokenized_text": TOKENS["tokens"], "ner": [[0, 0, "PER"], [3, 3, "LOC"]]}),
}


@pytest.mark.parametrize("indent", [None, 1], ids=["one line", "indented"])
@pytest.mark.parametrize(("name", "content"), JSON_FILES.values(), ids=JSON_FILES)
def test_json_is_recognised_by_its_content(write: Write, name: str, content: object, indent: int | None) -> None:
    path = write("x.txt", json.dumps(content, indent=indent, ensure_ascii=False))
    corpus = read_corpus(path)
    assert corpus.format.name == name
    [(text, mentions)] = found(path)
    assert text == BERLIN[0]
    assert [label for _, label in mentions] == ["PER", "LOC"]
    assert mentions[0] == ("Ada", "PER")
    if not corpus.format.of_tokens:
        assert (text, mentions) == BERLIN


ROWS = "Ada B-PER\nwohnt O\nin O\nBerlin B-LOC\n. O\n"
FOUR = "Ada NE B-NP B-PER\nwohnt VV B-VP O\nin AP B-PP O\nBerlin NE B-NP B-LOC\n. $. O O\n"
COLUMN_FILES: dict[str, tuple[str, str]] = {
    "comments": ("conll", "# sent_id = 1\n# text = Ada wohnt in Berlin.\n" + ROWS),
    "two sentences with comments": ("conll", "# id 1 domain=de\n" + FOUR),
    "CoNLL-2003": ("conll", "-DOCSTART- -X- -X- O\n\n" + FOUR),
    "Label Studio": ("conll", "-DOCSTART- -X- O\n" + ROWS.replace(" ", " -X- _ ")),
    "global columns": ("conll", "# global.columns = text ner\n" + ROWS),
    "header": ("conll", "Word POS Tag\n" + ROWS.replace(" ", " XY ")),
    "tags first": ("conll", "\n".join("\t".join(reversed(row.split())) for row in ROWS.splitlines())),
    "GermEval": (
        "conll",
        "#\thttp://example.org\t[2009]\n"
        + "".join(f"{i}\t{t}\t{g}\t{n}\n" for i, (t, g, n) in enumerate(
            [("Ada", "B-PER", "O"), ("wohnt", "O", "O"), ("in", "O", "O"), ("Berlin", "B-LOC", "B-ORG"),
             (".", "O", "O")],
            1,
        )),
    ),
    "Universal NER": (
        "conll",
        "".join(f"{i}\t{row.replace(' ', chr(9))}\t-\tann\n" for i, row in enumerate(ROWS.splitlines(), 1)),
    ),
    "BMES": ("conll", ROWS.replace("B-PER", "S-PER").replace("B-LOC", "S-LOC")),
    "tabs and blanks at the end": ("conll", ROWS.replace(" ", "\t").replace("\n", "\t\n")),
    "Kaggle": (
        "csv",
        "Sentence #,Word,POS,Tag\n" + "".join(
            f"{'Sentence: 1' if i == 0 else ''},{row.split()[0]},XY,{row.split()[1]}\n"
            for i, row in enumerate(ROWS.splitlines())
        ),
    ),
    "CSV with blank rows": ("csv", "token,tag\n" + ROWS.replace(" ", ",") + "\n,\n"),
    "CSV with semicolons and quotes": (
        "csv", 'id;word;ner\n' + "".join(f'1;"{row.split()[0]}";{row.split()[1]}\n' for row in ROWS.splitlines())
    ),
    "CSV without header": ("csv", ROWS.replace(" ", ",")),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content"), COLUMN_FILES.values(), ids=COLUMN_FILES)
def test_the_token_and_the_tag_are_found_among_columns(write: Write, name: str, content: str) -> None:
    path = write("x", content)
    assert read_corpus(path).format.name == name
    assert found(path) == [("Ada wohnt in Berlin .", [("Ada", "PER"), ("Berlin", "LOC")])]


def test_the_column_that_is_not_read_is_told(write: Write) -> None:
    corpus = read_corpus(write("x", COLUMN_FILES["GermEval"][1]))
    list(corpus)
    assert corpus.notes == [f"1 files with several columns of tags; column 3 is read, 4 is not (first: {corpus.name})"]


def test_sentence_ids_separate_sentences(write: Write) -> None:
    path = write("x.csv", "Sentence #,Word,Tag\nSentence: 1,Rom,B-LOC\n,ruft,O\nSentence: 2,Bonn,B-LOC\n")
    assert found(path) == [("Rom ruft", [("Rom", "LOC")]), ("Bonn", [("Bonn", "LOC")])]


def test_spaces_are_left_out_where_the_file_says_so(write: Write) -> None:
    rows = "Berlin\tB-LOC\tSpaceAfter=No\n.\tO\t_\nAch\tO\tNoSpaceAfter\n!\tO\t_\n"
    assert found(write("x", rows)) == [("Berlin. Ach!", [("Berlin", "LOC")])]


def test_a_file_without_sentence_breaks_is_an_error(write: Write) -> None:
    with pytest.raises(DataError, match=r"100001: .*at most 100,000 tokens"):
        found(write("x.conll", "a O\n" * 100_001))


def test_answers_that_were_not_accepted_are_left_out_and_counted(write: Write) -> None:
    lines = [TEXT | {"spans": SPANS, "answer": answer} for answer in ("accept", "reject", "ignore", "reject")]
    corpus = read_corpus(write("x.jsonl", "\n".join(map(json.dumps, lines))))
    assert len(list(corpus)) == 1
    assert [note.partition(" (")[0] for note in corpus.notes] == [
        "2 texts left out with the answer 'reject'",
        "1 texts left out with the answer 'ignore'",
    ]
    rejected = write("y.jsonl", TEXT | {"answer": "reject", "_input_hash": 1})
    with pytest.raises(DataError, match=r"at least one sentence, got none .1 texts left out with the answer 'reject'"):
        found(rejected)


def test_of_several_annotations_the_ground_truth_or_the_latest_counts(write: Write) -> None:
    def annotation(label: str, **more: object) -> dict[str, object]:
        return {"result": [{"type": "labels", "value": LS_VALUE | {"labels": [label]}}], **more}

    tasks = [
        {"data": TEXT, "annotations": [annotation("A", ground_truth=True), annotation("B")]},
        {"data": TEXT, "annotations": [annotation("A", updated_at="2026-02"), annotation("B", updated_at="2026-01")]},
        {"data": TEXT, "annotations": [annotation("A"), annotation("B")]},
        {"data": TEXT, "annotations": [annotation("A"), annotation("B", was_cancelled=True)]},
        {"data": TEXT, "annotations": [annotation("B", was_cancelled=True)]},
        {"data": TEXT, "annotations": [], "predictions": [annotation("B")]},
    ]
    corpus = read_corpus(write("x.json", tasks))
    assert [each.entities[0].label for each in corpus] == ["A", "A", "B", "A"]
    assert [note.partition(" ")[0] for note in corpus.notes] == ["3", "2"]


def test_a_region_that_is_no_span_of_text_is_refused(write: Write) -> None:
    region = {"type": "hypertextlabels", "value": {"start": "/p[1]", "hypertextlabels": ["PER"]}}
    with pytest.raises(DataError, match=r"x\.json:1: expected regions of plain text"):
        found(write("x.json", [{"data": TEXT, "annotations": [{"result": [region]}]}]))


EMOJI = "👩🏻‍🚀 Ada"


@pytest.mark.parametrize(
    "length", [len(EMOJI), len(EMOJI.encode("utf-16-le")) // 2, len(EMOJI.encode())], ids=["points", "UTF-16", "bytes"]
)
def test_offsets_in_other_units_are_found_out_by_the_text(write: Write, length: int) -> None:
    value = {"start": length - 3, "end": length, "text": "Ada", "labels": ["PER"]}
    tasks = [{"data": {"text": EMOJI}, "annotations": [{"result": [{"type": "labels", "value": value}]}]}]
    corpus = read_corpus(write("x.json", tasks))
    assert [entity.text for entity in next(corpus).entities] == ["Ada"]
    usual = length != len(EMOJI.encode())  # Label Studio counts UTF-16 units, and earlier code points
    assert [note.partition(",")[0] for note in corpus.notes] == (
        [] if usual else ["1 texts with offsets in UTF-8 bytes"]
    )


def test_offsets_in_other_units_are_refused_where_nothing_shows_them(write: Write) -> None:
    path = write("x.jsonl", {"text": EMOJI, "label": [[7, 10, "PER"]]})
    with pytest.raises(DataError, match=r"x\.jsonl:1: .*got start 7 and end 10 in '.*these may be UTF-16 units"):
        found(path)


def test_repairs_are_counted_with_the_first_place(write: Write) -> None:
    text = "Ada Lovelace  in Berlin."
    spans = [[0, 13, "PER"], [0, 3, "PER"], [13, 14, "X"], [17, 23, "Ort der Welt"], [17, 23, "Ort der Welt"]]
    path = write("x.jsonl", {"text": text, "label": spans})
    corpus = read_corpus(path)
    assert [(each.text, each.label) for each in next(corpus).entities] == [
        ("Ada Lovelace", "PER"),
        ("Berlin", "Ort_der_Welt"),
    ]
    assert sorted(corpus.notes) == [
        f"1 spans cut to their text, without the blanks at the edges (first: {path}:1: 'Ada Lovelace ')",
        f"1 spans left out that overlap a longer or an earlier one (first: {path}:1: 'Ada')",
        f"1 spans of white space left out (first: {path}:1: {text!r})",
        f"1 spans written twice, read once (first: {path}:1: 'Berlin')",
        f"2 spans with the label 'Ort der Welt', read as 'Ort_der_Welt' (first: {path}:1)",
    ]


REFUSED: dict[str, tuple[str, object, str]] = {
    "prose": ("x.txt", "Ein Satz.\nNoch einer.\n", "got 'Ein Satz.' and nothing that fits"),
    "labels of texts": ("x.jsonl", TEXT | {"label": ["good"]}, "'label', of a format that is not known"),
    "unknown annotation": ("x.jsonl", TEXT | {"ner": {"PER": ["Ada"]}}, "'ner', of a format that is not known"),
    "JSON of something else": ("x.json", {"a": 1}, "in one of the formats doccano, .*, conll"),
    "cut JSON": ("x.json", '[{"text": "a", "entities": []}, {"text": ', "the file is truncated"),
    "zip": ("x.zip", b"PK\x03\x04....", "unpack it first"),
    "HTML": ("x.html", "<html><body>a</body></html>", "nothing that fits"),
    "tags without a prefix": ("x.tsv", "Ada\tPER\nin\tO\nRom\tLOC\n", "expected a tag such as"),
    "UTF-16": ("x.json", '[{"text": "a"}]'.encode("utf-16"), "iconv -f UTF-16"),
    "Latin-1": ("x.csv", "Word,Tag\nK\xf6ln,B-LOC\n".encode("latin-1"), "x.csv:2: .*iconv -f LATIN1"),
    "past the end": ("x.jsonl", TEXT | {"label": [[13, 99, "LOC"]]}, r"x\.jsonl:1: .*13 and end 99 in 'Ada wohnt"),
    "empty": ("x.unknown", "", "empty file"),
    "numbers without names": ("x.json", [{"tokens": ["a"], "ner_tags": [0]}], "must name them"),
    "other text": ("x.jsonl", TEXT | {"entities": [SPANS[0] | {"text": "Eva"}]}, "'Ada', the text at 0 to 3"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_one_line_and_never_text_without_entities(
    write: Write, name: str, content: object, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        found(write(name, content))
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_text(write: Write) -> None:
    for name, content in {
        "a": ROWS,
        "b": json.dumps([TEXT | {"label": TRIPLES}]),
        "c": "Word,Tag\nAda,B-PER\n",
    }.items():
        assert found(write(name, "\ufeff" + content))[0][0].startswith("Ada")


@pytest.mark.parametrize("length", [10, 70_000, 600_000])
def test_long_records_are_recognised_and_arrays_stream(write: Write, length: int) -> None:
    text = BERLIN[0] + ' "}]\\[{' * (length // 7)
    tasks = [LS_TASK | {"data": {"text": text}}] * 4
    path = write("x.json", tasks)
    corpus = read_corpus(path)
    assert [len(each.entities) for each in corpus] == [2] * 4
    assert corpus.format.name == "label-studio"


def test_errors_in_an_array_name_the_line_of_the_element(write: Write) -> None:
    tasks = [TEXT | {"entities": SPANS}, TEXT | {"entities": [SPANS[0] | {"end": 99}]}, {"text": "x"}]
    path = write("x.json", json.dumps(tasks, indent=1))
    line = path.read_text().split("\n").index(" {", 2) + 1
    report = validate({"x": path})
    assert [problem.where for problem in report.problems] == [f"{path}:{line}"]
    assert report.splits["x"].sentences == 2


def test_a_first_page_without_entities_does_not_decide_the_format(write: Write) -> None:
    lines = [TEXT | {"entities": []}] * 3000 + [TEXT | {"entities": TRIPLES}]
    assert found(write("x.jsonl", "\n".join(map(json.dumps, lines))))[-1] == BERLIN


def test_the_ending_says_in_which_format_to_write(tmp_path: Path) -> None:
    endings = [ending for format in FORMATS for ending in format.endings]
    assert len(endings) == len(set(endings)), "an ending stands for one format"
    for name in ("x.json", "x", "x.xlsx", "x.jsonl.gz"):
        with pytest.raises(InputError, match="expected a file ending that stands for a format"):
            write_corpus(EXACT_TEXTS, tmp_path / name)
    with pytest.raises(InputError, match="expected a format out of doccano"):
        write_corpus(EXACT_TEXTS, tmp_path / "x", format="xml")
    with pytest.raises(InputError, match="a format that holds entities"):
        write_corpus(EXACT_TEXTS, tmp_path / "x", format="text")


def test_a_file_without_entities_is_a_warning_with_its_format(write: Write) -> None:
    path = write("x.jsonl", TEXT | {"entities": []})
    report = validate({"x": path})
    assert [str(problem) for problem in report.problems] == [
        f"{path}: no entity in 1 sentences, read as JSONL of this library"
    ]
    assert report.ok
