from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import ConfigError, MissingExtraError, ModelFolderError, UnsafeFileError
from retrieveall.knowledge import Encoder, NgramEncoder, SentenceTransformerEncoder, make_encoder
from retrieveall.knowledge.encoder import open_encoder, save_encoder

_MASK = (1 << 64) - 1


def bucket(gram: str, buckets: int) -> int:
    """The hash of an n-gram, one character at a time."""
    state = 0
    for character in gram:
        state = (state + ord(character) + 1) * 0x9E3779B97F4A7C15 & _MASK
        state ^= state >> 29
    return (state * 0xD6E8FEB86659FD93 & _MASK) >> (64 - int(math.log2(buckets)))


def reference(text: str, projection: np.ndarray, orders: tuple[int, int]) -> np.ndarray:
    """Encoding by the formula, without any vectorisation."""
    padded = f" {text.lower().strip()} "
    total = np.zeros(projection.shape[1])
    if len(padded) > 2:
        grams = [padded[i : i + n] for n in range(orders[0], orders[1] + 1) for i in range(len(padded) - n + 1)]
        for place, count in Counter(bucket(gram, len(projection)) for gram in grams).items():
            total += (1 + math.log(count)) * projection[place]
    norm = float(np.linalg.norm(total))
    return total / norm if norm else total


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(), max_size=12), max_size=6),
    st.sampled_from([(1, 3), (2, 2), (1, 1), (3, 5)]),
)
def test_encoding_follows_the_formula(texts: list[str], orders: tuple[int, int]) -> None:
    projection = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
    vectors = NgramEncoder(projection, orders).encode(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), 5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, reference(text, projection, orders), atol=2e-5)


def test_a_text_has_the_same_vector_in_any_batch(encoder: NgramEncoder) -> None:
    texts = ["Hamburg", "", "北京 大学", "x" * 5000, "a\ud800b", "  ", "Hamburg"] * 20
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_array_equal(encoder.encode(texts), alone)
    norms = np.linalg.norm(alone, axis=1)
    np.testing.assert_allclose(norms, [float(bool(text.strip())) for text in texts], atol=1e-5)


@pytest.mark.parametrize("size", [80, 600])
def test_fitting_finds_the_leading_singular_directions(size: int) -> None:
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(list("abcdef"), 8)) for _ in range(size)]
    fitted = NgramEncoder.fit(texts, dimension=4, buckets=512, orders=(1, 1))
    padded = [f" {text} " for text in texts]
    matrix = np.zeros((size, 512))
    for row, text in enumerate(padded):
        for character, count in Counter(text).items():
            matrix[row, bucket(character, 512)] = 1 + math.log(count)
    idf = np.log((size + 1) / (1 + (matrix > 0).sum(axis=0))) + 1
    weighted = matrix * idf
    weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
    directions = np.linalg.svd(weighted)[2][:4].T
    exact = matrix * idf @ directions
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    vectors = fitted.encode(texts)
    # A basis is free to rotate: compare cosines, up to the 8 bits of the projection.
    np.testing.assert_allclose(vectors @ vectors.T, exact @ exact.T, atol=0.03)


def test_fitting_is_repeatable_and_survives_few_texts() -> None:
    texts = ["ein Satz", "noch einer"]
    first, second = (NgramEncoder.fit(texts, dimension=8, buckets=64) for _ in range(2))
    np.testing.assert_array_equal(first.encode(texts), second.encode(texts))
    assert first.dimension == 8
    assert first.encode(texts)[0] @ first.encode(texts)[1] < 0.99


@pytest.mark.parametrize("texts", [["ein Satz"] * 50, [""] * 50, ["a", "b"] * 25, ["", "ein Satz"], ["x"]], ids=str)
@pytest.mark.parametrize("times", [1, 20])
def test_fitting_survives_texts_that_are_all_alike(texts: list[str], times: int) -> None:
    texts = texts * times
    encoder = NgramEncoder.fit(texts, dimension=8, buckets=512)
    vectors = encoder.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [float(bool(text)) for text in texts], atol=1e-5)
    again = NgramEncoder.fit(texts, dimension=8, buckets=512).encode(texts)
    np.testing.assert_allclose(vectors @ vectors.T, again @ again.T, atol=1e-5)


def test_saved_and_opened_it_gives_the_same_bits(encoder: NgramEncoder, tmp_path: Path) -> None:
    texts = ["Hamburg liegt an der Elbe .", "北京在河边。"]
    save_encoder(encoder, tmp_path)
    opened = open_encoder(tmp_path)
    assert isinstance(opened, Encoder)
    assert opened.name == "ngram"
    np.testing.assert_array_equal(opened.encode(texts), encoder.encode(texts))


def test_damaged_state_names_the_file(encoder: NgramEncoder, tmp_path: Path) -> None:
    save_encoder(encoder, tmp_path)
    path = tmp_path / "projection.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with pytest.raises(ModelFolderError, match=r"projection\.safetensors"):
        open_encoder(tmp_path)
    path.write_bytes(b"\x80\x04canary.")
    with pytest.raises((UnsafeFileError, ModelFolderError), match=r"projection\.safetensors"):
        open_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text('{"name": 3}')
    with pytest.raises(ModelFolderError, match=r"encoder\.json"):
        open_encoder(tmp_path)


def test_scales_that_are_not_finite_are_refused(encoder: NgramEncoder, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    save_encoder(encoder, tmp_path)
    path = tmp_path / "projection.safetensors"
    tensors = load_file(path)
    tensors["scales"][3] = np.nan
    save_file(tensors, path)
    with pytest.raises(ModelFolderError, match="'scales' holds NaN"):
        open_encoder(tmp_path)


def test_make_encoder_refuses_what_it_cannot_make() -> None:
    assert isinstance(make_encoder("ngram", ["ein Text"]), NgramEncoder)
    with pytest.raises(ConfigError, match="got no texts"):
        make_encoder("ngram")
    with pytest.raises(ConfigError, match="got ''"):
        make_encoder("")
    with pytest.raises(ConfigError, match="power of two"):
        NgramEncoder(np.zeros((100, 4), dtype=np.float32))


def test_sentence_transformers_are_loaded_without_remote_code(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, object]]] = []

    class Model:
        def __init__(self, name: str, **options: object) -> None:
            calls.append((name, options))

        def get_sentence_embedding_dimension(self) -> int:
            return 3

        def encode(self, texts: list[str], **options: object) -> np.ndarray:
            assert options["normalize_embeddings"]
            return np.tile(np.array([1.0, 0.0, 0.0]), (len(texts), 1))

    module = type(sys)("sentence_transformers")
    module.SentenceTransformer = Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    encoder = make_encoder("some/model")
    assert not calls
    assert encoder.dimension == 3
    assert encoder.encode(["a", "b"]).shape == (2, 3)
    assert calls == [("some/model", {"trust_remote_code": False})]


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"retrieveall\[encoders\]"):
        SentenceTransformerEncoder("some/model").encode(["a"])
