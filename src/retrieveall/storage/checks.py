"""Untrusted files, checked before a library loads them: JSON, safetensors headers, pickles, code.

Nothing here unpickles, imports or fetches anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from typing import Any

from retrieveall.errors import ModelFolderError, UnsafeFileError
from retrieveall.storage.truncation import is_truncated, why_not_json

__all__ = ["check_safetensors", "file_size", "read_json", "refuse_unsafe_weights"]

_MAX_JSON = 16 << 20
_PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
_CONFIGS = ("adapter_config.json", "config.json", "generation_config.json", "tokenizer_config.json")
_CODE_KEYS = ("auto_map", "trust_remote_code")


def read_json(path: Path, *, limit: int = _MAX_JSON) -> dict[str, Any]:
    """Read a JSON object from a file that may be missing, huge or malformed.

    Raises:
        ModelFolderError: names the file and what is wrong with it.
    """
    if file_size(path) > limit:
        raise ModelFolderError(f"{path} is larger than {limit} bytes; expected a short JSON file, replace it")
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFolderError(f"could not read {path}: {error.strerror}; check its permissions") from None
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(
            f"{path}: expected JSON, but {why_not_json(error)}; restore it from a copy or download the model again"
        ) from None
    if not isinstance(raw, dict):
        raise ModelFolderError(f"{path}: expected a JSON object, got {type(raw).__name__}; restore it from a copy")
    return raw


def check_safetensors(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every tensor, from the header alone.

    ``safe_open`` refuses a header that is too long, not JSON, or does not agree with the file: unknown dtypes, shapes
    that do not fit their bytes, bytes that overlap or belong to no tensor. This adds an error of its own for a pickle,
    and for a named pipe, on which ``safe_open`` would block. Values are not checked: loaders look for NaN.

    Raises:
        UnsafeFileError: a pickle or archive.
        ModelFolderError: missing, truncated or malformed; names the file, and the tensor if the library does.
    """
    from safetensors import SafetensorError, safe_open

    file_size(path)
    try:
        with safe_open(path, "numpy") as file:  # reads the header only, of at most 100 MB; numpy: torch stays unloaded
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return {name: (str(each.get_dtype()), tuple(each.get_shape())) for name, each in tensors.items()}
    except OSError as error:
        raise ModelFolderError(f"could not read {path}: {error.strerror or error}; restore it from a copy") from None
    except SafetensorError as error:
        if _is_pickle(path):
            raise UnsafeFileError(
                f"{path} is a pickle, which can run code, and was not opened; save it as safetensors"
            ) from None
        detail = " ".join(str(error).split())[:300]
        fault = "is truncated" if is_truncated(path) else "is not a valid safetensors file"
        raise ModelFolderError(f"{path} {fault} ({detail}); restore it from a copy") from None


def file_size(path: Path, remedy: str = "restore it from a copy or download the model again") -> int:
    """Bytes of a regular file.

    Raises:
        ModelFolderError: missing, or not a regular file, such as a named pipe, on which reading would block.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for NUL in a name
        raise ModelFolderError(f"{path} is missing; {remedy}") from None
    except OSError as error:
        raise ModelFolderError(f"could not read {path}: {error.strerror}; check its permissions") from None
    if not S_ISREG(found.st_mode):
        raise ModelFolderError(f"expected a regular file, {path} is not one; {remedy}")
    return found.st_size


def _is_pickle(path: Path) -> bool:
    """Only for a file that is not safetensors: a valid one may begin with the same bytes."""
    with path.open("rb") as file:
        start = file.read(2)
    return start == b"PK" or start[:1] == b"\x80"


def refuse_unsafe_weights(folder: Path) -> None:
    """Refuse a folder whose weights are pickles, or whose configuration names code to import.

    Pickles beside safetensors (``training_args.bin``) are allowed: they are never opened.

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
