"""The tokenizer of a backbone without its weights, for engines whose model runs elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from retrieveall.config import ModelConfig
from retrieveall.engines.patterns import check_patterns
from retrieveall.errors import ModelFolderError
from retrieveall.storage import read_json, refuse_unsafe_weights

__all__ = ["load_tokenizer"]

_MAX_TOKENIZER = 256 << 20  # bytes


def load_tokenizer(config: ModelConfig, folder: Path) -> Any:
    """The fast tokenizer of ``config.backbone``: in the model folder, in any other folder, or of a hub id.

    No weights are needed; a backbone's folder may hold nothing but the tokenizer's files.

    Raises:
        ModelFolderError: not found or malformed.
        UnsafeFileError: files that ask for code, or a pattern that may take exponential time.
    """
    named = config.backbone.path
    candidates = [Path(named)] if Path(named).is_absolute() else [folder / named, Path(named)]
    local = next((path for path in candidates if _has_tokenizer(path)), None)
    if local is not None:
        refuse_unsafe_weights(local)
        path = local / "tokenizer.json"
        check_patterns(read_json(path, limit=_MAX_TOKENIZER), str(path))
    elif named.startswith((".", os.sep)) or named.count("/") != 1:
        raise ModelFolderError(
            f"expected tokenizer.json in {str(candidates[0])[:300]!r}, found none; check backbone.path"
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(local or named), trust_remote_code=False, revision=config.backbone.revision or "main"
        )
    except Exception as error:  # whatever the library raises about a folder, the user needs one line with its name
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelFolderError(f"could not load the tokenizer of {named}: {detail}") from error


def _has_tokenizer(path: Path) -> bool:
    try:
        return (path / "tokenizer.json").is_file()
    except (OSError, ValueError):  # a name that no file system takes
        return False
