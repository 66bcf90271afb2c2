"""Hugging Face ``datasets``: tokens with tags in Parquet, Arrow or JSON files, or a folder of them.

Tags are strings, or numbers that the files name (``ClassLabel``). Read with pyarrow: the package ``datasets`` is only
needed for the hub.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from retrieveall.data.conll import TaggedSentence, rows_of
from retrieveall.data.files import Text, replacing
from retrieveall.data.formats import tagged
from retrieveall.data.formats.annotations import check_all_read
from retrieveall.data.formats.base import Item, Reading, Source, note_left_out
from retrieveall.data.formats.records import first_records, records
from retrieveall.data.hub import TAG_COLUMNS, tagged_row, token_columns
from retrieveall.data.jsonl import write_jsonl
from retrieveall.data.schemes import Scheme
from retrieveall.data.segmentation import segment
from retrieveall.data.splits import SPLITS
from retrieveall.errors import DataError
from retrieveall.storage import is_truncated
from retrieveall.types import Sentence

__all__ = ["Datasets"]

_INFO, _STATE, _DICT = "dataset_info.json", "state.json", "dataset_dict.json"
_PARQUET, _ARROW_FILE, _ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_METADATA = b"huggingface"
_BATCH = 1000


class Datasets:
    """A folder of ``save_to_disk``, a folder of Parquet files, one of those files, or JSON of tokens and tags."""

    name = "datasets"
    title = "Hugging Face datasets"
    endings: tuple[str, ...] = (".parquet",)
    of_tokens = True

    def recognise(self, source: Source) -> bool:
        if source.folder:
            return bool(_files(source)) or (source.path / _DICT).is_file()
        if source.head.startswith((_PARQUET, _ARROW_FILE, _ARROW_STREAM)):
            return True
        return any(map(_fits, first_records(source)))

    def read(self, source: Source, reading: Reading) -> Iterator[Item]:
        if source.folder:
            note_left_out(source.path, "tables", reading.notes, (".parquet", ".arrow", _INFO, _STATE, _DICT))
            sentences = _of_tables(_chosen(source), source.name, reading)
        elif source.head.startswith((_PARQUET, _ARROW_FILE, _ARROW_STREAM)):
            source.bytes.close()
            sentences = _of_tables([source.path], source.name, reading)
        else:
            sentences = _of_json(source, reading)
        return tagged.items(sentences, reading)

    def write(self, sentences: Iterable[Sentence], target: Text, scheme: Scheme = "iob2") -> int:
        """Write a Parquet file with class names, or JSON lines where the ending asks for them."""
        worded = (sentence for sentence in sentences if segment(sentence.text))
        if isinstance(target, Path) and target.suffix == ".parquet":
            return _write_parquet((_row(sentence, scheme) for sentence in worded), target)
        return write_jsonl(worded, target, lambda sentence, number: _row(sentence, scheme))


def _fits(value: Any) -> bool:
    if not isinstance(value, dict) or "tokenized_text" in value:
        return False
    try:
        tokens, tags = token_columns(value, "")
    except DataError:
        return False
    return isinstance(value[tokens], list) and isinstance(value[tags], list)


def _of_json(source: Source, reading: Reading) -> Iterator[TaggedSentence]:
    names: Sequence[str] | None = None
    for number, where, value in records(source, reading.report):
        try:
            own = next((key for key in TAG_COLUMNS if isinstance(value, dict) and key in value), TAG_COLUMNS[0])
            check_all_read(value, (own,), Datasets.name, Datasets.title)
            tokens, tags = token_columns(value if isinstance(value, dict) else (), where)
            names = names or _names_beside(source.path, tags)
            if value[tokens]:
                yield tagged_row(value[tokens], value[tags], names, source.name, number)
        except DataError as error:
            reading.report(error)
        except ValueError as error:
            reading.report(DataError(f"{where}: {error}"))


def _names_beside(file: Path, tags: str) -> Sequence[str] | None:
    """The class names from ``dataset_info.json`` in the folder of a file."""
    info = file.parent / _INFO
    if not info.is_file():
        return None
    try:
        return _class_names(json.loads(info.read_text("utf-8")), tags)
    except ValueError:
        raise DataError(f"{info}: expected JSON, got something else; restore the file") from None


def _class_names(info: Any, tags: str) -> Sequence[str] | None:
    """The names of the classes in the description of a data set."""
    features = info.get("features", {}) if isinstance(info, dict) else {}
    feature = features.get(tags, {}) if isinstance(features, dict) else {}
    inner = feature.get("feature", {}) if isinstance(feature, dict) else {}
    names = inner.get("names") if isinstance(inner, dict) else None
    return names if isinstance(names, list) else None


def _files(source: Source) -> list[Path]:
    """The tables of a folder; those of a split, if one is chosen."""
    root = source.path
    if (root / _DICT).is_file():
        root = next((root / name for name in _names_of(source.split) if (root / name).is_dir()), root)
        return sorted(root.glob("*.arrow")) if root != source.path else []
    if (root / _STATE).is_file():
        found = sorted(root.glob("*.arrow"))
    else:  # as the hub lays them out: beside the card, in ``data/``, or in a folder a configuration
        found = sorted((*root.glob("*.parquet"), *root.glob("*/*.parquet")))
    if source.split:
        found = [file for file in found if file.stem.partition("-")[0] in _names_of(source.split)]
    for file in found:
        if not file.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{file}: expected a file inside {root}, got a link to outside it; copy the file")
    return found


def _names_of(split: str) -> tuple[str, ...]:
    return SPLITS.get(split, (split,)) if split else ()


def _chosen(source: Source) -> list[Path]:
    """The tables to read.

    Raises:
        DataError: none, or those of several splits.
    """
    found = _files(source)
    if not found:
        there = sorted(folder.name for folder in source.path.iterdir() if folder.is_dir())
        raise DataError(
            f"{source.path}: expected the split of the data set, as in {source.path.name}?split=train "
            f"({', '.join(there)[:80] or 'none found'}), got {source.split or 'none'}"
        )
    splits = {file.stem.partition("-")[0] for file in found if file.suffix == ".parquet"}
    if len(splits) > 1:
        raise DataError(
            f"{source.path}: expected one split, got {', '.join(sorted(splits))[:80]}; choose, as in "
            f"{source.path.name}?split=train"
        )
    return found


def _of_tables(files: Sequence[Path], where: str, reading: Reading) -> Iterator[TaggedSentence]:
    number = 0
    for file in files:
        for words, values, names in _rows(file):
            number += 1
            if not words:
                continue
            try:
                yield tagged_row(words, values, names, where, number)
            except DataError as error:
                reading.report(error)


def _rows(file: Path) -> Iterator[tuple[Any, Any, Sequence[str] | None]]:
    """Tokens, tags and class names of every row of a table."""
    import pyarrow as pa

    try:
        schema, batches = _open_table(file)
        tokens, tags = token_columns(schema.names, str(file))
        names = _names_in(schema.metadata or {}, tags) or _names_beside(file, tags)
        for batch in batches:
            yield from (
                (words, values, names)
                for words, values in zip(batch.column(tokens).to_pylist(), batch.column(tags).to_pylist(), strict=True)
            )
    except (pa.ArrowException, OSError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        fault = "the file is truncated" if is_truncated(file) else "expected a Parquet or Arrow table"
        raise DataError(f"{file}: {fault} ({detail}); restore the file") from None


def _open_table(file: Path) -> tuple[Any, Iterator[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open("rb") as stream:
        start = stream.read(6)
    if start.startswith(_PARQUET):
        table = pq.ParquetFile(file)
        return table.schema_arrow, table.iter_batches(_BATCH)
    if start.startswith(_ARROW_FILE):
        reader = pa.ipc.open_file(file)
        return reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
    stream_reader = pa.ipc.open_stream(pa.memory_map(str(file)))
    return stream_reader.schema, iter(stream_reader)


def _names_in(metadata: Mapping[bytes, bytes], tags: str) -> Sequence[str] | None:
    try:
        return _class_names(json.loads(metadata.get(_METADATA, b"{}")).get("info"), tags)
    except (ValueError, AttributeError):
        return None


def _row(sentence: Sentence, scheme: Scheme) -> dict[str, Any]:
    rows = rows_of(sentence, scheme)
    row: dict[str, Any] = {"id": sentence.id, "language": sentence.language or ""}
    return row | {"tokens": [token for token, _ in rows], "ner_tags": [tag for _, tag in rows]}


def _write_parquet(rows: Iterable[dict[str, Any]], target: Path) -> int:
    """Write rows in groups; the class names are known, and written, at the end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("language", pa.string()),
            ("tokens", pa.list_(pa.string())),
            ("ner_tags", pa.list_(pa.int64())),
        ]
    )
    numbers: dict[str, int] = {"O": 0}
    count = 0
    with replacing(target) as path, pq.ParquetWriter(path, schema, store_schema=False) as writer:
        for batch in _batches(rows):
            count += len(batch)
            for row in batch:
                row["ner_tags"] = [_number(tag, numbers) for tag in row["ner_tags"]]
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
        writer.add_key_value_metadata({_METADATA: _description(list(numbers))})
    return count


def _number(tag: str, numbers: dict[str, int]) -> int:
    """The number of a tag; with a label, all its tags get theirs."""
    if tag not in numbers:
        label = tag.partition("-")[2]
        for prefix in "BI" if tag[0] in "BI" else "BIES":
            numbers.setdefault(f"{prefix}-{label}", len(numbers))
    return numbers[tag]


def _description(names: list[str]) -> bytes:
    text = {"dtype": "string", "_type": "Value"}
    features = {
        "id": text,
        "language": text,
        "tokens": {"feature": text, "_type": "Sequence"},
        "ner_tags": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"},
    }
    return json.dumps({"info": {"features": features}}).encode()


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
