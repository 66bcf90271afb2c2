"""Every file that was cut off, wherever it is read, is called truncated in one line that names file and place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from retrieveall.config import ModelConfig, TrainingConfig, dump_yaml, load_yaml
from retrieveall.data import read_corpus, write_corpus
from retrieveall.data.formats import FORMATS
from retrieveall.errors import ConfigError, DataError, ModelFolderError, RetrieveAllError
from retrieveall.storage import check_safetensors, is_truncated, read_json, why_not_json
from retrieveall.types import Entity, Sentence

SENTENCES = [
    Sentence(f'Émile „Zola“ lived in "Köln" {number}', (Entity(0, 5, "PER", "Émile"),), "en", f"s{number}")
    for number in range(3)
]
_LINES = ("conll", "csv", "text", "brat")
"""What is cut off between two lines cannot be told from a whole file."""


def one_line(error: pytest.ExceptionInfo[RetrieveAllError], path: Path, *parts: str) -> str:
    said = str(error.value)
    assert "\n" not in said
    assert str(path) in said
    for part in ("truncated", *parts):
        assert part in said, said
    return said


def test_why_a_text_is_no_json() -> None:
    """Whatever it is cut after, a text is truncated, unless what is left is whole."""
    whole = json.dumps({"a": ['x\n\u00e9"', True, None, -1.5e3], "b": {"c": "\u5317"}})
    for text in (whole, json.dumps(json.loads(whole), indent=1)):
        for size in range(1, len(text)):
            with pytest.raises(json.JSONDecodeError) as caught:
                json.loads(text[:size])
            assert "truncated" in why_not_json(caught.value), text[:size]
    for text in (
        "{'a': 1}",
        '{"a" 1}',
        '{"a": tru3}',
        '{"a": "\\x"}',
        "[1,]",
        "nonsense",
        '{"a": 1} x',
        '{"a": "x\n"}',
    ):
        with pytest.raises(json.JSONDecodeError) as caught:
            json.loads(text)
        assert "truncated" not in why_not_json(caught.value), text
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("  ")
    assert "empty" in why_not_json(caught.value)
    with pytest.raises(RecursionError) as deep:
        json.loads("[" * 1_000_000)
    assert "deep" in why_not_json(deep.value)


def test_the_place_is_in_the_message() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads('{\n "a": 1,\n "b": "xy')
    assert "line 3, column 10" in why_not_json(caught.value)


@pytest.mark.parametrize("name", [each.name for each in FORMATS if each.name not in _LINES])
def test_corpora(tmp_path: Path, name: str) -> None:
    """Of every format that has an end or records with an end, cut anywhere."""
    format = next(each for each in FORMATS if each.name == name)
    path = tmp_path / f"corpus{format.endings[0] if format.endings else '.jsonl'}"
    write_corpus(SENTENCES, path, format=name)
    whole = path.read_bytes()
    read = list(read_corpus(path, format=name))
    lines = whole.count(b"\n") == len(SENTENCES) and whole.startswith((b"{", b"["))
    steps = {*range(16, len(whole) - 1, max(1, len(whole) // 25))}
    steps |= {whole.index(b"\n") + place for place in (-1, 0, 1, 2)} if lines else set()
    for size in sorted(steps):
        path.write_bytes(whole[:size])
        kept = whole[:size].rstrip(b"\n")
        if lines and whole[len(kept) : len(kept) + 1] == b"\n":
            assert list(read_corpus(path, format=name)) == read[: kept.count(b"\n") + 1]
            continue
        with pytest.raises(DataError) as caught:
            list(read_corpus(path, format=name))
        said = one_line(caught, path)
        if lines:
            assert said.startswith(f"{path}:{kept.count(bytes([10])) + 1}: "), said
    for size in (len(whole) // 2 + 1, len(whole) * 2 // 3 + 7):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError) as caught:
            list(read_corpus(path))
        one_line(caught, path)


@pytest.mark.parametrize("name", ["one.json", "one.jsonl"])
def test_a_corpus_of_which_only_a_part_of_the_first_text_is_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"text": "Ada in Lon')
    with pytest.raises(DataError) as caught:
        list(read_corpus(path))
    one_line(caught, path)


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.tsv", "x.csv"])
def test_a_text_that_ends_inside_a_character(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    beginning = {"x.csv": "token,tag\nA,O\n", "x.tsv": "A\tO\n"}.get(name, '[\n{"text": "')
    path.write_bytes((beginning + "北京").encode()[:-1])
    with pytest.raises(DataError) as caught:
        list(read_corpus(path, language="zh"))
    one_line(caught, path)
    path.write_bytes(beginning.encode() + b"caf\xe9 x\n")
    with pytest.raises(DataError, match="expected UTF-8"):
        list(read_corpus(path, language="zh"))


def test_a_table_that_ends_inside_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('token,tag\nAda,B-PER\n"Lon')
    with pytest.raises(DataError) as caught:
        list(read_corpus(path))
    one_line(caught, path, ":3: ")


@pytest.mark.parametrize("ending", [".gz", ".xz"])
def test_compressed_corpora(tmp_path: Path, ending: str) -> None:
    import lzma

    path = tmp_path / f"x.tsv{ending}"
    pack = gzip.compress if ending == ".gz" else lzma.compress
    path.write_bytes(pack(b"Ada\tB-PER\n" * 500)[:-9])
    with pytest.raises(DataError) as caught:
        list(read_corpus(path))
    one_line(caught, path)


EXTRACT = {
    "lines.jsonl": '{"text": "Ada"}\n{"text": "Lon',
    "other.jsonl": '{"body": "Ada"}\n{"body": "Lon',
    "table.csv": 'id,text\n1,Ada\n2,"Lon',
    "table.tsv": 'id\ttext\n1\tAda\n2\t"Lon\nd',
    "text.txt": b"Ada\nK\xc3",
    "whole.txt": b"Ada\nK\xc3",
}


@pytest.mark.parametrize("name", EXTRACT)
def test_the_input_of_extract(tmp_path: Path, name: str) -> None:
    from retrieveall.cli.inputs import Reader

    path, content = tmp_path / name, EXTRACT[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    column = "body" if name == "other.jsonl" else "text" if name.startswith("table") else None
    documents = iter(Reader(str(path), column=column, whole_file=name == "whole.txt"))
    if name != "whole.txt":
        assert next(documents).text == "Ada"
    with pytest.raises(DataError) as caught:
        list(documents)
    one_line(caught, path, *([":2: "] if name.endswith(("jsonl", "txt")) and name != "whole.txt" else []))


def test_tables(tmp_path: Path) -> None:
    """Of texts for extract, of tokens, and of a model's knowledge."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    from retrieveall.data.tables import read_parquet
    from retrieveall.knowledge.files import read_table

    table = pa.table({"text": ["Ada"] * 50})
    path = tmp_path / "x.parquet"
    pq.write_table(table, path)
    whole = path.read_bytes()
    assert not is_truncated(path)
    readers: dict[Callable[[], object], type[RetrieveAllError]] = {
        lambda: list(read_parquet(path, None)): DataError,
        lambda: list(read_corpus(path)): DataError,
        lambda: read_table(path, table.schema): ModelFolderError,
    }
    for size in (8, len(whole) // 2, len(whole) - 5, len(whole) - 1):
        path.write_bytes(whole[:size])
        for read, kind in readers.items():
            with pytest.raises(kind) as caught:
                read()
            one_line(caught, path)


def test_weights(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    from safetensors.numpy import save

    path = tmp_path / "x.safetensors"
    whole = save({"a": np.zeros((3, 4), np.float32), "b": np.ones(5, np.int32)}, {"format": "pt"})
    path.write_bytes(whole)
    check_safetensors(path)
    for size in range(9, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFolderError) as caught:
            check_safetensors(path)
        one_line(caught, path)
    for other in (whole + b"x", b"\x08" + whole[1:], b"no weights at all, and long enough"):
        path.write_bytes(other)
        assert not is_truncated(path) or other[0] != 8


def test_settings_and_json_of_a_model(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "retrieveall.yaml"
    for whole in ("name: x\nlabels: [{name: PER}, {name", 'name: "x', "name: x\nprompt: {template: plain"):
        path.write_text(whole)
        with pytest.raises(ConfigError) as caught:
            load_yaml(ModelConfig, path)
        one_line(caught, path, "line ", "column ")
    settings = dump_yaml(TrainingConfig())
    path.write_text(settings[: len(settings) // 2])
    with suppress(ConfigError):  # what is cut off between two settings cannot be told
        load_yaml(TrainingConfig, path)
    config = tmp_path / "config.json"
    config.write_bytes((tiny_model / "backbone" / "config.json").read_bytes()[:-20])
    with pytest.raises(ModelFolderError) as broken:
        read_json(config)
    one_line(broken, config, "line ")


def test_what_is_no_yaml_or_holds_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for content, part in (
        (b"PK\x03\x04\x00\x00", "binary"),
        (b"caf\xe9: 1", "not UTF-8"),
        (b"a: b: c", "line 1, column 5"),
        (b"just a text", "got a text"),
        (b"- a\n- b", "got a list"),
        (b"7", "got int"),
        (b"a: &x [*x]\n<<: 1", "x.yaml"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=part) as caught:
            load_yaml(TrainingConfig, path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    with pytest.raises(ConfigError, match="directory"):
        load_yaml(TrainingConfig, tmp_path)
    assert yaml.safe_load(dump_yaml(TrainingConfig()))


def test_reports_and_results_of_a_benchmark(tmp_path: Path) -> None:
    from retrieveall.benchmark.saved import read_saved, read_saved_lines
    from retrieveall.evaluation import EvaluationReport

    path = tmp_path / "x.json"
    path.write_text('{"format": 1, "languages": {"de"')
    for read in (EvaluationReport.load, read_saved, lambda each: list(read_saved_lines(each))):
        with pytest.raises(DataError) as caught:
            read(path)
        one_line(caught, path)
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    with pytest.raises(DataError) as caught:
        list(read_saved_lines(path, "a"))
    one_line(caught, path, f"{path}:3: ")
    path.write_text('{"b": 1}')
    with pytest.raises(DataError, match="it has no 'a'"):
        read_saved(path, "a")
    with pytest.raises(DataError, match="No such file"):
        read_saved(tmp_path / "none.json")


def test_a_file_of_the_manifest(model_copy: Path) -> None:
    from retrieveall.model_folder import ModelFolder

    file = model_copy / "retrieveall.yaml"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ModelFolderError) as caught:
        ModelFolder.open(model_copy, verify=False)
    one_line(caught, file)
    manifest = model_copy / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    with pytest.raises(ModelFolderError) as caught:
        ModelFolder.open(model_copy)
    one_line(caught, manifest)
