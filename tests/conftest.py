"""Tiny models on disk, seeded, without a download: a byte-level tokenizer, a Llama and a Qwen2, whole model folders.

Weights are random and large enough that predictions are many, differ between languages, and depend on every input.
Torch is imported inside the fixtures, so that tests which need none do not wait for it.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from retrieveall.config import (
    BackboneConfig,
    GenerationConfig,
    LabelConfig,
    ModelConfig,
    PromptConfig,
    RetrievalConfig,
    TaggingConfig,
    WindowConfig,
    dump_yaml,
)
from retrieveall.types import Entity, Sentence

if TYPE_CHECKING:
    from retrieveall import RetrieveAll

os.environ["HF_HUB_OFFLINE"] = "1"

# The same examples every time where a change is judged; new ones where somebody looks for faults.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

MARKERS = ["<|pad|>", "<|end|>", "<|mask|>", "<|entity|>", "<|context|>", "<|task|>", "<|item|>"]
TAG_TOKENS = [f"<|tag{i}|>" for i in range(21)]
LABELS = ("PER", "ORG", "LOC")
RANKS = {"de": 2, "en": 3, "zh": 8}

_NAMES = {
    "de": {"PER": ["Anna Meier", "Karl May"], "ORG": ["Hamburger SV", "Siemens"], "LOC": ["Bad Homburg", "Köln"]},
    "en": {"PER": ["Ada Lovelace", "J. Smith"], "ORG": ["Royal Society", "Intel"], "LOC": ["New York", "London"]},
    "zh": {"PER": ["王小明", "李白"], "ORG": ["北京大学", "华为"], "LOC": ["北京", "上海"]},
}
_FRAMES = {
    "de": ["{} wurde gestern in der Zeitung erwähnt .", "Siehe auch {}", "({}) war nicht dabei !"],
    "en": ["{} was mentioned in the paper .", "See also {}", "They say that ({}) was not there !"],
    "zh": ["昨天{}上了报纸。", "参见{}", "（{}）没有来！"],
}


def _sentences(language: str, count: int = 20) -> list[Sentence]:
    choose = random.Random(language)
    found = []
    for number in range(count):
        label = LABELS[number % 3]
        name, frame = choose.choice(_NAMES[language][label]), choose.choice(_FRAMES[language])
        start = frame.index("{}")
        text = f"{frame.format(name)} {number}"
        found.append(Sentence(text, (Entity(start, start + len(name), label, name),), language, f"{language}:{number}"))
    return found


@pytest.fixture(scope="session")
def corpus() -> dict[str, list[Sentence]]:
    """20 sentences of one entity for each of de, en and zh."""
    return {language: _sentences(language) for language in RANKS}


@pytest.fixture(scope="session")
def tiny_tokenizer(corpus: dict[str, list[Sentence]]) -> Any:
    """A byte-level BPE tokenizer of 360 tokens with the markers of the template mini.v1."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=MARKERS + TAG_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([each.text for sentences in corpus.values() for each in sentences], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")


@pytest.fixture(scope="session")
def make_backbone() -> Callable[..., Any]:
    """``make_backbone(architecture, seed=0)``: a random model of two layers of width 32, in evaluation mode."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    torch.set_num_threads(1)

    def make(architecture: str = "llama", seed: int = 0) -> Any:
        sizes: dict[str, Any] = {
            "vocab_size": 360,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "initializer_range": 0.3,
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 0,
        }
        torch.manual_seed(seed)
        if architecture == "llama":
            return LlamaForCausalLM(LlamaConfig(**sizes)).eval()
        return Qwen2ForCausalLM(Qwen2Config(**sizes)).eval()

    return make


@dataclass(frozen=True)
class Kind:
    """What distinguishes the tiny models."""

    architecture: str = "llama"
    attention: str = "full"
    dtype: str = "float32"
    seed: int = 0
    decoder: str = "tagging"

    def config(self) -> ModelConfig:
        full = self.attention == "full"
        tagging = self.decoder == "tagging"
        templates = ("mini.v1", "plain.v1") if tagging else ("mini-answer.v1", "answer.v1")
        spacing = "always" if full else "as_is"
        return ModelConfig(
            name="tiny",
            backbone=BackboneConfig(path="backbone", dtype=self.dtype),
            labels=tuple(LabelConfig(name=name, definition=f"kind {name}") for name in LABELS),
            prompt=PromptConfig(
                template=templates[0 if full else 1], max_tokens=256, entity_examples=4, context_examples=2
            ),
            retrieval=RetrievalConfig(neighbours=8),
            windows=WindowConfig(words=24, overlap=6),
            decoder=(
                TaggingConfig(attention=self.attention, spacing=spacing)
                if tagging
                else GenerationConfig(spacing=spacing)
            ),
        )


def _adapter(backbone: Any, language: str) -> Any:
    """A random adapter, whose numbers depend on the language alone."""
    import torch

    from retrieveall.adapters.weights import LoraLayer, LoraShape, LoraWeights

    generator = torch.Generator().manual_seed(RANKS[language])
    shape = LoraShape(RANKS[language], 4.0, target_modules=("q_proj", "v_proj", "down_proj"))
    layers = {}
    for name, module in backbone.named_modules():
        if name.endswith(shape.target_modules):
            a = torch.randn(shape.rank, module.in_features, generator=generator) * 0.3
            b = torch.randn(module.out_features, shape.rank, generator=generator) * 0.3
            layers[name] = LoraLayer(a, b, shape.scaling_of(name))
    return LoraWeights(shape, layers)


@pytest.fixture(scope="session")
def build_model(
    corpus: dict[str, list[Sentence]], tiny_tokenizer: Any, make_backbone: Callable[..., Any]
) -> Callable[..., Path]:
    """``build_model(folder, **fields of Kind)``: a whole model folder, manifest included."""
    import torch

    from retrieveall.adapters import AdapterCard, AdapterPool, backbone_fingerprint
    from retrieveall.decoders import complete_config
    from retrieveall.knowledge import KnowledgeBase
    from retrieveall.storage import Manifest
    from tiny import codec_of

    def build(folder: Path, **fields: Any) -> Path:
        kind = Kind(**fields)
        config = kind.config()
        config = complete_config(config, codec_of(tiny_tokenizer, config.decoder.spacing))
        backbone = make_backbone(kind.architecture, kind.seed).to(getattr(torch, kind.dtype))
        backbone.save_pretrained(folder / "backbone")
        tiny_tokenizer.save_pretrained(folder / "backbone")
        for language, rank in RANKS.items():
            card = AdapterCard(
                language, LABELS, config.prompt.template, backbone_fingerprint(backbone), rank=rank, alpha=4.0
            )
            AdapterPool.save(folder / "adapters" / language, _adapter(backbone, language), card)
        KnowledgeBase.build(corpus).write_files(folder / "knowledge")
        (folder / "retrieveall.yaml").write_text(dump_yaml(config), encoding="utf-8")
        Manifest.of(folder).write()
        return folder

    return build


@pytest.fixture(scope="session")
def tiny_model(build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with full attention, spacing "always" and the template mini.v1. Not to be changed."""
    return build_model(tmp_path_factory.mktemp("full"), attention="full")


@pytest.fixture(scope="session")
def tiny_repeat_model(build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of Qwen2 that repeats, with spacing "as_is" and the template plain.v1. Not to be changed."""
    return build_model(tmp_path_factory.mktemp("repeat"), architecture="qwen2", attention="repeat")


@pytest.fixture(scope="session")
def tiny_generating_model(build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that writes answers, with spacing "always" and the template mini-answer.v1. Not to be changed."""
    return build_model(tmp_path_factory.mktemp("generating"), decoder="generation", attention="full")


@pytest.fixture
def model_copy(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of ``tiny_model`` to change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture(scope="session")
def loaded(tiny_model: Path) -> RetrieveAll:
    """``tiny_model``, opened. Not to be changed."""
    from retrieveall import RetrieveAll

    return RetrieveAll.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="session")
def loaded_repeat(tiny_repeat_model: Path) -> RetrieveAll:
    """``tiny_repeat_model``, opened. Not to be changed."""
    from retrieveall import RetrieveAll

    return RetrieveAll.from_pretrained(tiny_repeat_model, device="cpu")


@pytest.fixture(scope="session")
def mixed_texts(corpus: dict[str, list[Sentence]]) -> list[str]:
    """Texts of all three languages and several lengths, in mixed order."""
    texts = [each.text for sentences in corpus.values() for each in sentences[:4]]
    texts += ["Karl May in London", "北京 und Köln", "Zürich", "Anna " * 40, "x"]
    random.Random(7).shuffle(texts)
    return texts


def _plain(entities: Any) -> list[Entity]:
    return [replace(entity, score=None) for entity in entities]


@pytest.fixture(scope="session")
def without_scores() -> Callable[[Any], list[Entity]]:
    """Entities without their scores, which depend on the batch in the last digits."""
    return _plain
