"""An adapter that was trained elsewhere with PEFT, on the same backbone, joins the pool of a model folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from retrieveall.adapters import AdapterCard, AdapterPool, LoraWeights, backbone_fingerprint, read_adapter
from retrieveall.adapters.bank import AdapterBank
from retrieveall.adapters.card import CARD_NAME
from retrieveall.adapters.peft_config import CONFIG_NAME
from retrieveall.config import check_language
from retrieveall.data import check_labels
from retrieveall.engines.local.backbone import load_backbone
from retrieveall.errors import AdapterError, InputError, LanguageError
from retrieveall.model_folder import ADAPTERS, KNOWLEDGE, ModelFolder
from retrieveall.storage import Transaction, read_json
from retrieveall.types import Sentence

__all__ = ["Adopted", "adopt"]


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was taken in. ``base`` is the backbone that the adapter's own configuration names, if any."""

    rank: int
    modules: int
    parameters: int
    sentences: int
    base: str | None


def adopt(folder: Path, language: str, source: Path, sentences: Sequence[Sentence] | None = None) -> Adopted:
    """Put the adapter in ``source`` (PEFT's two files) into the model ``folder`` as ``language``, as one change.

    Its tensors are compared with the backbone layer by layer and run once. That it was trained on this very backbone,
    with this model's prompts and labels, only a card of ours beside it can tell; without one it is up to the caller.

    Args:
        sentences: become the language's knowledge; without them it has none, and routing finds it only by name.

    Raises:
        LanguageError: no identifier, or a language that the model has already.
        AdapterError: no plain LoRA, or one that does not fit this backbone; names file and tensor.
        UnsafeFileError: weights that would be unpickled.
        ModelFolderError: a file is missing.
        InputError: ``sentences`` is empty, or has a label that the model does not have.
    """
    check_language(language)
    model = ModelFolder.open(folder)
    knowledge = model.knowledge()
    if language in model.languages() or (sentences is not None and language in knowledge.languages):
        raise LanguageError(
            f"the model has the language {language!r} already; "
            f"remove it first with: retrieveall remove-language {language} --model {shlex.quote(str(folder))}"
        )
    if sentences is not None:
        _check_sentences(sentences, model.config.label_names, language)
    weights = read_adapter(source)
    base = read_json(source / CONFIG_NAME).get("base_model_name_or_path")
    backbone = load_backbone(model.config, model.path)
    fingerprint = backbone_fingerprint(backbone)
    if (source / CARD_NAME).is_file():
        _check_card(AdapterCard.load(source), source, model.config.label_names, fingerprint)
    if model.config.decoder.reads_logits:
        _refuse_head(backbone, weights, language)
    _run_once(backbone, weights, language)
    card = AdapterCard(
        language=language,
        labels=model.config.label_names,
        template=model.config.prompt.template,
        backbone_fingerprint=fingerprint,
        rank=weights.shape.rank,
        alpha=weights.shape.alpha,
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        data={"adopted": True, "sentences": len(sentences or ())},
    )
    if sentences is not None:
        knowledge.add_language(language, sentences)
    with Transaction(model.path) as transaction:
        AdapterPool.save(transaction.replace_folder(f"{ADAPTERS}/{language}"), weights, card)
        if sentences is not None:
            knowledge.save_language(language, transaction.replace_folder(f"{KNOWLEDGE}/{language}"))
    parameters = sum(layer.a.numel() + layer.b.numel() for layer in weights.layers.values())
    named = base if isinstance(base, str) and base else None
    return Adopted(weights.shape.rank, len(weights.layers), parameters, len(sentences or ()), named)


def _check_sentences(sentences: Sequence[Sentence], labels: Sequence[str], language: str) -> None:
    if not sentences:
        raise InputError(f"expected sentences of {language!r} as its knowledge, got none")
    check_labels(sentences, labels, language, "relabel it")


def _check_card(card: AdapterCard, source: Path, labels: Sequence[str], fingerprint: str) -> None:
    if card.backbone_fingerprint not in ("", fingerprint):
        raise AdapterError(
            f"{source / CARD_NAME}: the adapter was trained on the backbone {card.backbone_fingerprint[:12]}, this one "
            f"is {fingerprint[:12]}; train it on this backbone"
        )
    if tuple(card.labels) != tuple(labels):
        raise AdapterError(
            f"{source / CARD_NAME}: expected an adapter for the labels {', '.join(labels)}, this one is for "
            f"{', '.join(card.labels) or 'none'}; train it for these labels"
        )


def _refuse_head(backbone: Any, weights: LoraWeights, language: str) -> None:
    """Tags are read from rows of the output embedding, which no adapter reaches."""
    head = backbone.get_output_embeddings()
    for name, module in backbone.named_modules():
        if module is head and name in weights.layers:
            raise AdapterError(
                f"adapter {language!r} changes the output embedding {name}, which the tagging decoder reads by rows; "
                "train it without that module, or use a model with decoder.kind 'generation'"
            )


def _run_once(backbone: Any, weights: LoraWeights, language: str) -> None:
    """Load it into the bank, which checks every shape, and see that it computes numbers."""
    bank = AdapterBank.attach(backbone)
    try:
        bank.add(language, weights)
        ids = torch.zeros(1, 2, dtype=torch.long, device=next(backbone.parameters()).device)
        with torch.inference_mode(), bank.use([{language: 1.0}]):
            states = backbone.base_model(input_ids=ids, use_cache=False).last_hidden_state
    finally:
        bank.detach()
    if not states.isfinite().all():
        raise AdapterError(
            f"adapter {language!r} gives NaN or infinity on this backbone; use the one it was trained on"
        )
