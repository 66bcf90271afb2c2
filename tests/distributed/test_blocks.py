"""Corpora in blocks without Ray: every row in one block, read as it is alone; what is finished is not done again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from number_model import NumberModel, results

from retrieveall.distributed import Corpus, Job, find_corpus, open_output
from retrieveall.distributed.worker import Cutter, Extractor
from retrieveall.errors import DataError, EngineError, InputError
from retrieveall.types import Prediction


def blocks_of(job: Job) -> list[str]:
    return [row["block"][0] for row in Cutter(job)({"file": range(len(job.corpus.files))})]


def run(job: Job, blocks: Sequence[str], model: Any = None) -> list[dict[str, Any]]:
    """The records of the blocks, from a worker of their own."""
    open_output(job.output, job.identity())
    worker = Extractor(job, lambda options: model or NumberModel())
    return [{key: value[0] for key, value in worker({"block": [block]}).items()} for block in blocks]


@pytest.mark.parametrize("block_rows", [1, 7, 64, 100, 5000])
def test_every_row_is_in_one_block_with_its_own_number(
    mixed_corpus: tuple[Path, dict[str, str]], tmp_path: Path, block_rows: int
) -> None:
    folder, rows = mixed_corpus
    corpus, empty = find_corpus(str(folder), block_rows=block_rows)
    assert empty == ["empty.txt"]
    job = Job(corpus, str(tmp_path / "out"), batch_size=16)
    blocks = blocks_of(job)
    if block_rows == 1:
        assert len(blocks) == 205 + 91 + 101 + 1
    records = run(job, blocks[::-1])
    assert not any(record["error"] for record in records)
    found = results(tmp_path / "out")
    assert {result["row_id"]: result["text"] for result in found} == rows
    assert len(found) == len(rows) == sum(record["texts"] for record in records)
    order = [file.name for file in corpus.files]
    places = [
        (order.index(result["row_id"].rpartition(":")[0]), int(result["row_id"].rpartition(":")[2])) for result in found
    ]
    assert places == sorted(places), "part files in the order of their names hold the rows in order"
    assert all(result["id"] == int(result["row_id"][10:]) for result in found if result["row_id"].startswith("a."))
    assert sum(record["bytes"] for record in records) == corpus.size


def test_blocks_of_long_lines_are_cut_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieveall.distributed.corpus._MAX_BLOCK", 100)
    monkeypatch.setattr("retrieveall.distributed.corpus._CHUNK", 64)
    lines = [f"{n} {'x' * (7 * n % 90)}" for n in range(1, 60)]
    (tmp_path / "in.txt").write_text("\n".join(lines) + "\n")
    corpus, _ = find_corpus(str(tmp_path / "in.txt"))
    blocks = list(corpus.cut(0))
    assert max(block.stop - block.start for block in blocks) < 200
    read = [(number, document.text) for block in blocks for number, document in corpus.read(block)]
    assert read == list(enumerate(lines, 1))


def test_a_block_that_loses_every_worker_ends_the_run(tmp_path: Path, write_parquet: Callable[..., Path]) -> None:
    corpus, _ = find_corpus(str(write_parquet(tmp_path / "in.parquet", 20)), block_rows=10)
    job = Job(corpus, str(tmp_path / "out"))
    open_output(job.output, job.identity())
    block = blocks_of(job)[1]
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            Extractor(job, lambda options: Lost(0))({"block": [block]})
    record = Extractor(job, lambda options: NumberModel())({"block": [block]})
    assert record["kind"] == ["EngineError"]
    assert "3 workers were lost while they predicted rows from 11" in record["error"][0]
    assert [each["error"] for each in run(job, [block])] == [""], "a new run counts anew"


class Lost(NumberModel):
    """Its worker is lost in the batch of this number."""

    def __init__(self, batch: int) -> None:
        self.left = batch

    def predict(self, texts: Sequence[str], **options: Any) -> list[Prediction]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().predict(texts, **options)


def test_a_lost_worker_leaves_nothing_half_and_nothing_is_done_twice(
    tmp_path: Path, write_parquet: Callable[..., Path]
) -> None:
    corpus, _ = find_corpus(str(write_parquet(tmp_path / "in.parquet", 100)), block_rows=20)
    job = Job(corpus, str(tmp_path / "out"), batch_size=5)
    blocks = blocks_of(job)
    with pytest.raises(KeyboardInterrupt):
        run(job, blocks, Lost(10))
    assert len(results(tmp_path / "out")) == 40
    assert list((tmp_path / "out" / "_retrieveall" / "writing").glob("part-000000-000002*"))
    (tmp_path / "out" / "part-000000-000001.jsonl").write_text("damaged\n")  # finished, and changed since
    records = run(job, blocks)
    assert [record["before"] for record in records] == [True, False, False, False, False]
    assert [result["row_id"] for result in results(tmp_path / "out")] == [f"in.parquet:{n}" for n in range(1, 101)]


def test_other_settings_and_other_folders_are_refused(tmp_path: Path, write_parquet: Callable[..., Path]) -> None:
    source = write_parquet(tmp_path / "in.parquet", 10)
    out = str(tmp_path / "out")

    def job(**options: Any) -> Job:
        corpus, _ = find_corpus(str(source), block_rows=options.pop("block_rows", 5))
        return Job(corpus, out, **options)

    run(job(), blocks_of(job()))
    open_output(out, job(batch_size=3).identity())  # which changes no result
    for options, said in [
        ({"labels": ["NUM"]}, "labels: None then"),
        ({"threshold": 0.5}, "threshold: None then, 0.5 now"),
        ({"block_rows": 4}, "block rows: 5 then, 4 now"),
        ({"language": "de"}, "language"),
        ({"knowledge": True}, "explain"),
    ]:
        with pytest.raises(InputError, match=said):
            open_output(out, job(**options).identity())
    write_parquet(source, 11)
    with pytest.raises(InputError, match="another input"):
        open_output(out, job().identity())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=r"new or empty folder.*mine\.txt"):
        open_output(str(tmp_path / "full"), {})


def cut_and_read(path: Path, **options: Any) -> None:
    corpus: Corpus
    corpus, _ = find_corpus(str(path), **options)
    for index in range(len(corpus.files)):
        for block in corpus.cut(index):
            list(corpus.read(block))


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("in.parquet", b"no parquet", {}, "in.parquet: cannot be read as Parquet"),
        ("in.parquet", b"PAR1 and no more", {}, "in.parquet: the file is truncated"),
        ("in.jsonl", b'{"text": "a"}\n{"text": 5}\n', {}, "in.jsonl:2: "),
        ("in.jsonl", b'{"text": "a"}\nnothing\n', {"block_rows": 1}, "in.jsonl:2: "),
        ("in.jsonl", b'{"body": "a"}\n', {"column": "bdy"}, r"in.jsonl:1: expected a column 'bdy'.*'body'"),
        ("in.txt", b"a\nb\nc\xe9\n", {"block_rows": 1}, "in.txt:3: expected UTF-8"),
        ("in.txt", b"a\nb\0\n", {"block_rows": 1}, "in.txt:2: .*NUL"),
        ("in.txt", b"a\n", {"column": "text"}, "expected tables"),
        ("in.json", b'["a"]', {}, "in.json:1: expected a JSON object, got a string"),
        ("in.json", b"[]", {}, "in.json: expected JSON objects with the key 'text'"),
        ("in.json", b'[{"text": "a"},\n {"text": "b', {}, "in.json:2: .*truncated"),
        ("in.json", b'[{"text": "\xe9"}]', {}, "in.json:1: expected UTF-8"),
        ("in.json.gz", b"no gzip\n", {}, "in.json.gz: cannot be read"),
        ("in.csv", b"text\na\n", {}, "expected Parquet, JSONL, JSON or text.*in.csv"),
        ("in.txt", b"", {}, "empty files only"),
        ("in.txt.gz", b"no gzip\n", {}, "in.txt.gz: cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, options: dict[str, Any], said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        cut_and_read(tmp_path / name, **options)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_file_is_one_block_of_numbered_objects(tmp_path: Path, indent: int | None) -> None:
    objects = [{"body": f"row {n} \U0001f600", "k": n} for n in range(1, 201)]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(objects, indent=indent, ensure_ascii=False))
    with gzip.open(folder / "b.json.gz", "wt") as stream:
        json.dump(objects[0], stream, indent=indent)
    (folder / "c.json").write_text("\n\n".join(map(json.dumps, objects[:2])))
    corpus, _ = find_corpus(str(folder), column="body", block_rows=10)
    job = Job(corpus, str(tmp_path / "out"))
    blocks = blocks_of(job)
    assert len(blocks) == 3
    assert sum(record["bytes"] for record in run(job, blocks)) == corpus.size
    rows = [(f"a.json:{n}", n) for n in range(1, 201)] + [("b.json.gz:1", 1), ("c.json:1", 1), ("c.json:3", 2)]
    found = results(tmp_path / "out")
    assert [(result["row_id"], result["k"]) for result in found] == rows
    assert {result["text"] for result in found} == {each["body"] for each in objects}


def test_json_in_a_folder_is_read_only_if_it_is_asked_for(tmp_path: Path, write_parquet: Callable[..., Path]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "data.json").write_text('[{"text": "a"}]')
    with pytest.raises(DataError, match="JSON in a folder needs --text-column"):
        find_corpus(str(folder))
    write_parquet(folder / "a.parquet", 3)

    def names(**options: Any) -> list[str]:
        return [file.name for file in find_corpus(str(folder), **options)[0].files]

    assert names() == ["a.parquet"]
    assert names(column="text") == ["a.parquet", "data.json"]
    (folder / "a.parquet").unlink()
    assert names(format="json") == ["data.json"]


def test_values_that_json_cannot_hold_are_counted_once_a_block(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = ['{"text": "a", "x": NaN, "y": [1, -Infinity]}', '{"text": "b", "x": 1.5}', '{"text": "c", "x": Infinity}']
    source.write_text("".join(f"{line}\n" for line in lines))
    corpus, _ = find_corpus(str(source), block_rows=2)
    job = Job(corpus, str(tmp_path / "out"))
    blocks = blocks_of(job)
    for before in (False, True):
        records = run(job, blocks)
        assert [(record["numbers"], record["binary"], record["before"]) for record in records] == [
            (2, 0, before),
            (1, 0, before),
        ]
    record = tmp_path / "out" / "_retrieveall" / "done" / "000000-000000.json"
    kept = json.loads(record.read_text())
    record.write_text(json.dumps({key: kept[key] for key in ("texts", "entities", "unknown", "bytes")}))
    assert [each["numbers"] for each in run(job, blocks)] == [0, 1], "an earlier version did not count them"


def test_no_corpus(tmp_path: Path, write_parquet: Callable[..., Path]) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="found none; check the path"):
            find_corpus(str(path))
    with pytest.raises(DataError, match="nothing://here: cannot be opened"):
        find_corpus("nothing://here")
    source = write_parquet(tmp_path / "in.parquet", 3, column="body")
    with pytest.raises(DataError, match=r"expected a column 'text', got 'id', 'body'"):
        cut_and_read(source)


def test_a_fault_in_one_file_is_a_record_that_names_it(tmp_path: Path, write_parquet: Callable[..., Path]) -> None:
    write_parquet(tmp_path / "in" / "a.parquet", 3)
    (tmp_path / "in" / "b.parquet").write_bytes(b"nothing")
    corpus, _ = find_corpus(str(tmp_path / "in"))
    job = Job(corpus, str(tmp_path / "out"))
    good, bad = run(job, blocks_of(job))
    assert (good["texts"], good["error"]) == (3, "")
    assert bad["kind"] == "DataError"
    assert "b.parquet" in bad["error"]


class Refusing(NumberModel):
    """Its engine fails on one text."""

    def predict(self, texts: Sequence[str], **options: Any) -> list[Prediction]:
        failures = {number: "no answer" for number, text in enumerate(texts) if text == "row 37"}
        if failures:
            raise EngineError.of_items(failures, [None] * len(texts), "text")
        return super().predict(texts, **options)


def test_a_text_that_the_engine_fails_on_is_named_by_its_row(
    tmp_path: Path, write_parquet: Callable[..., Path]
) -> None:
    corpus, _ = find_corpus(str(write_parquet(tmp_path / "in.parquet", 50)), block_rows=25)
    job = Job(corpus, str(tmp_path / "out"), batch_size=10)
    good, bad = run(job, blocks_of(job), Refusing())
    assert good["error"] == ""
    assert (bad["kind"], bad["error"]) == ("EngineError", "1 of 10 texts failed: in.parquet:37: no answer")


def test_uris_are_read_and_written_as_paths_are(tmp_path: Path, write_parquet: Callable[..., Path]) -> None:
    write_parquet(tmp_path / "in put" / "a.parquet", 30)
    corpus, _ = find_corpus((tmp_path / "in put").as_uri(), block_rows=20)
    job = Job(corpus, (tmp_path / "out put").as_uri() + "/")
    assert [record["texts"] for record in run(job, blocks_of(job))] == [20, 10]
    assert [record["before"] for record in run(job, blocks_of(job))] == [True, True]
    assert [json.loads(json.dumps(result))["row_id"] for result in results(tmp_path / "out put")][-1] == "a.parquet:30"
