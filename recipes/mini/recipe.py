"""The steps from corpora to retrieveall-mini."""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.corpora import Lines, Sentences
from recipes.mini.knowledge import build_knowledge
from recipes.mini.masked_words import tokenise
from recipes.mini.negatives import find_negatives
from recipes.mini.plain_text import WORDS
from recipes.mini.positives import find_positives
from recipes.mini.settings import MaskedWordsSettings, Settings
from recipes.mini.tokenizer import train_tokenizer
from recipes.mini.training import train_masked_words, train_model, tune
from recipes.mini.vectors import train_vectors
from recipes.steps import Files, Step
from retrieveall.config import TrainingConfig

__all__ = ["Settings", "add_arguments", "model"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this recipe needs beside the settings."""
    parser.add_argument("--panx", type=Path, required=True, help="folder of LANGUAGE/train.tsv and validation.tsv")
    parser.add_argument("--lmtext", type=Path, required=True, help="folder of LANGUAGE.txt.xz")


def model(settings: Settings, arguments: argparse.Namespace) -> Step:
    """The last step, whose folder holds the model in ``model/``; the others are those that it needs."""
    panx, lmtext = arguments.panx, arguments.lmtext
    languages, limits = settings.languages, settings.limits
    train = Sentences(panx, "train", languages, limits.sentences)
    validation = Sentences(panx, "validation", languages, limits.validation)
    text = Lines(lmtext, languages, limits.lines)
    corpora = {"train": train, "text": text}
    words = Files(WORDS, tuple(sorted(path.name for path in WORDS.iterdir())))

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
    knowledge = Step("knowledge", build_knowledge, {"dimension": settings.knowledge_dimension, "train": train})
    negatives = Step("negatives", find_negatives, {"settings": settings.negatives, "words": words, **corpora})
    positives = Step(
        "positives",
        find_positives,
        {"settings": settings.positives, "words": words, "knowledge": knowledge, **corpora},
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
    given = {"settings": settings.adapters, "backbone": backbone, **data}
    return Step("model", train_model, given, _work(settings.adapters, longest))


def _work(training: MaskedWordsSettings | TrainingConfig, row_length: int) -> str:
    """The steps of a training and their tokens; in epochs where the data decides how many steps those are."""
    tokens = training.batch_size * training.gradient_accumulation * (training.row_length or row_length)
    if training.steps is None:
        return f"{training.epochs:g} epochs, {tokens:,} tokens a step"
    return f"{training.steps:,} steps, {training.steps * tokens / 1e6:,.1f} million tokens"
