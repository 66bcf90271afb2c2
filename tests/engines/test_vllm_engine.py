"""The engine ``vllm`` without vLLM: requests, merged adapters and results, with a stand-in for the library.

The stand-in does what vLLM documents, with the tiny backbone of a model folder: ``LLM.generate`` takes prompts as token
ids, a list of ``SamplingParams`` and a list of ``LoRARequest`` or None, and gives outputs whose ``logprobs`` are a dict
of objects with ``logprob`` a token. It reads adapters from their folders on its own (PEFT's files, W + alpha/r B A),
accepts one rank an adapter only, as vLLM does, and refuses arguments that vLLM's classes do not have. What it cannot
show is that vLLM itself behaves so; nothing here ran on vLLM.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from completions_server import TinyModel, _allowed
from safetensors.torch import load_file

from retrieveall import RetrieveAll
from retrieveall.adapters import AdapterPool, write_adapter
from retrieveall.config import ModelConfig, load_yaml
from retrieveall.engines.merge import merge_adapters
from retrieveall.engines.vllm import MergedAdapters, VllmEngine, VllmSettings
from retrieveall.errors import ConfigError, InputError, MissingExtraError
from tiny import prepared, probabilities, requests_of

TEXTS = ["Anna Meier war in Köln .", "They say that (Intel) was not there !", "昨天李白上了报纸。"]
MIXTURES: list[dict[str, float]] = [{"de": 1.0}, {"en": 1.0}, {"de": 0.6, "zh": 0.4}, {"de": 0.25, "en": 0.75}, {}]


@dataclass
class SamplingParams:
    """Some of the fields of vLLM's."""

    max_tokens: int
    temperature: float
    logprobs: int
    allowed_token_ids: list[int] | None = None
    stop_token_ids: list[int] = field(default_factory=list)
    structured_outputs: Any = None
    detokenize: bool = True


@dataclass
class StructuredOutputsParams:
    grammar: str


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


class StandIn:
    """``vllm.LLM``, see the module."""

    last: StandIn

    def __init__(self, model: str, **options: Any) -> None:
        from transformers import AutoModelForCausalLM

        StandIn.last = self
        self.options = options
        assert options["trust_remote_code"] is False
        assert options["logprobs_mode"] == "processed_logprobs"
        self.model = AutoModelForCausalLM.from_pretrained(model).eval()
        self.plain = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.loaded: dict[int, dict[str, torch.Tensor]] = {}
        self.paths: dict[int, str] = {}

    def generate(
        self, prompts: Sequence[dict[str, Any]], sampling_params: Any, *, lora_request: Any, use_tqdm: bool
    ) -> list[Any]:
        assert len(prompts) == len(sampling_params) == len(lora_request)
        return [
            self._row(prompt["prompt_token_ids"], params, lora)
            for prompt, params, lora in zip(prompts, sampling_params, lora_request, strict=True)
        ]

    @torch.inference_mode()
    def _row(self, ids: list[int], params: SamplingParams, lora: LoRARequest | None) -> Any:
        self.model.load_state_dict({**self.plain, **(self._weights(lora) if lora else {})})
        made: list[int] = []
        told = []
        grammar = self._grammar(params)
        reason = "length"
        for _ in range(params.max_tokens):
            logits = self.model(input_ids=torch.tensor([[*ids, *made]])).logits[0, -1].float()
            banned = torch.zeros(len(logits), dtype=torch.bool)
            if params.allowed_token_ids:
                banned[:] = True
                banned[params.allowed_token_ids] = False
            if grammar is not None:
                banned |= ~_allowed(grammar, len(logits))
            scores = logits.masked_fill(banned, -torch.inf).log_softmax(-1)
            best = [int(i) for i in scores.topk(params.logprobs).indices]
            made.append(best[0])
            told.append({token: SimpleNamespace(logprob=float(scores[token])) for token in best})
            if grammar is not None:
                grammar.consume_token(best[0])
            if best[0] in (1, *params.stop_token_ids):
                reason = "stop"
                break
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=made, logprobs=told, finish_reason=reason)])

    def _weights(self, lora: LoRARequest) -> dict[str, torch.Tensor]:
        """The weights that an adapter changes; like vLLM, once a number."""
        assert self.options["enable_lora"]
        assert self.paths.setdefault(lora.lora_int_id, lora.lora_path) == lora.lora_path
        if lora.lora_int_id not in self.loaded:
            folder = Path(lora.lora_path)
            settings = json.loads((folder / "adapter_config.json").read_text())
            assert settings["r"] <= self.options["max_lora_rank"]
            assert not settings["rank_pattern"]
            tensors = load_file(folder / "adapter_model.safetensors")
            changed = {}
            for name in [name for name in tensors if name.endswith("lora_A.weight")]:
                a, b = tensors[name].float(), tensors[name.replace("lora_A", "lora_B")].float()
                assert a.shape[0] == b.shape[1] == settings["r"]
                module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                assert module.rpartition(".")[2] in settings["target_modules"]
                key = f"{module}.weight"
                changed[key] = self.plain[key] + settings["lora_alpha"] / settings["r"] * (b @ a)
            self.loaded[lora.lora_int_id] = changed
        return self.loaded[lora.lora_int_id]

    def _grammar(self, params: SamplingParams) -> Any:
        if params.structured_outputs is None:
            return None
        from llguidance import LLMatcher, LLTokenizer, grammar_from

        tokenizer = LLTokenizer(Path(self.model.name_or_path, "tokenizer.json").read_text(), eos_token=1)
        return LLMatcher(tokenizer, grammar_from("grammar", params.structured_outputs.grammar))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    modules = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request", "vllm.sampling_params")}
    modules["vllm"].LLM = StandIn  # type: ignore[attr-defined]
    modules["vllm.lora.request"].LoRARequest = LoRARequest  # type: ignore[attr-defined]
    modules["vllm.sampling_params"].SamplingParams = SamplingParams  # type: ignore[attr-defined]
    modules["vllm.sampling_params"].StructuredOutputsParams = StructuredOutputsParams  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return StandIn


def _config(folder: Path) -> ModelConfig:
    return load_yaml(ModelConfig, folder / "retrieveall.yaml")


# -- merged adapters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapters", [*MIXTURES[2:4], {"de": 0.5, "en": 0.3, "zh": 0.2}, {"zh": 0.7}])
def test_a_merged_adapter_gives_the_logits_of_the_mixture(
    tiny_repeat_model: Path, make_backbone: Callable[..., Any], tmp_path: Path, adapters: dict[str, float]
) -> None:
    peft = pytest.importorskip("peft")
    pool = AdapterPool(tiny_repeat_model)
    write_adapter(tmp_path / "merged", merge_adapters([(pool.load(name), weight) for name, weight in adapters.items()]))
    tiny = TinyModel(tiny_repeat_model)
    ids = torch.randint(0, 360, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        with tiny.engine.bank.use([adapters] * 3):
            expected = tiny.engine.model(input_ids=ids).logits
        bare = tiny.engine.model(input_ids=ids).logits
        merged = peft.PeftModel.from_pretrained(make_backbone("qwen2"), str(tmp_path / "merged")).eval()
        found = merged(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (expected - bare).abs().max() > 0.1


def test_layers_and_ranks_that_differ(tiny_repeat_model: Path) -> None:
    pool = AdapterPool(tiny_repeat_model)
    de, zh = pool.load("de"), pool.load("zh")
    some = replace(zh, layers={name: layer for name, layer in zh.layers.items() if "q_proj" in name})
    merged = merge_adapters([(de, 0.6), (some, 0.4)])
    assert set(merged.layers) == set(de.layers)
    for name, layer in merged.layers.items():
        assert layer.a.shape[0] == layer.b.shape[1] == merged.shape.rank == 10
        expected = 0.6 * de.layers[name].scaling * de.layers[name].b @ de.layers[name].a
        if name in some.layers:
            expected = expected + 0.4 * some.layers[name].scaling * some.layers[name].b @ some.layers[name].a
        torch.testing.assert_close(merged.shape.scaling_of(name) * layer.b @ layer.a, expected)


class TestMergedAdapters:
    def test_one_adapter_is_not_copied(self, tiny_repeat_model: Path) -> None:
        merged = MergedAdapters(AdapterPool(tiny_repeat_model), VllmSettings())
        assert merged.open(merged.mixture({"de": 1.0})) == (1, tiny_repeat_model / "adapters" / "de")
        assert merged.open((("de", 1.0),))[0] == 1
        assert merged.mixture({}) == merged.mixture({"de": 0.0}) == ()

    def test_similar_mixtures_share_a_folder(self, tiny_repeat_model: Path) -> None:
        merged = MergedAdapters(AdapterPool(tiny_repeat_model), VllmSettings(weight_step=0.1))
        assert merged.mixture({"de": 0.62, "zh": 0.38}) == (("de", 0.6), ("zh", 0.4))
        assert merged.mixture({"zh": 0.41, "de": 0.59}) == (("de", 0.6), ("zh", 0.4))
        assert merged.mixture({"de": 0.97, "zh": 0.03}) == (("de", 1.0),)
        exact = MergedAdapters(AdapterPool(tiny_repeat_model), VllmSettings(weight_step=0))
        assert exact.mixture({"de": 0.62, "zh": 0.38}) == (("de", 0.62), ("zh", 0.38))

    def test_the_top_adapter_where_the_rank_would_be_too_high(self, tiny_repeat_model: Path) -> None:
        pool = AdapterPool(tiny_repeat_model)
        small = MergedAdapters(pool, VllmSettings(max_lora_rank=8))  # de 2, en 3, zh 8
        assert small.mixture({"de": 0.4, "zh": 0.6}) == (("zh", 1.0),)
        assert small.mixture({"de": 0.4, "en": 0.6}) == (("de", 0.4), ("en", 0.6))
        top = MergedAdapters(pool, VllmSettings(mixture="top"))
        assert top.mixture({"de": 0.4, "en": 0.6}) == (("en", 1.0),)

    def test_the_folder_is_bounded_and_removed(self, tiny_repeat_model: Path) -> None:
        merged = MergedAdapters(AdapterPool(tiny_repeat_model), VllmSettings(max_merged=2, weight_step=0))
        merged.open((("de", 1.0),))
        paths = [merged.open((("de", share), ("en", 1 - share))) for share in (0.1, 0.2, 0.3)]
        merged.open((("de", 0.1), ("en", 0.9)))  # the second is now the oldest
        merged.trim()
        assert [path.exists() for _, path in paths] == [True, False, True]
        assert merged.open((("de", 0.2), ("en", 0.8)))[0] > paths[2][0]  # vLLM would take a number for the old one
        merged.close()
        assert not paths[0][1].parent.exists()
        assert (tiny_repeat_model / "adapters" / "de").is_dir()

    @pytest.mark.parametrize(
        "options",
        [{"mixture": "all"}, {"max_lora_rank": 10}, {"max_loras": 0}, {"max_merged": 0}, {"weight_step": 0.7}],
    )
    def test_settings_that_make_no_sense(self, options: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="expected"):
            VllmSettings(**options)


# -- the engine -------------------------------------------------------------------------------------------------------


def test_tags_as_in_process(stand_in: type[StandIn], tiny_repeat_model: Path, loaded_repeat: RetrieveAll) -> None:
    engine = VllmEngine(_config(tiny_repeat_model), tiny_repeat_model)
    requests = requests_of(loaded_repeat, [*TEXTS, *TEXTS], MIXTURES)
    requests.append(replace(requests[0], candidates=requests[0].candidates[:3]))
    expected = loaded_repeat.engine.score(requests)
    for ours, theirs in zip(engine.score(requests), expected, strict=True):
        np.testing.assert_allclose(probabilities(ours), probabilities(theirs), atol=1e-3)
    assert stand_in.last.options["load_format"] == "safetensors"
    assert engine.score([]) == []
    assert engine.score([replace(requests[0], positions=())])[0].shape == (0, 13)


def test_more_mixtures_than_are_kept(
    stand_in: type[StandIn], tiny_repeat_model: Path, loaded_repeat: RetrieveAll
) -> None:
    settings = VllmSettings(max_merged=1, weight_step=0)
    engine = VllmEngine(_config(tiny_repeat_model), tiny_repeat_model, settings)
    shares = [{"de": 1 - share, "en": share} for share in (0.1, 0.2, 0.1)]
    requests = requests_of(loaded_repeat, ["Karl May"] * 3, shares)
    expected = loaded_repeat.engine.score(requests)
    for ours, theirs in zip(engine.score(requests), expected, strict=True):
        np.testing.assert_allclose(probabilities(ours), probabilities(theirs), atol=1e-3)
    assert len(stand_in.last.loaded) == 3


def test_generates_as_in_process(
    stand_in: type[StandIn], build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("llguidance")
    folder = build_model(
        tmp_path_factory.mktemp("answering"), decoder="generation", attention="repeat", architecture="qwen2"
    )
    local = RetrieveAll.from_pretrained(folder, device="cpu")
    windows = prepared(local, [TEXTS[0], "Karl May in London", *TEXTS, *TEXTS], MIXTURES)
    expected = local.decoder.decode(local.engine, *windows)
    assert sum(len(each.spans) for each in expected) >= 1
    found = local.decoder.decode(VllmEngine(local.config, folder), *windows)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.faults == theirs.faults
        assert [span[:3] for span in ours.spans] == [span[:3] for span in theirs.spans]
        np.testing.assert_allclose([s[3] for s in ours.spans], [s[3] for s in theirs.spans], atol=1e-3)


def test_a_free_answer_is_written_without_a_grammar(
    stand_in: type[StandIn], build_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = build_model(tmp_path / "m", decoder="generation", attention="repeat", architecture="qwen2")
    local = RetrieveAll.from_pretrained(folder, device="cpu")
    requests = [replace(each, constrained=False, max_tokens=12) for each in requests_of(local, TEXTS, MIXTURES)]
    found = VllmEngine(local.config, folder).write(requests)
    for ours, theirs in zip(found, local.engine.write(requests), strict=True):
        assert (ours.answer, ours.ended, ours.constrained) == (theirs.answer, theirs.ended, False)


def test_predicts_as_in_process(stand_in: type[StandIn], tiny_repeat_model: Path, loaded_repeat: RetrieveAll) -> None:
    model = RetrieveAll.from_pretrained(tiny_repeat_model, engine="vllm")
    ours, theirs = (each.predict(TEXTS, language="en") for each in (model, loaded_repeat))
    for mine, other in zip(ours, theirs, strict=True):
        assert [(e.start, e.end, e.label) for e in mine.entities] == [(e.start, e.end, e.label) for e in other.entities]
        np.testing.assert_allclose([e.score for e in mine.entities], [e.score for e in other.entities], atol=1e-3)


def test_an_adapter_of_a_higher_rank_than_vllm_was_told(
    stand_in: type[StandIn], tiny_repeat_model: Path, tmp_path: Path
) -> None:
    settings = VllmSettings(max_lora_rank=8)
    folder = Path(shutil.copytree(tiny_repeat_model, tmp_path / "model"))
    VllmEngine(_config(folder), folder, settings)
    card = folder / "adapters" / "zh" / "adapter_card.json"
    card.write_text(card.read_text().replace('"rank": 8', '"rank": 9'))
    with pytest.raises(ConfigError, match="'zh' has rank 9"):
        VllmEngine(_config(folder), folder, settings)


def test_without_vllm_the_error_says_how_to_install_it(
    tiny_repeat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'retrieveall\[vllm\]'"):
        RetrieveAll.from_pretrained(tiny_repeat_model, engine="vllm")


@pytest.mark.parametrize(
    "options", [{"engine": "openai"}, {"engine": "vllm", "server": "http://h"}, {"engine": "vllm", "device": "cuda"}]
)
def test_engines_with_options_of_others(tiny_repeat_model: Path, options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="engine"):
        RetrieveAll.from_pretrained(tiny_repeat_model, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("gpus", [1.0, 2.0])
def test_a_worker_of_a_corpus_runs_it(
    stand_in: type[StandIn], tiny_repeat_model: Path, loaded_repeat: RetrieveAll, tmp_path: Path, gpus: float
) -> None:
    from retrieveall.distributed import Job, ModelOptions, find_corpus, open_output
    from retrieveall.distributed.worker import Cutter, Extractor, fingerprint
    from retrieveall.errors import ModelFolderError
    from retrieveall.model_folder import ModelFolder

    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    corpus, _ = find_corpus(str(tmp_path / "in.txt"))
    name = str(tiny_repeat_model)
    model = ModelOptions(name, engine="vllm", gpus=gpus, fingerprint=fingerprint(ModelFolder.open(name)))
    job = Job(corpus, str(tmp_path / "out"), model)
    open_output(job.output, job.identity())
    [blocks] = [found["block"] for found in Cutter(job)({"file": [0]})]
    record = Extractor(job)({"block": blocks})
    assert (record["error"], record["texts"]) == ([""], [3])
    assert stand_in.last.options.get("tensor_parallel_size") == (2 if gpus == 2 else None)
    found = [json.loads(line) for line in (tmp_path / "out" / "part-000000-000000.jsonl").read_text().splitlines()]
    spans = [[(each["start"], each["end"], each["label"]) for each in result["entities"]] for result in found]
    expected = loaded_repeat.predict(TEXTS)
    assert spans == [[(each.start, each.end, each.label) for each in result.entities] for result in expected]

    other = replace(job, output=str(tmp_path / "other"), model=replace(model, fingerprint="0" * 64))
    open_output(other.output, other.identity())
    record = Extractor(other)({"block": blocks})
    assert record["kind"] == [ModelFolderError.__name__]
    assert "expected the model of the machine that started the run" in record["error"][0]
