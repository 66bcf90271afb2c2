"""The pretrained encoder as this model reads it: a smaller vocabulary, and tokens for tags and for the prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import regex
import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save_file

from recipes.base.settings import BackboneSettings
from retrieveall.engines.local.four_bits import pack, unpack
from retrieveall.storage import read_json, write_atomic

__all__ = ["backbone_folder", "cut_backbone", "markers"]

_MARKERS = ("<|entity|>", "<|context|>", "<|task|>", "<|item|>", "<|end|>")
_EMBEDDINGS = "embeddings.word_embeddings.weight"
# Words of these scripts are read a character or cluster at a time: their longer pieces are never used.
_SINGLE = regex.compile(r"(?V1)▁?[[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}ーｰ\p{Thai}\p{Lao}]]+")
_TAG_LENGTH = 2.5
_CLUSTER = regex.compile(r"\X")


def markers(tags: int) -> list[str]:
    """The tokens that are added: those of the templates ``mini.*``, then ``tags`` for tags."""
    return [*_MARKERS, *(f"<|tag{i}|>" for i in range(tags))]


def backbone_folder(backbone: str) -> Path:
    """The folder of a backbone that is named by folder or hub id; downloaded unless it is on this machine."""
    return Path(backbone) if Path(backbone).is_dir() else Path(snapshot_download(backbone))


def cut_backbone(folder: Path, settings: BackboneSettings, backbone: str) -> None:
    """``backbone/``: the encoder ``backbone`` (a folder or a hub id) with the most frequent pieces of its vocabulary.

    Pieces of one character stay all, so that nothing becomes unknown. Rows of new tokens are random and stay so: what
    they mean is for the layers to learn. All rows are rounded to four bits as they will be shipped.
    """
    source = backbone_folder(backbone)
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = tokenizer["model"]["vocab"]
    kept = _kept([piece for piece, _ in pieces], settings.pieces)
    added = markers(settings.tags)
    tokenizer["model"]["vocab"] = [pieces[i] for i in kept] + [[token, 0.0] for token in added]
    places = {piece: i for i, (piece, _) in enumerate(tokenizer["model"]["vocab"])}
    _renumber(tokenizer, places, added)

    tensors = load_file(source / "model.safetensors")
    rows = torch.cat([tensors[_EMBEDDINGS][kept].float(), _new_rows(tensors[_EMBEDDINGS], settings)])
    unused = ("pooler.", "embeddings.position_ids")
    tensors = {name: tensor.float() for name, tensor in tensors.items() if not name.startswith(unused)}
    tensors[_EMBEDDINGS] = unpack(*pack(rows))
    out = folder / "backbone"
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "model.safetensors")
    config = read_json(source / "config.json") | {"vocab_size": len(rows), "dtype": "float32"}
    write_atomic(out / "config.json", (json.dumps(config, indent=1) + "\n").encode())
    write_atomic(out / "tokenizer.json", json.dumps(tokenizer, ensure_ascii=False).encode())
    write_atomic(out / "tokenizer_config.json", (source / "tokenizer_config.json").read_bytes())


def _kept(pieces: list[str], size: int) -> list[int]:
    """Numbers of the pieces that stay, ascending; a Unigram vocabulary is sorted by probability."""
    special = [i for i, piece in enumerate(pieces) if piece.startswith("<") and piece.endswith(">")]
    short = {i for i, piece in enumerate(pieces) if len(_CLUSTER.findall(piece.lstrip("▁"))) <= 1}
    kept = short | set(special)
    for i, piece in enumerate(pieces):
        if len(kept) >= size:
            break
        if not _SINGLE.fullmatch(piece):
            kept.add(i)
    return sorted(kept)


def _renumber(tokenizer: dict[str, Any], places: dict[str, int], added: list[str]) -> None:
    old = tokenizer["added_tokens"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokens = [each | {"id": places[each["content"]]} for each in old]
    tokens += [{"id": places[token], "content": token, **plain} for token in added]
    tokenizer["added_tokens"] = sorted(tokens, key=lambda each: int(each["id"]))
    for name, token in tokenizer["post_processor"]["special_tokens"].items():
        token["ids"] = [places[name]]
    tokenizer["model"]["unk_id"] = places["<unk>"]


def _new_rows(embeddings: torch.Tensor, settings: BackboneSettings) -> torch.Tensor:
    """Rows of the new tokens at right angles to each other, of the length that rows have at the median.

    Those of tags are longer: a score is a product with them, and should reach values far from 0.
    """
    width = embeddings.shape[1]
    length = float(embeddings.float().norm(dim=1).median())
    random = np.random.default_rng(settings.seed)
    rows = random.standard_normal((len(markers(settings.tags)), width))
    if len(rows) <= width:
        rows = np.linalg.qr(rows.T)[0].T
    rows *= length / np.linalg.norm(rows, axis=1, keepdims=True)
    rows[len(_MARKERS) :] *= _TAG_LENGTH
    return torch.from_numpy(rows).float()
