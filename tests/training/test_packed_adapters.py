"""What scripts/mini trains in packed rows is what the library runs: same prompts, same positions, same products."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from retrieveall.types import Knowledge, Sentence

SCRIPTS = Path(__file__).parents[2] / "scripts" / "mini"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield
    for name in ("packed_adapters", "packing", "prepare", "running", "machine"):
        sys.modules.pop(name, None)


def _prepare(model: Path, language: str, sentences: list[Sentence], out: Path) -> None:
    from prepare import flatten  # type: ignore[import-not-found]

    from retrieveall.engines.encoding import TokenCodec
    from retrieveall.engines.transformers import load_backbone
    from retrieveall.model_folder import ModelFolder
    from retrieveall.training.examples import ExampleBuilder

    folder = ModelFolder.open(model)
    _, tokenizer = load_backbone(folder.config, folder.path)
    builder = ExampleBuilder(folder.config, folder.knowledge(), TokenCodec(tokenizer, folder.config.decoder.spacing))
    for name in ("none", "entity", "full"):
        flatten([builder.encode(one, Knowledge()) for one in sentences], out / language / f"train.{name}.safetensors")


def test_a_packed_adapter_is_what_the_engine_runs(
    scripts: None,
    model_copy: Path,
    corpus: dict[str, list[Sentence]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import packed_adapters  # type: ignore[import-not-found]
    import torch
    from packing import load_flat, pack  # type: ignore[import-not-found]

    from retrieveall import RetrieveAll
    from retrieveall.data import segment
    from retrieveall.engines import TagRequest

    data, sentences = tmp_path / "data", corpus["de"]
    _prepare(model_copy, "de", sentences, data)
    others = {path: path.read_bytes() for path in model_copy.glob("adapters/[ez]*/*")}
    runs: list[packed_adapters.AdapterRun] = []
    made = packed_adapters.AdapterRun.__init__
    monkeypatch.setattr(packed_adapters.AdapterRun, "__init__", lambda run, *a: runs.append(run) or made(run, *a))
    arguments = ["--model", str(model_copy), "--languages", "de", "--data", str(data), "--out", str(tmp_path / "run")]
    options = ["--rows", "2", "--row-length", "96", "--rank", "4", "--lr", "0.02", "--passes", "60", "--dropout", "0"]
    options += ["--word-dropout", "0", "--no-compile", "--no-bf16"]
    monkeypatch.setattr(sys, "argv", ["packed_adapters.py", *arguments, *options])
    packed_adapters.main()

    run = runs[0]
    run.model.eval()
    flat = load_flat(data / "de" / "train.none.safetensors")
    order = list(range(len(flat)))
    with torch.no_grad():
        for parameter, mean in zip(run.parameters, run.average, strict=True):
            parameter.copy_(mean.half())  # what was written
        trained, gold = [], []
        for batch in pack([flat], np.zeros(len(flat), dtype=int), order, rows=1, row_length=96, pad=0):
            states = run.hidden(batch)[batch.reads]
            trained.append(states.float() @ run.model.get_output_embeddings().weight[torch.tensor(run.tag_ids)].T)
            gold.append(batch.tags)
    model = RetrieveAll.from_pretrained(model_copy, device="cpu")
    words = [segment(sentence.text) for sentence in sentences]
    prompts = [model.build_prompt(sentence.text, Knowledge()) for sentence in sentences]
    requests = [TagRequest(p, own, {"de": 1.0}) for p, own in zip(prompts, words, strict=True)]
    found = {tuple(np.argmax(scores, axis=1)) for scores in model.engine.tag(requests)}
    logits = torch.cat(trained).log_softmax(dim=1)
    scores = np.sort(np.concatenate(model.engine.tag(requests)).max(axis=1))
    assert np.allclose(np.sort(logits.max(dim=1).values.numpy()), scores, atol=2e-3)
    assert (logits.argmax(dim=1) == torch.cat(gold)).float().mean() > 0.9, "it learnt nothing"
    assert len(found) > 1
    assert {path: path.read_bytes() for path in others} == others, "another language was written"
