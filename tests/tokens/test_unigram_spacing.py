"""SentencePiece puts a space before its input: here only the first word of a text and words after a space have one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.config import BackboneConfig, TaggingConfig
from retrieveall.data import segment
from retrieveall.prompts import Piece, Prompt
from retrieveall.tokens import TokenCodec, encode_input, load_tokenizer
from tiny import codec_of

WORDS = ["Anna", "in", "Ulm", "東京", "서울", "에서"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<|tag0|>"]
LETTERS = "▁ADEFGIKLMNOUabceilmnrst東京北서울에(),.<>|/0123"
KINDS = ["split at spaces", "plain"]


def unigram(kind: str = "plain", prepend: str = "always") -> Any:
    """A tokenizer like that of XLM-R: whole words with and without the mark of a space, and every letter alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = [(token, 0.0) for token in SPECIAL]
    vocabulary += [(f"▁{word}", -4.0) for word in WORDS if word.isascii()]
    vocabulary += [(word, -5.0) for word in WORDS]
    vocabulary += [(letter, -6.0) for letter in LETTERS]
    tokenizer = Tokenizer(models.Unigram(vocabulary, SPECIAL.index("<unk>"), False))
    space = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    split = [pre_tokenizers.WhitespaceSplit()] if kind == "split at spaces" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, space]) if split else space
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend)
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>",
        additional_special_tokens=["<|tag0|>"], **special,
    )  # fmt: skip


def tokens(codec: TokenCodec, text: str) -> list[list[str]]:
    found = codec.words(segment(text))
    return [[codec.tokenizer.token(number) for number in ids] for ids in found]


@pytest.fixture(scope="module", params=KINDS)
def codec(request: pytest.FixtureRequest) -> TokenCodec:
    return codec_of(unigram(request.param), "as_is")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna", [["▁Anna"]]),
        ("Anna in Ulm", [["▁Anna"], ["▁in"], ["▁Ulm"]]),
        (" Anna", [["▁Anna"]]),
        ("(Anna)", [["("], ["Anna"], [")"]]),  # a mark that would stand alone is left out
        ("Anna,Ulm", [["▁Anna"], [","], ["Ulm"]]),
        ("東京", [["東"], ["京"]]),
        ("Anna東京", [["▁Anna"], ["東"], ["京"]]),
        ("Anna\n東", [["▁Anna"], ["▁", "東"]]),
    ],
)
def test_only_what_stands_after_a_space_has_a_mark(codec: TokenCodec, text: str, expected: list[list[str]]) -> None:
    assert tokens(codec, text) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_words_between_spaces_are_encoded_as_in_pre_training(kind: str) -> None:
    reference = unigram(kind)
    for text in ("Anna in Ulm", "Anna", "in Ulm Anna"):
        expected = reference.tokenize(text)
        assert [token for word in tokens(codec_of(unigram(kind)), text) for token in word] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_space_always_every_word_has_its_mark(kind: str) -> None:
    codec = codec_of(unigram(kind), "always")
    assert tokens(codec, "(Anna)Ulm") == [["▁", "("], ["▁Anna"], ["▁", ")"], ["▁Ulm"]]


@settings(max_examples=80, deadline=None)
@given(text=st.lists(st.sampled_from([*WORDS, *" (),.\n", "Anna ", " 北"]), max_size=12).map("".join))
def test_a_word_has_the_same_tokens_in_a_window_as_in_the_text(codec: TokenCodec, text: str) -> None:
    words = segment(text)
    whole = codec.words(words)
    for first in range(len(words)):
        assert codec.words(words[first:]) == whole[first:]
    assert codec.cost(words) == sum(codec.cost((word,)) for word in words)
    for word, ids in zip(words, whole, strict=True):
        pieces = "".join(codec.tokenizer.token(number) for number in ids)
        spaced = word.space_before or word.start == 0
        assert pieces.removeprefix("▁" if spaced else "") == word.text
        assert len(ids) == 1 or spaced or len(word.text) > 1, "no letter alone has two tokens"


def test_training_and_inference_read_the_same_tokens(tmp_path: Path) -> None:
    """Each opens the folder itself; the prompt's pieces begin texts of their own."""
    unigram("split at spaces").save_pretrained(tmp_path)
    prompt = Prompt((Piece("<|tag0|>", literal=True), Piece("Ulm", literal=False)), ())
    found = []
    for _ in range(2):
        codec = TokenCodec(load_tokenizer(BackboneConfig(path=str(tmp_path)), None), TaggingConfig().spacing)
        found.append(encode_input(codec, prompt, segment("Anna in 東京"), repeat=False))
    assert found[0] == found[1]
    names = [codec.tokenizer.token(number) for number in found[0].ids]
    assert names == ["<s>", "<|tag0|>", "▁Ulm", "▁Anna", "▁in", "▁", "東", "京", "</s>"]
    assert [names[i] for i in found[0].tag_positions] == ["▁Anna", "▁in", "東", "京"]


@pytest.mark.parametrize("text", ["<s></s><unk>", "<|tag0|> <|tag0|>", "a<s>", "<pad>Anna"])
def test_special_tokens_of_the_vocabulary_are_plain_text_in_data(codec: TokenCodec, text: str) -> None:
    """They are pieces of the best score, so the model of the tokenizer would take them by itself."""
    special = {SPECIAL.index(token) for token in SPECIAL if token != "<unk>"}
    assert not special & set(codec.piece(Piece(text, literal=False)))


@pytest.mark.parametrize("prepend", ["first", "never"])
def test_other_ways_of_prepending_stay(prepend: str) -> None:
    fast = unigram(prepend=prepend)
    before = fast.backend_tokenizer.to_str()
    codec = codec_of(fast)
    assert json.loads(before)["pre_tokenizer"] == json.loads(codec.tokenizer.backend.to_str())["pre_tokenizer"]


@pytest.mark.parametrize("kind", ["tiny", "llama3", "qwen2", "sentencepiece"])
def test_other_tokenizers_stay(tokenizers: dict[str, Any], kind: str) -> None:
    fast = tokenizers[kind]
    reference = json.loads(fast.backend_tokenizer.to_str())["pre_tokenizer"]
    codec = codec_of(fast, "as_is")
    assert json.loads(codec.tokenizer.backend.to_str())["pre_tokenizer"] == reference
    first = codec.words(segment("Anna in"))[0]
    assert list(first) == fast("Anna", add_special_tokens=False)["input_ids"]
