"""Tensors and tables of the knowledge: checked before they are used, written whole or not at all."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieveall.errors import ModelFolderError
from retrieveall.storage import Manifest, check_safetensors, is_truncated, write_atomic

__all__ = [
    "Checksums",
    "column",
    "copy_files",
    "encode_labels",
    "int32",
    "integers",
    "make_table",
    "read_table",
    "read_tensors",
    "write_table",
    "write_tensors",
]

_MAX_TABLE = 1 << 31  # bytes of a table in memory: a small file can claim to unpack to anything


class Checksums:
    """Compares files with a manifest when they are first used, so that opening an index reads none of them."""

    def __init__(self, manifest: Manifest | None) -> None:
        self._manifest = manifest
        self._compared: set[str] = set()

    def compare(self, name: str) -> None:
        """Compare a file, or all files of a folder, with the manifest, if there is one; the second call does nothing.

        Raises:
            ModelFolderError: missing, truncated or altered.
        """
        if self._manifest is not None and name not in self._compared:
            self._manifest.verify(name)
            self._compared.add(name)


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a safetensors file."""
    from safetensors.numpy import save

    write_atomic(path, save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def read_tensors(path: Path, expected: Mapping[str, tuple[Any, int]]) -> dict[str, npt.NDArray[Any]]:
    """Read a safetensors file that holds exactly ``expected``: name to (dtype, number of axes).

    Raises:
        ModelFolderError: missing or malformed file, missing or extra tensor, wrong type or rank, not finite.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    check_safetensors(path)
    try:
        tensors: dict[str, npt.NDArray[Any]] = load_file(path)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise ModelFolderError(f"{path} is not a readable safetensors file ({error}); index again") from None
    if set(tensors) != set(expected):
        raise ModelFolderError(f"{path}: expected the tensors {sorted(expected)}, got {sorted(tensors)}; index again")
    for name, (dtype, axes) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != dtype or tensor.ndim != axes:
            raise ModelFolderError(
                f"{path}: expected '{name}' as {np.dtype(dtype).name} with {axes} axes, "
                f"got {tensor.dtype} {list(tensor.shape)}; index again"
            )
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise ModelFolderError(f"{path}: '{name}' holds NaN or infinity; index again")
    return tensors


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy files byte for byte into the folder ``target``; nothing happens where it is ``source``.

    Raises:
        ModelFolderError: a file is missing or cannot be written.
    """
    if source.resolve() == target.resolve():
        return
    for name in names:
        try:
            data = (source / name).read_bytes()
        except OSError as error:
            raise ModelFolderError(f"could not read {source / name}: {error.strerror}; index again") from None
        write_atomic(target / name, data)


def make_table(schema: Any, columns: Sequence[Sequence[Any]]) -> Any:
    """An Arrow table of ``columns`` in the order of ``schema``."""
    import pyarrow as pa

    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def write_table(path: Path, table: Any) -> None:
    """Write an Arrow table as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    # Hardly a text stands in a column twice: without Parquet's dictionaries the files are 15 to 30% smaller.
    pq.write_table(table, sink, compression="zstd", compression_level=19, use_dictionary=False)
    write_atomic(path, sink.getvalue().to_pybytes())


def read_table(path: Path, schema: Any) -> Any:
    """Read a Parquet file of exactly the columns of ``schema``, without a null anywhere.

    Raises:
        ModelFolderError: missing or malformed file, other columns, nulls, or more than 2 GB unpacked.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
            if size > _MAX_TABLE:
                raise ModelFolderError(f"{path} unpacks to {size} bytes, more than {_MAX_TABLE}; index again")
            if not file.schema_arrow.equals(schema):
                names = file.schema_arrow.names
                raise ModelFolderError(f"{path}: expected the columns {schema.names}, got {names}; index again")
            table = file.read(use_threads=False).combine_chunks()
        table.validate(full=True)
    except FileNotFoundError:
        raise ModelFolderError(f"expected {path}, found none; index again") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        fault = "is truncated" if is_truncated(path) else "is not a readable Parquet file"
        raise ModelFolderError(f"{path} {fault} ({detail}); index again") from None
    for name in schema.names:
        values = column(table, name)
        if values.null_count or (pa.types.is_list(values.type) and values.values.null_count):
            raise ModelFolderError(f"{path}: '{name}' has empty values; index again")
    pa.default_memory_pool().release_unused()  # a third of what reading took
    return table


def column(table: Any, name: str) -> Any:
    """A column as one array."""
    import pyarrow as pa

    chunks = table.column(name)
    return chunks.chunk(0) if chunks.num_chunks else pa.array([], type=chunks.type)


def integers(values: Any) -> array[int]:
    """An int32 column as an array whose items are cheap to read one by one, at 4 bytes each where a list takes 40."""
    return array("i", int32(values).tobytes())


def int32(values: Any) -> npt.NDArray[np.int32]:
    """An int32 column without a copy. ``np.asarray`` would import pandas, where that is installed."""
    data = values.buffers()[1]
    if data is None:
        return np.zeros(0, np.int32)
    return np.frombuffer(data, np.int32)[values.offset : values.offset + len(values)]


def encode_labels(values: Any) -> tuple[list[str], array[int]]:
    """The different texts of a column, and the number of each item's: without ``pyarrow.compute``, which
    ``dictionary_encode`` takes a fifth of a second to import.
    """
    items: list[str] = values.to_pylist()
    codes = {name: number for number, name in enumerate(dict.fromkeys(items))}
    return list(codes), array("i", map(codes.__getitem__, items))
