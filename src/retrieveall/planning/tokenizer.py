"""A local tokenizer as the counter of a plan. Apart from the rest, since it loads transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieveall.config import ModelConfig
from retrieveall.engines.encoding import TokenCodec
from retrieveall.engines.patterns import check_patterns
from retrieveall.errors import ModelFolderError
from retrieveall.prompts import Piece
from retrieveall.storage import read_json, refuse_unsafe_weights
from retrieveall.types import Word

__all__ = ["CodecCounter"]

_MAX_TOKENIZER = 256 << 20  # bytes of a tokenizer.json


class CodecCounter:
    """Counts as training and inference will."""

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        self.method = "counted by the tokenizer"
        self._codec = TokenCodec(_load(folder), config.decoder.spacing)

    def count(self, piece: Piece) -> int:
        return self._codec.count(piece)

    def count_words(self, words: Sequence[Word]) -> int:
        return sum(map(len, self._codec.words(words)))


def _load(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    refuse_unsafe_weights(folder)
    check_patterns(read_json(path, limit=_MAX_TOKENIZER), str(path))
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever the library raises about a folder, the user needs one line with its name
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelFolderError(f"could not load the tokenizer in {folder}: {detail}") from error
