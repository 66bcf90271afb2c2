"""The cut encoder: no letter becomes unknown, every piece that stays has its row, new tokens have theirs at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from base_fixtures import save_encoder
from safetensors.torch import load_file

from recipes.base.backbone import cut_backbone, markers
from recipes.base.settings import BackboneSettings
from retrieveall.config import BackboneConfig
from retrieveall.data import segment
from retrieveall.engines.local.compact_encoder import load_compact_encoder
from retrieveall.engines.local.four_bits import pack, unpack
from retrieveall.tokens import TokenCodec, load_tokenizer

WORDS = ["the", "Anna", "東京", "in", "Ulm", "京都大学", "seldom", "rarely", "สวัสดี", "서울", "에서"]
LETTERS = "Aaeilmnrsthdoyu東京都大学서울에,.()é\u0e2a\u0e27"
TABLE = "embeddings.word_embeddings.weight"
TAGS = 4


def settings(pieces: int) -> Any:
    return BackboneSettings.model_construct(pieces=pieces, tags=TAGS, seed=1)  # fewer than a recipe may ask for


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("whole"), WORDS, LETTERS)


@pytest.fixture(scope="module")
def cut(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut")
    cut_backbone(folder, settings(45), str(whole))
    return folder / "backbone"


def vocabulary(folder: Path) -> list[str]:
    return [piece for piece, _ in json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]]


def tokenizer(folder: Path) -> Any:
    return load_tokenizer(BackboneConfig(path=str(folder)), None)


def test_the_most_frequent_pieces_stay_and_all_letters(whole: Path, cut: Path) -> None:
    before, after = vocabulary(whole), vocabulary(cut)
    assert len(after) == 45 + len(markers(TAGS)) < len(before) + len(markers(TAGS))
    assert after[: -len(markers(TAGS))] == [piece for piece in before if piece in after], "in the old order"
    assert {"▁", *LETTERS} <= set(after)
    assert {"▁the", "the", "▁Anna"} <= set(after)
    assert not {"▁東京", "東京", "京都大学", "สวัสดี"} & set(after), "read by the character"
    assert not {"rarely", "▁rarely"} & set(after)


def test_no_letter_becomes_unknown(whole: Path, cut: Path) -> None:
    before, after = tokenizer(whole), tokenizer(cut)
    unknown = after.backend.token_to_id("<unk>")
    assert json.loads((cut / "tokenizer.json").read_text())["model"]["unk_id"] == unknown
    texts = [*LETTERS, *WORDS, "Anna in 東京都", "สวัสดี"]
    old_unknown = before.backend.token_to_id("<unk>")
    known = [text for text in texts if old_unknown not in before.backend.encode(text).ids]
    assert len(known) >= len(texts) - 1
    for text in known:
        if set(text) <= {*LETTERS, " "}:
            assert unknown not in after.backend.encode(text).ids
    assert unknown in after.backend.encode("Ж").ids
    codec = TokenCodec(after, "as_is")
    assert [len(ids) for ids in codec.words(segment("東京都"))] == [1, 1, 1]


def test_every_token_has_its_number(cut: Path) -> None:
    found = tokenizer(cut)
    pieces = vocabulary(cut)
    added = markers(TAGS)
    assert pieces[-len(added) :] == added == [*added[:5], *(f"<|tag{i}|>" for i in range(TAGS))]
    for token in (*added, "<s>", "</s>", "<pad>", "<unk>", "<mask>"):
        assert found.backend.token_to_id(token) == pieces.index(token)
        assert found.backend.encode(token, add_special_tokens=False).ids == [pieces.index(token)]
    names = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>"}
    assert {name: getattr(found, name) for name in names} == {name: pieces.index(names[name]) for name in names}
    ids = found.backend.encode("Anna").ids
    assert (ids[0], ids[-1]) == (pieces.index("<s>"), pieces.index("</s>"))
    assert ids[1:-1] == [pieces.index("▁Anna")]


def test_no_text_becomes_a_new_token(cut: Path) -> None:
    codec = TokenCodec(tokenizer(cut), "as_is")
    special = {codec.tokenizer.backend.token_to_id(token) for token in (*markers(TAGS), "<s>", "</s>", "<mask>")}
    for text in (*markers(TAGS), "<s></s>", "a <mask> b", "<|tag0|><|tag1|>"):
        assert not special & {number for ids in codec.words(segment(text)) for number in ids}


def test_rows_are_those_of_the_whole_table(whole: Path, cut: Path) -> None:
    before, after = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    rows = dict(zip(vocabulary(whole), before[TABLE], strict=True))
    new = vocabulary(cut)[: -len(markers(TAGS))]
    expected = unpack(*pack(torch.stack([rows[piece] for piece in new])))
    assert torch.equal(after[TABLE][: len(new)], expected)
    assert torch.equal(unpack(*pack(after[TABLE])), after[TABLE]), "they are shipped as they are trained on"
    layers = {name for name in before if name != TABLE and not name.startswith("pooler.")}
    assert after.keys() == {*layers, TABLE}
    assert all(torch.equal(after[name], before[name]) for name in layers)


def test_new_rows_are_at_right_angles_and_those_of_tags_longer(whole: Path, cut: Path) -> None:
    table = load_file(cut / "model.safetensors")[TABLE]
    rows = table[-len(markers(TAGS)) :]
    lengths = rows.norm(dim=1)
    median = load_file(whole / "model.safetensors")[TABLE].norm(dim=1).median()
    torch.testing.assert_close(lengths[:5] / median, torch.ones(5), atol=0.1, rtol=0)
    torch.testing.assert_close(lengths[5:] / median, torch.full((TAGS,), 2.5), atol=0.2, rtol=0)
    cosines = (rows / lengths[:, None]) @ (rows / lengths[:, None]).T
    assert (cosines - torch.eye(len(rows))).abs().max() < 0.15  # but for rounding to four bits


def test_it_opens_and_is_the_same_again(whole: Path, cut: Path, tmp_path: Path) -> None:
    model = load_compact_encoder(cut, torch.float32)
    assert model is not None
    assert model.config.vocab_size == len(vocabulary(cut))
    cut_backbone(tmp_path, settings(45), str(whole))
    for path in cut.iterdir():
        assert (tmp_path / "backbone" / path.name).read_bytes() == path.read_bytes()


def test_letters_stay_even_where_fewer_pieces_are_asked_for(whole: Path, tmp_path: Path) -> None:
    cut_backbone(tmp_path, settings(5), str(whole))
    assert {"▁", *LETTERS, "<mask>"} <= set(vocabulary(tmp_path / "backbone"))
    assert "▁the" not in vocabulary(tmp_path / "backbone")
