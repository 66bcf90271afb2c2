"""Files of others, checked before any library opens them: JSON, safetensors headers, pickles, code.

Nothing here unpickles, imports or fetches anything.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieveall.errors import ModelFolderError, UnsafeFileError

__all__ = ["check_safetensors", "read_json", "refuse_unsafe_weights"]

_MAX_HEADER = 100_000_000  # the limit of the safetensors library
_MAX_JSON = 16 << 20
# Bytes per element, from the format's documentation; its sub-byte types do not occur in our files.
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
_CONFIGS = ("adapter_config.json", "config.json", "generation_config.json", "tokenizer_config.json")
_CODE_KEYS = ("auto_map", "trust_remote_code")


def read_json(path: Path, *, limit: int = _MAX_JSON) -> dict[str, Any]:
    """A JSON object from a file that may be missing, huge or malformed.

    Raises:
        ModelFolderError: names the file and what is wrong with it.
    """
    try:
        if path.stat().st_size > limit:
            raise ModelFolderError(f"{path} is larger than {limit} bytes; expected a short JSON file, replace it")
        raw = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFolderError(f"{path} is missing; restore it from a copy or download the model again") from None
    except OSError as error:
        raise ModelFolderError(f"could not read {path}: {error.strerror}; check its permissions") from None
    except (ValueError, RecursionError):
        raise ModelFolderError(
            f"{path} is not valid JSON; restore it from a copy or download the model again"
        ) from None
    if not isinstance(raw, dict):
        raise ModelFolderError(f"{path}: expected a JSON object, got {type(raw).__name__}; restore it from a copy")
    return raw


def check_safetensors(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every tensor, from the header alone, once all of it is consistent with the file.

    The format: 8 bytes little-endian header length, a JSON header, the data without gap or overlap
    (https://github.com/huggingface/safetensors#format). Reads the header only, of at most 100 MB.

    Raises:
        UnsafeFileError: a pickle or archive under this name.
        ModelFolderError: missing, truncated, or a header that lies; names file and tensor.
    """
    size, header = _read_header(path)
    try:
        parsed = json.loads(header, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise _malformed(path, f"its header is no valid JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise _malformed(path, "its header is no JSON object")
    parsed.pop("__metadata__", None)
    data_size = size - 8 - len(header)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in parsed.items():
        dtype, shape, start, end = _check_tensor(path, name, entry, data_size)
        tensors[name] = dtype, shape
        spans.append((start, end, name))
    position = 0
    for start, end, name in sorted(spans):
        if start != position:
            fault = "overlaps another" if start < position else "leaves a gap before it"
            raise _malformed(path, f"tensor {name[:200]!r} {fault}")
        position = end
    if position != data_size:
        raise _malformed(path, f"it has {data_size} bytes of data where the header accounts for {position}")
    return tensors


def _read_header(path: Path) -> tuple[int, bytes]:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
            first = file.read(1)
            if 0 < length <= min(size - 8, _MAX_HEADER) and first == b"{":
                return size, first + file.read(length - 1)
    except OSError as error:
        raise ModelFolderError(f"could not read {path}: {error.strerror}; restore it from a copy") from None
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise UnsafeFileError(f"{path} is a pickle, which can run code, and was not opened; save it as safetensors")
    if length > size - 8:
        raise _malformed(path, f"its header claims {length} bytes, the file has {size}")
    raise _malformed(path, f"expected a header of 1 to {_MAX_HEADER} bytes that starts with '{{'")


def _check_tensor(path: Path, name: str, entry: Any, data_size: int) -> tuple[str, tuple[int, ...], int, int]:
    shown = f"tensor {name[:200]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _malformed(path, f"{shown} needs dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise _malformed(path, f"{shown} has the unknown dtype {str(dtype)[:40]!r}")
    if not _naturals(shape) or len(shape) > 16:
        raise _malformed(path, f"{shown} has no valid shape")
    if not _naturals(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_size:
        raise _malformed(path, f"{shown} lies outside the file")
    needed = math.prod(shape) * _BYTES[dtype]
    if offsets[1] - offsets[0] != needed:
        raise _malformed(path, f"{shown} of shape {shape} needs {needed} bytes, has {offsets[1] - offsets[0]}")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key[:200]!r} stands twice")
        found[key] = value
    return found


def _malformed(path: Path, fault: str) -> ModelFolderError:
    return ModelFolderError(f"{path} is no sound safetensors file: {fault}; restore it from a copy or train it again")


def refuse_unsafe_weights(folder: Path) -> None:
    """Refuse a folder of weights that could only be unpickled, or whose configuration names code to import.

    Pickles beside safetensors (``training_args.bin``) are tolerated: nothing here ever opens them.

    Raises:
        UnsafeFileError: names the file and the remedy.
    """
    names = [path for path in sorted(folder.iterdir()) if path.is_file()] if folder.is_dir() else []
    if not any(path.suffix == ".safetensors" for path in names):
        for path in names:
            if path.suffix.lower() in _PICKLES:
                raise UnsafeFileError(
                    f"{path} is a pickle, which can run code, and was not opened; "
                    f"convert it: model.save_pretrained(folder, safe_serialization=True)"
                )
    for name in _CONFIGS:
        path = folder / name
        if path.exists():
            for key, value in _walk(read_json(path)):
                if key in _CODE_KEYS and value:
                    raise UnsafeFileError(f"{path} asks to import code ({key!r}), which is never done; remove the key")


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            yield from current.items()
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)
