"""The steps from corpora to retrieveall-mini."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from recipes.base.corpora import Corpora
from recipes.base.variations import WORDS as MADE_WORDS
from recipes.corpora import Lines, Sentences
from recipes.mini.knowledge import build_knowledge
from recipes.mini.masked_words import tokenise
from recipes.mini.negatives import find_negatives
from recipes.mini.plain_text import WORDS
from recipes.mini.positives import find_positives
from recipes.mini.recipe_settings import Settings
from recipes.mini.settings import MaskedWordsSettings
from recipes.mini.taught import copy_backbone, mix_backbones, train_taught_model, tune_taught, write_taught_sentences
from recipes.mini.teacher import Teacher, label_plain_text
from recipes.mini.tokenizer import train_tokenizer
from recipes.mini.training import TOKENIZER_FILES, train_masked_words, tune
from recipes.mini.vectors import train_vectors
from recipes.steps import Files, Step
from retrieveall.config import TrainingConfig

__all__ = ["Settings", "add_arguments", "model"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this recipe needs beside the settings."""
    parser.add_argument("--panx", type=Path, required=True, help="folder of LANGUAGE/train.tsv and validation.tsv")
    parser.add_argument("--running", type=Path, required=True, help="folder of LANGUAGE/CORPUS/train.tsv")
    parser.add_argument("--lmtext", type=Path, required=True, help="folder of LANGUAGE.txt.xz")
    parser.add_argument(
        "--teacher", default="base", help="model that labels plain text: name or folder (default: %(default)s)"
    )
    parser.add_argument(
        "--backbone",
        type=Path,
        help="folder of the backbone that is taught: that of an earlier mini, as version 8 went on from version 7"
        " (commit a6d755d, src/retrieveall/models/mini/backbone); built from the corpora if left out, in hours",
    )


def model(settings: Settings, arguments: argparse.Namespace) -> Step:
    """The last step, whose folder holds the model in ``model/``; the others are those that it needs."""
    languages, limits = settings.languages, settings.limits
    text = Lines(arguments.lmtext, languages, limits.lines)
    panx = Sentences(arguments.panx, "train", languages, limits.sentences)
    corpora = {"train": panx, "text": text}
    rules = _files(WORDS)
    negatives = Step("negatives", find_negatives, {"settings": settings.negatives, "words": rules, **corpora})
    if arguments.backbone is None:
        validation = Sentences(arguments.panx, "validation", languages, limits.validation)
        backbone = _backbone(settings, corpora, validation, negatives)
    else:
        files = Files(arguments.backbone, ("config.json", "model.safetensors", *TOKENIZER_FILES))
        backbone = Step("given", copy_backbone, {"backbone": files})

    teacher = Teacher(arguments.teacher)
    labels = Step("labels", label_plain_text, {"settings": settings.teacher, "teacher": teacher, "text": text})
    sentences = Step(
        "taught-sentences",
        write_taught_sentences,
        {
            "settings": settings.taught_sentences,
            "corpora": settings.taught_corpora,
            "data": Corpora(arguments.panx, arguments.running, languages, limits.sentences),
            "negatives": negatives,
            "labels": labels,
            "words": _files(MADE_WORDS),
        },
    )
    data = {"model": settings.model, "sentences": sentences, "teacher": teacher, "languages": languages}
    longest = settings.model.prompt.max_tokens
    taught = Step(
        "taught-tuning",
        tune_taught,
        {"settings": settings.taught_tuning, "backbone": backbone, **data},
        _work(settings.taught_tuning, longest),
    )
    mixed = Step("mixed", mix_backbones, {"share": settings.taught_share, "before": backbone, "after": taught})
    given = {"settings": settings.adapters, "backbone": mixed, **data}
    return Step("model", train_taught_model, given, _work(settings.adapters, longest))


def _backbone(settings: Settings, corpora: dict[str, Any], validation: Sentences, negatives: Step) -> Step:
    """The steps from corpora to a backbone that has learnt the names of PAN-X."""
    longest = settings.model.prompt.max_tokens
    labels = list(settings.model.label_names)
    tokenizer = Step("tokenizer", train_tokenizer, {"settings": settings.tokenizer, "labels": labels, **corpora})
    tokenized = {"tokenizer": tokenizer, **corpora}
    vectors = Step("vectors", train_vectors, {"settings": settings.vectors, **tokenized})
    tokens = Step("text", tokenise, {"settings": settings.text, **tokenized})
    backbone = Step(
        "masked-words",
        train_masked_words,
        {
            "shape": settings.backbone,
            "settings": settings.masked_words,
            "text": tokens,
            "vectors": vectors,
            "tokenizer": tokenizer,
        },
        _work(settings.masked_words, longest),
    )
    train = corpora["train"]
    knowledge = Step("knowledge", build_knowledge, {"dimension": settings.knowledge_dimension, "train": train})
    positives = Step(
        "positives",
        find_positives,
        {"settings": settings.positives, "words": _files(WORDS), "knowledge": knowledge, **corpora},
    )
    data = {
        "model": settings.model,
        "sentences": settings.sentences,
        "train": train,
        "validation": validation,
        "negatives": negatives,
        "positives": positives,
        "knowledge": knowledge,
    }
    for number, training in enumerate(settings.tuning, start=1):
        given = {"settings": training, "backbone": backbone, **data}
        backbone = Step(f"tuning-{number}", tune, given, _work(training, longest))
    return backbone


def _files(folder: Path) -> Files:
    return Files(folder, tuple(sorted(path.name for path in folder.iterdir())))


def _work(training: MaskedWordsSettings | TrainingConfig, row_length: int) -> str:
    """The steps of a training and their tokens; in epochs where the data decides how many steps those are."""
    tokens = training.batch_size * training.gradient_accumulation * (training.row_length or row_length)
    if training.steps is None:
        return f"{training.epochs:g} epochs, {tokens:,} tokens a step"
    return f"{training.steps:,} steps, {training.steps * tokens / 1e6:,.1f} million tokens"
