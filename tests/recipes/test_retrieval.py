"""Encoders side by side as retrievers: what they give, what is counted, and the whole command on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.measure.retrieval import ENCODERS, main, parse, render_retrieval
from recipes.measure.retrieval_encoders import (
    BackboneEncoder,
    CentredEncoder,
    JoinedEncoder,
    RandomEncoder,
    RememberingEncoder,
    TableEncoder,
)
from retrieveall import RetrieveAll
from retrieveall.knowledge import Encoder, NgramEncoder
from retrieveall.types import Sentence

TEXTS = ["Karl May in London", "x", "They say that New York was not there !", "北京大学", "Karl May in London and Köln"]


@pytest.fixture(scope="module")
def encoder_folder(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``encoder_folder(kind)``: a tiny random encoder on disk."""
    import torch
    from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

    def build(kind: str) -> Path:
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"vocab_size": 360, "hidden_size": 16, "intermediate_size": 24, "pad_token_id": 0}
        sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 600}
        model = BertModel(BertConfig(**sizes)) if kind == "bert" else XLMRobertaModel(XLMRobertaConfig(**sizes))
        folder = tmp_path_factory.mktemp(kind)
        model.eval().save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return build


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_backbone_gives_the_mean_of_its_last_states(encoder_folder: Any, loaded: RetrieveAll, kind: str) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = encoder_folder(kind)
    encoder = BackboneEncoder("it", loaded.config, folder)
    vectors = encoder.encode(TEXTS)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.inference_mode():
            ids = torch.tensor([tokenizer("query: " + text)["input_ids"]])
            mean = model(ids).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_every_encoder_gives_unit_vectors_of_its_dimension(encoder_folder: Any, loaded: RetrieveAll) -> None:
    backbone = BackboneEncoder("it", loaded.config, encoder_folder("bert"))
    table, ngrams = TableEncoder("table", backbone, TEXTS), NgramEncoder.fit(TEXTS, dimension=4)
    joined = JoinedEncoder("both", table, ngrams)
    for encoder in (backbone, table, joined, RandomEncoder(), CentredEncoder("centred", table, TEXTS)):
        assert isinstance(encoder, Encoder)
        vectors = encoder.encode(TEXTS)
        assert vectors.shape == (len(TEXTS), encoder.dimension)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(TEXTS[::-1]), vectors[::-1], atol=1e-5)
        np.testing.assert_array_equal(RememberingEncoder(encoder).encode(TEXTS[:2] * 2)[2:], vectors[:2])
    similarities = [each.encode(TEXTS) @ each.encode(TEXTS).T for each in (joined, table, ngrams)]
    np.testing.assert_allclose(similarities[0], (similarities[1] + similarities[2]) / 2, atol=1e-5)
    assert not table.encode([""]).any()


def _write(path: Path, sentences: list[Sentence]) -> None:
    rows = []
    for sentence in sentences:
        [entity] = sentence.entities
        before, after = sentence.text[: entity.start].split(), sentence.text[entity.end :].split()
        first, *others = entity.text.split()
        tags = [f"{first}\tB-{entity.label}", *(f"{word}\tI-{entity.label}" for word in others)]
        rows.append("\n".join([*(f"{w}\tO" for w in before), *tags, *(f"{w}\tO" for w in after)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(rows) + "\n", encoding="utf-8")


def test_the_command_measures_each_encoder_once(
    corpus: dict[str, list[Sentence]],
    tiny_model: Path,
    encoder_folder: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for language, sentences in corpus.items():
        for folder in (tmp_path / "panx" / language, tmp_path / "ner" / "train" / language / "news"):
            _write(folder / "train.tsv", sentences[:14])
            _write(folder / "validation.tsv", sentences[14:])
    for language in ("sw", "yo", "xx"):
        _write(tmp_path / "others" / language / "train.tsv", corpus["en"][:10])
        _write(tmp_path / "others" / language / "validation.tsv", corpus["en"][10:])
    out = tmp_path / "out.json"
    command = [str(tiny_model), "--backbone", str(encoder_folder("bert")), "--sentences", "12", "--limit", "4"]
    command += [word for name in ("panx", "ner", "others") for word in (f"--{name}", str(tmp_path / name))]
    command += ["--out", str(out)]
    main([*command, "--encoders", "letters,ngram+backbone"])
    first = json.loads(out.read_text(encoding="utf-8"))
    main([*command, "--encoders", "letters,table"])
    results = json.loads(out.read_text(encoding="utf-8"))
    assert list(results["encoders"]) == ["letters", "ngram+backbone", "table"]
    assert all(results["encoders"][name] == found for name, found in first["encoders"].items())
    found = results["encoders"]["table"]
    assert set(found["routed"]) == {"neighbours", "votes", "rules"}
    assert set(found["added"]) == {"sw", "yo"}
    assert set(found["foreign"]["auc"]) == {"xx", "mean"}
    assert found["weight"] in {each["weight"] for each in found["grades"]}
    assert results["encoders"]["letters"]["dimension"] == 0
    for share in (found["added"]["sw"]["rules"], found["nearest"]["panx"]["label"], found["f1"]["running"]):
        assert 0 <= share <= 1
    shown = capsys.readouterr().out
    assert shown.strip().endswith(render_retrieval(results).strip())
    assert all(f"| {ENCODERS[name]} |" in shown for name in results["encoders"])


def test_the_command_line_refuses_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    rest = ["base", "--backbone", "x", "--panx", "x", "--ner", "x", "--out", "x.json"]
    assert parse(rest).encoders == tuple(ENCODERS)
    for wrong in (["--encoders", "bm25"], ["--limit", "0"]):
        with pytest.raises(SystemExit):
            parse([*rest, *wrong])
        assert "expected" in capsys.readouterr().err
