"""Loads a backbone's tokenizer from ``tokenizer.json`` and ``tokenizer_config.json``.

transformers' ``AutoTokenizer`` would import torch, which a client of a remote engine does not need. Both use the same
Rust tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieveall.config import BackboneConfig
from retrieveall.errors import ModelFolderError
from retrieveall.storage import read_json, refuse_unsafe_weights
from retrieveall.tokens import special
from retrieveall.tokens.patterns import check_patterns

__all__ = ["Tokenizer", "is_hub_id", "load_tokenizer", "local_folder"]

_MAX_TOKENIZER = 256 << 20  # bytes of a tokenizer.json; the largest common ones have a tenth
_MAX_CHAT = 1 << 20  # bytes of a chat template; the longest common ones have a twentieth
_CONFIG = "tokenizer_config.json"
_CHAT = "chat_template.jinja"
_FILES = ("tokenizer.json", _CHAT, *special.FILES)


@dataclass(frozen=True)
class Tokenizer:
    """A fast tokenizer with the ids of its special tokens. ``backend`` is a ``tokenizers.Tokenizer``."""

    backend: Any
    name: str = ""
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    mask: int | None = None
    cls: int | None = None
    sep: int | None = None
    chat_template: str | None = None

    def token(self, number: int | None) -> str:
        """The text of a special token; empty for None."""
        return "" if number is None else str(self.backend.id_to_token(number))


def load_tokenizer(backbone: BackboneConfig, folder: Path | None) -> Tokenizer:
    """The fast tokenizer of ``backbone``, from the model folder, another folder or the hub.

    Weights are not needed; the folder may hold only the tokenizer's files.

    Raises:
        ModelFolderError: not found or malformed.
        UnsafeFileError: files that require code, or a pattern that may take exponential time.
    """
    local = local_folder(backbone.path, folder, "tokenizer.json")
    if local is not None:
        return _read(local, str(local))
    if not is_hub_id(backbone.path):
        where = folder / backbone.path if folder is not None else Path(backbone.path)
        raise ModelFolderError(
            f"expected tokenizer.json in {str(where)[:300]!r}, found none; save the fast tokenizer there, "
            "or check backbone.path"
        )
    return _read(_download(backbone.path, backbone.revision), backbone.path)


def local_folder(named: str, folder: Path | None, holds: str = "") -> Path | None:
    """The local folder ``named``, inside the model folder first; None if none contains ``holds``."""
    inside = [folder / named] if folder is not None and not Path(named).is_absolute() else []
    for path in (*inside, Path(named)):
        try:
            if path.is_dir() and (path / holds).exists():
                return path
        except (OSError, ValueError):  # not a valid file name
            continue
    return None


def is_hub_id(named: str) -> bool:
    """Whether ``named`` looks like "organisation/model"."""
    return named.count("/") == 1 and not named.startswith((".", "/")) and not named.endswith("/")


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    from retrieveall.storage.hub import fail_fast

    try:
        with fail_fast(name):
            return Path(snapshot_download(name, revision=revision, allow_patterns=list(_FILES)))
    except Exception as error:  # the hub client may raise anything; the user gets one line
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelFolderError(f"could not load the tokenizer of {name}: {detail}") from error


def _read(folder: Path, name: str) -> Tokenizer:
    from tokenizers import Tokenizer as Backend

    refuse_unsafe_weights(folder)
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelFolderError(f"expected a fast tokenizer (tokenizer.json) in {name}, found none; convert it")
    # Checked before loading: adding tokens already runs the normaliser.
    check_patterns(read_json(path, limit=_MAX_TOKENIZER), str(path))
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the library raises a plain Exception
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelFolderError(f"could not load the tokenizer of {name}: {detail}") from error
    named = special.special_tokens(folder)
    ids = {kind: backend.token_to_id(text) for kind, text in named.items()}
    _make_special(backend, {text for kind, text in named.items() if ids[kind] is not None})
    return Tokenizer(backend, name, chat_template=_chat_template(folder), **ids)


def _make_special(backend: Any, texts: Iterable[str]) -> None:
    """Register special tokens that tokenizer.json holds only as plain text, as transformers does; ids are unchanged."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    backend.add_special_tokens(sorted(set(texts) - known))


def _chat_template(folder: Path) -> str | None:
    path = folder / _CHAT
    if not path.is_file():
        settings = read_json(folder / _CONFIG) if (folder / _CONFIG).is_file() else {}
        return _default_template(settings.get("chat_template"))
    if path.stat().st_size > _MAX_CHAT:
        raise ModelFolderError(f"{path} is larger than {_MAX_CHAT} bytes; expected a chat template, replace it")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ModelFolderError(f"{path} is not UTF-8 text; download it again") from None


def _default_template(found: Any) -> str | None:
    """The chat template; of several, the one named "default"."""
    if isinstance(found, list):
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def normaliser_states(backend: Any) -> dict[str, Any]:
    """Settings of normaliser and pre-tokenizer as plain data, for ``check_patterns``."""
    parts = {name: getattr(backend, name) for name in ("normalizer", "pre_tokenizer")}
    return {name: json.loads(part.__getstate__()) for name, part in parts.items() if part is not None}
