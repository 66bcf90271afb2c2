"""Patterns inside tokenizers: those in use pass, those that can explode do not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from retrieveall.errors import UnsafeFileError
from retrieveall.tokens import TokenCodec, Tokenizer
from retrieveall.tokens.patterns import may_explode

IN_USE = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "gpt4o": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "deepseek": (
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "digits in threes": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
    "bracket first": r"[]a]+b",
    "exact": r"(ab)+c",
}
EXPLOSIVE = [
    "(a+)+$",
    "(a|aa)+$",
    "(?:a*)*b",
    "((a{1,9}))*",
    "(?:x?y){3,}",
    "(?<name>a+)+",
    "(?i:(a|b)c)*",
    "(?i)(a+)+",
    "(a+){2,100}",
    r"([\]a]+)*",
    "(" * 500 + "a+" + ")+" * 500,
]


@pytest.mark.parametrize("name", IN_USE)
def test_patterns_in_use_pass(name: str) -> None:
    assert not may_explode(IN_USE[name])


@pytest.mark.parametrize("pattern", EXPLOSIVE)
def test_nested_repetition_is_refused(pattern: str) -> None:
    assert may_explode(pattern)


@pytest.mark.parametrize("pattern", ["(", "[", "\\", "a{", "(?", ")", "\\p{", "*", "(?<", "[[]", "x{99999999}"])
def test_malformed_patterns_end(pattern: str) -> None:
    may_explode(pattern)


@pytest.mark.parametrize("pattern", ["(", "[", "(?<", "\\p{", "a{9", "[^]"])
def test_scanning_takes_bounded_time(pattern: str) -> None:
    begin = time.perf_counter()
    may_explode((pattern * 20_000)[:20_000])
    assert may_explode(pattern * 1_000_000)
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("part", ["pre_tokenizer", "normalizer"])
def test_a_codec_refuses_the_tokenizer(tiny_tokenizer: Any, part: str) -> None:
    from tokenizers import Regex, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(tiny_tokenizer.backend_tokenizer.to_str())
    if part == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Replace(Regex("(a+)+$"), "b")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex("(a+)+$"), "isolated"), pre_tokenizers.ByteLevel()]
        )
    with pytest.raises(UnsafeFileError, match=r"\(a\+\)\+\$"):
        TokenCodec(Tokenizer(backend), "as_is")
