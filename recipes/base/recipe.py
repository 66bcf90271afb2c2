"""The steps from a pretrained encoder and corpora to retrieveall-base."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from recipes.base.backbone import cut_backbone
from recipes.base.corpora import Corpora
from recipes.base.plain_text import label_plain_text
from recipes.base.sentences import write_sentences
from recipes.base.settings import Settings
from recipes.base.training import build_knowledge, mix, train_model, tune, unpack_backbone
from recipes.base.variations import WORDS
from recipes.corpora import Lines, Sentences
from recipes.mini.negatives import find_negatives
from recipes.mini.plain_text import WORDS as NEGATIVE_WORDS
from recipes.steps import Files, Step
from retrieveall.config import ModelConfig, TrainingConfig
from retrieveall.engines.local.packed import PACKED

__all__ = ["Settings", "add_arguments", "model"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this recipe needs beside the settings."""
    parser.add_argument("--panx", type=Path, required=True, help="folder of LANGUAGE/train.tsv and validation.tsv")
    parser.add_argument("--running", type=Path, required=True, help="folder of LANGUAGE/CORPUS/train.tsv")
    parser.add_argument("--lmtext", type=Path, required=True, help="folder of LANGUAGE.txt.xz")
    parser.add_argument(
        "--backbone",
        default="intfloat/multilingual-e5-small",
        help="folder or hub id of the encoder (default: %(default)s)",
    )
    parser.add_argument(
        "--tuned",
        type=Path,
        metavar="FOLDER",
        help="go on from a backbone that this recipe made, such as src/retrieveall/models/base/backbone, in place of"
        " the first tuning",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="where the encoder and the adapters are trained, such as cuda (default: %(default)s)",
    )


def model(settings: Settings, arguments: argparse.Namespace) -> Step:
    """The last step, whose folder holds the model in ``model/``; the others are those that it needs."""
    languages, limits = settings.languages, settings.limits
    corpora = Corpora(arguments.panx, arguments.running, languages, limits.sentences)
    panx = Sentences(arguments.panx, "train", languages, limits.sentences)
    text = Lines(arguments.lmtext, languages, limits.lines)
    words, rules = (
        Files(each, tuple(sorted(path.name for path in each.iterdir()))) for each in (WORDS, NEGATIVE_WORDS)
    )

    # No argument of the steps: their keys are the same on every device.
    tune_there, train_there = (partial(each, device=arguments.device) for each in (tune, train_model))

    # The encoder is tuned on the texts alone, then on prompts with what is retrieved, then its adapters are.
    alone = {"entity_examples": 0, "context_examples": 0, "without_adapter": True}
    bare = _with_prompt(settings.model, alone)
    without_adapters = _with_prompt(settings.model, {"without_adapter": True})
    backbone = Step("backbone", cut_backbone, {"settings": settings.backbone, "backbone": str(arguments.backbone)})
    negatives = Step(
        "negatives", find_negatives, {"settings": settings.negatives, "words": rules, "train": panx, "text": text}
    )
    shared = {"data": corpora, "negatives": negatives, "words": words}
    sentences = Step(
        "sentences", _write_sentences, {"settings": settings.sentences, "corpora": settings.corpora, **shared}
    )
    if arguments.tuned is not None:
        files = Files(arguments.tuned, ("config.json", PACKED, "tokenizer.json", "tokenizer_config.json"))
        tuned = Step("given", unpack_backbone, {"backbone": files})
    else:
        tuned = Step(
            "tuning",
            tune_there,
            {
                "settings": settings.tuning,
                "model": bare,
                "backbone": backbone,
                "sentences": sentences,
                "languages": languages,
            },
            _work(settings.tuning),
            parallel=True,
        )
    plain_text = Step(
        "plain-text",
        label_plain_text,
        {
            "settings": settings.plain_text,
            "model": bare,
            "backbone": tuned,
            "sentences": sentences,
            "text": text,
        },
    )
    for_knowledge = Step(
        "retrieving-sentences",
        _write_sentences,
        {
            "settings": settings.retrieving_sentences,
            "corpora": settings.retrieving_corpora,
            "plain_text": plain_text,
            "joined_with_names": False,
            **shared,
        },
    )
    knowledge = Step(
        "knowledge",
        build_knowledge,
        {"dimension": settings.knowledge_dimension, "sentences": sentences, "languages": languages},
    )
    retrieving = {"sentences": for_knowledge, "knowledge": knowledge, "languages": languages}
    tuned_again = Step(
        "tuning-with-knowledge",
        tune_there,
        {"settings": settings.tuning_with_knowledge, "model": without_adapters, "backbone": tuned, **retrieving},
        _work(settings.tuning_with_knowledge),
        parallel=True,
    )
    if settings.tuned_share < 1:
        tuned_again = Step("mixed", mix, {"share": settings.tuned_share, "before": tuned, "after": tuned_again})
    return Step(
        "model",
        train_there,
        {
            "settings": settings.adapters,
            "most": settings.adapter_sentences,
            "model": settings.model,
            "backbone": tuned_again,
            **retrieving,
        },
        _work(settings.adapters),
        parallel=True,
    )


def _with_prompt(model: ModelConfig, update: Mapping[str, object]) -> ModelConfig:
    return model.model_copy(update={"prompt": model.prompt.model_copy(update=update)})


def _work(settings: TrainingConfig) -> str:
    assert settings.row_length is not None
    tokens = 2 * settings.batch_size * settings.row_length
    return f"{settings.steps:,} steps of {tokens:,} tokens in two processes"


def _write_sentences(folder: Path, *, words: Files, **arguments: object) -> None:
    """``words`` are read by the writer itself; they are an argument for the step's key."""
    write_sentences(folder, **arguments)  # type: ignore[arg-type]
