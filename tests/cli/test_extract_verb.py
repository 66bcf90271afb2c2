"""``retrieveall extract`` as a user types it, with a model that costs nothing."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_fakes import FakeModel, one_error
from typer.testing import Result

from retrieveall.cli import extract as module
from retrieveall.cli.render import Format

Run = Callable[..., Result]
pytestmark = pytest.mark.usefixtures("fake")


def records(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def texts(result: Result) -> list[object]:
    return [record["text"] for record in records(result)]


# -- what comes in ------------------------------------------------------------------------------------------------


def test_arguments(run: Run) -> None:
    assert texts(run("extract", "Ada in London", "")) == ["Ada in London", ""]


@pytest.mark.parametrize("text", ["nosuch.txt", "data/nosuch.CSV", "x.parquet", "x.jsonl.gz", "x.conll"])
def test_a_file_name_without_a_file_is_a_text_with_a_note(run: Run, text: str) -> None:
    result = run("extract", text)
    assert texts(result) == [text]
    assert f"note: {text!r} is treated as text; there is no such file" in result.stderr


@pytest.mark.parametrize("text", ["Ada", "Ada read notes.txt", "retrieveall.ai", "Node.js", "", ".txt"])
def test_a_text_that_is_no_file_name_has_no_note(run: Run, text: str) -> None:
    assert "such file" not in run("extract", text).stderr


def test_a_file_of_lines(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    file.write_bytes("\ufeffAda\r\n\nLondon".encode())
    assert texts(run("extract", "--input", file)) == ["Ada", "", "London"]


def test_jsonl_keeps_its_fields(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": 1, "text": "Ada"}\n\n{"text": "x", "tags": ["a"]}\n')
    first, second = records(run("extract", "-i", file))
    assert (first["id"], first["text"], second["tags"]) == (1, "Ada", ["a"])


@pytest.mark.parametrize("key", ["text", "body"])
@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_null_is_an_empty_text(run: Run, tmp_path: Path, ending: str, key: str) -> None:
    file = tmp_path / f"in.{ending}"
    file.write_text(f'{{"{key}": "Ada"}}\n{{"{key}": null, "id": 2}}\n{{"{key}": "x"}}\n')
    found = run("extract", "-i", file, "--text-column", key)
    assert texts(found) == ["Ada", "", "x"]
    assert records(found)[1]["id"] == 2


def test_null_on_standard_input_and_first(run: Run) -> None:
    assert texts(run("extract", "--input-format", "jsonl", input='{"text": null}\n{"text": "Ada"}\n')) == ["", "Ada"]


def test_compressed(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"text": "Ada"}\n'))
    assert texts(run("extract", "-i", file)) == ["Ada"]


@pytest.mark.parametrize("arguments", [[], ["-"], ["--input", "-"]])
def test_standard_input(run: Run, arguments: list[str]) -> None:
    assert texts(run("extract", *arguments, input="Ada\nLondon\n")) == ["Ada", "London"]


def test_standard_input_of_jsonl_is_recognised(run: Run) -> None:
    (record,) = records(run("extract", input='\n{"text": "Ada", "id": "a"}\n'))
    assert (record["text"], record["id"]) == ("Ada", "a")


def test_braces_alone_are_no_jsonl(run: Run) -> None:
    assert texts(run("extract", input="{Ada}\n")) == ["{Ada}"]


def test_the_input_format_can_be_forced(run: Run) -> None:
    line = '{"text": "Ada"}'
    assert texts(run("extract", "--input-format", "text", input=line)) == [line]


def test_a_folder_in_order_with_sources(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("London\nx\n")
    (tmp_path / "a.jsonl").write_text('{"text": "Ada", "source": "mine"}\n')
    (tmp_path / "c.txt").write_text("")
    (tmp_path / "ignored.pdf").write_bytes(b"\x00")
    (tmp_path / ".hidden.txt").write_text("no")
    result = run("extract", "-i", tmp_path)
    assert [(r["text"], r["source"]) for r in records(result)] == [
        ("Ada", "mine"),
        ("London", "b.txt:1"),
        ("x", "b.txt:2"),
    ]
    assert result.stderr.startswith("note: ")
    assert "c.txt is empty" in result.stderr


def test_what_a_folder_holds_beside_its_texts_is_named(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "z.txt").write_text("Ada\n")
    (folder / ".hidden.md").write_text("no")

    def notes(*options: str, output: Path = tmp_path / "out.jsonl") -> list[str]:
        result = run("extract", "-i", folder, "-o", output, *options)
        assert result.exit_code == 0, result.stderr
        return [line for line in result.stderr.splitlines() if line.startswith("note: ")]

    (folder / "a.txt").write_text("Ada\n")
    assert notes() == ["note: 1 entry of the folder was not read: deeper/"]
    for name in ("f.md", "b.csv", "c.json"):
        (folder / name).write_text('{"text": "Ada"}' if name == "c.json" else "text\nAda\n")
    assert notes() == [
        "note: 4 entries of the folder were not read: b.csv, c.json, deeper/ and 1 more; tables need --text-column"
    ]
    (folder / "a.txt").unlink()
    two = ["note: 2 entries of the folder were not read: deeper/, f.md"]
    assert notes("--text-column", "text") == two
    for _ in range(2):
        assert notes("--text-column", "text", output=folder / "out.html") == two, "not the result itself"


def test_whole_files_keep_every_offset(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x\r\nAda\n")
    (record,) = records(run("extract", "-i", tmp_path, "--whole-file"))
    assert (record["text"], record["source"]) == ("x\r\nAda\n", "a.txt")
    assert record["entities"] == [{"start": 3, "end": 6, "label": "PER", "text": "Ada", "score": 0.9}]


def test_standard_input_as_one_text(run: Run) -> None:
    assert texts(run("extract", "--whole-file", input=b"Ada\r\nLondon\n")) == ["Ada\r\nLondon\n"]


def test_a_text_that_names_a_file_gets_a_hint(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("Ada")
    result = run("extract", "notes.txt")
    assert texts(result) == ["notes.txt"]
    assert "--input notes.txt" in result.stderr


# -- options ------------------------------------------------------------------------------------------------------


def test_language_labels_and_threshold_reach_the_model(run: Run) -> None:
    (record,) = records(
        run("extract", "Ada in London", "--language", "de", "--labels", " LOC , PER", "--threshold", "0.7")
    )
    assert [entity["text"] for entity in record["entities"]] == ["Ada"]  # type: ignore[attr-defined]
    assert record["language"] == "de"


def test_model_verification_and_server(run: Run, fake: FakeModel) -> None:
    run("extract", "Ada", "--model", "some/folder", "--no-verify", "--server", "http://h:1", "--device", "cpu")
    given = {"verify": False, "server": "http://h:1", "device": "cpu", "allow_no_adapters": False}
    assert fake.opened == ("some/folder", given)  # type: ignore[attr-defined]
    run("extract", "Ada", "--allow-no-adapters")
    default = {"verify": True, "server": None, "device": None, "allow_no_adapters": True}
    assert fake.opened == ("base", default)  # type: ignore[attr-defined]


def test_batches_keep_the_order(run: Run, fake: FakeModel) -> None:
    lines = [str(i) for i in range(10)]
    assert texts(run("extract", "--batch-size", "4", input="\n".join(lines))) == lines
    assert fake.batches == [4, 4, 2]


def test_long_texts_make_short_batches(run: Run, fake: FakeModel) -> None:
    run("extract", input="\n".join(["x" * 600_000] * 3))
    assert fake.batches == [2, 1]


def test_threads_reach_the_libraries(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    assert run("extract", "Ada", "--threads", "1").exit_code == 0
    assert os.environ["OMP_NUM_THREADS"] == "1"


# -- what goes out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("a.jsonl", '{"text"'),
        ("a.NDJSON", '{"text"'),
        ("a.csv", "row,text,"),
        ("a.tsv", "row\ttext\t"),
        ("a.conll", "Ada\tB-PER"),
        ("a.html", "<!doctype"),
        ("a.txt", "Ada\n  label"),
    ],
)
def test_the_suffix_of_the_output_says_the_format(run: Run, tmp_path: Path, name: str, beginning: str) -> None:
    result = run("extract", "Ada", "-o", tmp_path / name)
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(beginning)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.jsonl.bak", "a.parquet"])
def test_an_unknown_ending_is_refused_unless_the_format_is_given(run: Run, tmp_path: Path, name: str) -> None:
    result = run("extract", "Ada", "-o", tmp_path / name)
    assert result.exit_code == 2
    assert name in result.stderr
    assert not list(tmp_path.iterdir())
    assert run("extract", "Ada", "-o", tmp_path / name, "--format", "jsonl").exit_code == 0


@pytest.mark.parametrize("format", list(Format))
def test_every_format(run: Run, format: str) -> None:
    result = run("extract", "Ada in London", "--format", format, "--explain")
    assert result.exit_code == 0
    assert "London" in result.stdout


def test_a_terminal_gets_a_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_terminal", lambda stream: True)
    assert run("extract", "Ada").stdout.splitlines()[0] == "Ada"


def test_a_failure_loses_nothing(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("precious")
    source = tmp_path / "in.txt"
    source.write_bytes(b"Ada\n" * 5 + b"\xff\n")
    one_error(run("extract", "-i", source, "-o", target, "--batch-size", "2"), "in.txt:6", "UTF-8", "0xff")
    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"in.txt", "out.jsonl"}


def test_what_stands_before_a_broken_line_is_answered(run: Run) -> None:
    result = run("extract", input=b"Ada\nLondon\n\xff\n")
    one_error(result, "<stdin>:3", "UTF-8")
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["Ada", "London"]


# -- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ("expected a file, found none",)),
        (b"", ("empty file; check the path",)),
        (b"ELF\x03\x04\x00\x00", ("binary data",)),
        (b"caf\xe9\n", ("UTF-8", "0xe9", ":1:")),
        ("Ada".encode("utf-16"), ("UTF-16",)),
    ],
)
@pytest.mark.parametrize("whole", [[], ["--whole-file"]])
def test_bad_files(
    run: Run, fake: FakeModel, tmp_path: Path, content: bytes | None, parts: tuple[str, ...], whole: list[str]
) -> None:
    file = tmp_path / "in.txt"
    if content is not None:
        file.write_bytes(content)
    if whole and content is not None and b"\xff\xfe" in content:
        parts = ("binary data",)
    one_error(run("extract", "-i", file, *whole), str(file), *parts)
    assert not hasattr(fake, "opened")  # the model was never loaded


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"%PDF-1.4\nabc\n", "a PDF"),
        (b"PK\x03\x04abc\n", "a zip archive"),
        (b"PAR1abc\n", "--input-format parquet"),
        (b"{\\rtf1 abc}\n", "rich text"),
        (b"\x1f\x8babc\n", "ending .gz"),
    ],
)
@pytest.mark.parametrize("whole", [[], ["--whole-file"]])
def test_documents_of_other_programs(
    run: Run, fake: FakeModel, tmp_path: Path, content: bytes, part: str, whole: list[str]
) -> None:
    file = tmp_path / "in.txt"
    file.write_bytes(content)
    one_error(run("extract", "-i", file, *whole), str(file), part)
    assert not hasattr(fake, "opened")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "truncated"),
        ("{a}", "invalid JSON"),
        ('["a"]', "a list"),
        ('{"id": 1}', '"text"'),
        ('{"text": 5}', "a number"),
        ('{"text": "\\ud800"}', "surrogate"),
        ("", "blank"),
    ],
)
def test_bad_jsonl(run: Run, tmp_path: Path, line: str, part: str) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(line + "\n")
    one_error(run("extract", "-i", file), str(file), part)


def test_a_text_that_is_too_long_is_named_and_those_before_it_are_answered(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieveall import arguments
    from retrieveall.data import documents

    assert documents.MAX_CHARACTERS == arguments.MAX_CHARACTERS
    monkeypatch.setattr(documents, "MAX_CHARACTERS", 8)
    file = tmp_path / "in.txt"
    file.write_text("Ada\nAda and London\n")
    result = run("extract", "--input", file)
    one_error(result, f"{file}:2", "at most 8 characters, got 14")
    assert [line["text"] for line in map(json.loads, result.stdout.splitlines())] == ["Ada"]
    one_error(run("extract", "--input", file, "--whole-file"), f"{file}: expected", "got 19")


def test_texts_before_one_of_a_wrong_type_are_answered(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "Ada"}\n{"text": "London"}\n{"text": 5}\n{"text": "Karl"}\n')
    result = run("extract", "--input", file)
    one_error(result, f"{file}:3", "a number")
    assert [line["text"] for line in map(json.loads, result.stdout.splitlines())] == ["Ada", "London"]


def test_the_speed_of_long_texts_is_told_in_characters(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    for text, shown in (("Ada " * 10 + "\n", False), ("Ada " * 5_000 + "\n", True)):
        file.write_text(text)
        said = run("extract", "--input", file, "-o", tmp_path / "out.jsonl").stderr
        assert "texts a second" in said
        assert (re.search(r"[\d,]+ characters a second, written to", said) is not None) is shown


def test_folders_without_texts(run: Run, tmp_path: Path) -> None:
    one_error(run("extract", "-i", tmp_path), ".txt, .jsonl or .ndjson", "--text-column")
    (tmp_path / "a.txt").write_text("")
    one_error(run("extract", "-i", tmp_path), "empty files only")


def test_bytes_that_are_no_text_as_argument(run: Run) -> None:
    one_error(run("extract", os.fsdecode(b"caf\xe9")), "UTF-8", "text 1", "--input")


def test_unknown_language_and_label(run: Run) -> None:
    one_error(run("extract", "Ada", "--language", "xx"), "de, en", "'xx'")
    one_error(run("extract", "Ada", "--labels", "PER,FOO"), "'FOO'")


def test_outputs_that_cannot_be_written(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    one_error(run("extract", "Ada", "-o", tmp_path / "no" / "out.jsonl"), "cannot be written", "No such file")
    assert not hasattr(fake, "opened")
    if Path("/dev/full").exists():
        one_error(run("extract", "Ada", "-o", "/dev/full"), "No space left")


@pytest.mark.parametrize(
    "arguments",
    [
        ["Ada", "--input", "x.txt"],
        ["Ada", "--threshold", "1.5"],
        ["Ada", "--threshold", "high"],
        ["Ada", "--batch-size", "0"],
        ["Ada", "--threads", "0"],
        ["Ada", "--format", "xml"],
        ["Ada", "--labels", " , "],
        ["Ada", "--nonsense"],
        ["Ada", "-o", "."],
    ],
)
def test_wrong_usage_is_2(run: Run, arguments: list[str]) -> None:
    result = run("extract", *arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert result.stdout == ""


def test_nothing_to_read_on_a_terminal_is_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_terminal", lambda stream: True)
    result = run("extract")
    assert result.exit_code == 2
    assert "got none" in result.stderr


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "1.5"])
def test_a_threshold_that_is_no_probability(run: Run, fake: FakeModel, value: str) -> None:
    found = run("extract", "Ada", "--threshold", value)
    assert found.exit_code == 2
    assert f"expected a threshold from 0 to 1, got {float(value)}" in " ".join(found.output.split())


def test_a_text_column_needs_a_table(run: Run, fake: FakeModel) -> None:
    found = run("extract", "Ada", "--text-column", "body")
    assert (found.exit_code, found.stdout) == (2, "")
    for part in ("--text-column", "expected a table as --input", "got TEXT"):
        assert part in found.stderr
    assert not hasattr(fake, "opened")
    found = run("extract", "-", "--text-column", "body", input='{"body": "Ada", "id": 1}\n')
    assert [(each["text"], each["id"]) for each in records(found)] == [("Ada", 1)]


def test_texts_beside_standard_input(run: Run, fake: FakeModel) -> None:
    found = run("extract", "Ada", "-", input="Bo")
    assert found.exit_code == 2
    assert "alone for standard input" in found.output


def test_resuming_into_a_folder_that_is_not_there(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("Ada\n")
    found = run("extract", "-i", tmp_path / "in.txt", "-o", tmp_path / "no" / "c.jsonl", "--resume")
    assert found.exit_code == 1
    assert found.stderr.rstrip().endswith("nothing was changed")


def test_a_text_that_fails_is_named_by_its_place_in_the_input(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("".join(f"Ada {name} {n}\n" for n in range(1, 6)))
    fake.failing = {"Ada b.txt 3"}
    result = run("extract", "-i", folder / "b.txt", "--batch-size", "2")
    one_error(result, "1 of 2 texts from text 3 on failed: text 3: no answer")
    assert len(result.stdout.splitlines()) == 2, "the batches before are kept"
    result = run("extract", "-i", folder, "--batch-size", "3")
    one_error(result, "texts from text 7 (b.txt:2) on failed: text 8 (b.txt:3): no answer")


def test_a_resumed_run_counts_from_the_beginning_of_the_input(run: Run, fake: FakeModel, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"Ada {n}\n" for n in range(1, 8)))
    command = ["extract", "-i", tmp_path / "in.txt", "-o", tmp_path / "out.jsonl", "--batch-size", "2", "--resume"]
    fake.failing = {"Ada 6"}
    for _ in range(2):
        one_error(run(*command), "1 of 2 texts from text 5 on failed: text 6: no answer")
    assert fake.batches == [2, 2, 2, 2], "the second run begins with the batch that failed"
