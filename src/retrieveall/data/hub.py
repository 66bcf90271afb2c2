"""Data sets of the Hugging Face hub, by name and configuration, read with the package ``datasets``.

Supports any data set with a column of tokens and a column of tags. No data set code is run: ``datasets`` 4 and later
load tables only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from retrieveall.data.conll import TaggedSentence, to_sentence, with_style
from retrieveall.data.schemes import split_tag
from retrieveall.errors import DataError, InputError, MissingExtraError
from retrieveall.storage.hub import fail_fast
from retrieveall.types import Sentence

__all__ = ["TAG_COLUMNS", "TOKEN_COLUMNS", "quiet_retries", "read_hub", "tagged_row", "token_columns"]

TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "tags", "labels", "ner")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z]{2,8})*|simple")


def read_hub(
    name: str,
    configuration: str | None = None,
    split: str = "train",
    *,
    language: str | None = None,
    revision: str | None = None,
) -> Iterator[Sentence]:
    """Stream the sentences of one split of a data set.

    Args:
        name: a hub id such as ``unimelb-nlp/wikiann`` or ``google/xtreme``, or a local folder of tables.
        configuration: such as ``de`` or ``PAN-X.de``.
        split: ``train``, ``validation`` or ``test``.
        language: language of the sentences; by default the last component of the configuration, if it looks like a
            language.
        revision: a branch, tag or commit of the data set.

    Yields:
        Sentences with ids ``{language}-{split}-{number}``.

    Raises:
        MissingExtraError: the package ``datasets`` is not installed.
        DataError: the data set cannot be loaded, or has no tokens with tags.
    """
    if language is None:
        language = _language_of(configuration)
    where = f"{name}/{configuration}" if configuration else name
    rows = _load(name, configuration, split, revision, where)
    tokens, tags = token_columns(rows.features, where)
    names: Sequence[str] | None = getattr(getattr(rows.features[tags], "feature", None), "names", None)
    tagged = (
        tagged_row(row[tokens], row[tags], names, f"{where}:{split}", number)
        for number, row in enumerate(rows, 1)
        if row[tokens]
    )
    first = next(tagged, None)
    if first is None:
        raise DataError(f"{where}: expected at least one sentence in the split {split!r}, got none")
    stem = f"{language}-{split}" if language else split
    return (
        to_sentence(item, style, language=language, identifier=f"{stem}-{item.lines[0]}")
        for item, style in with_style(chain([first], tagged), language=language)
    )


@contextmanager
def quiet_retries() -> Iterator[None]:
    """Replace the hub client's warnings about retries by a single one.

    Without a network the client tries six times in half a minute and logs each attempt.
    """
    logger = logging.getLogger("huggingface_hub.utils._http")
    once = _WarnOnce()
    logger.addFilter(once)
    try:
        yield
    finally:
        logger.removeFilter(once)


class _WarnOnce(logging.Filter):
    """Lets only the first warning through, reworded."""

    _warned = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        first, self._warned = not self._warned, True
        record.msg, record.args = "the Hugging Face hub is not reachable; retrying for up to half a minute", ()
        return first


def _language_of(configuration: str | None) -> str | None:
    """``de`` for ``de`` and for ``PAN-X.de``; none for ``default`` or ``conll2003``."""
    last = (configuration or "").rsplit(".", 1)[-1]
    return last if _LANGUAGE.fullmatch(last) else None


def _load(name: str, configuration: str | None, split: str, revision: str | None, where: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "datasets", "reading a data set of the Hugging Face hub") from None
    try:
        with quiet_retries(), fail_fast(name):
            return datasets.load_dataset(name, configuration, split=split, revision=revision)
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"{where}: the split {split!r} cannot be loaded: {detail}; check the names and the network, or give a file"
        ) from None


def token_columns(columns: Iterable[str], where: str) -> tuple[str, str]:
    """The names of the columns of tokens and of tags.

    Raises:
        DataError: one of them is missing.
    """
    there = list(columns)
    tokens = next((column for column in TOKEN_COLUMNS if column in there), None)
    tags = next((column for column in TAG_COLUMNS if column in there), None)
    if tokens is None or tags is None:
        raise DataError(
            f"{where}: expected a column {' or '.join(TOKEN_COLUMNS)} and a column {' or '.join(TAG_COLUMNS)}, "
            f"got {', '.join(there)[:200]}; convert the data set to JSONL"
        )
    return tokens, tags


def tagged_row(words: Any, values: Any, names: Sequence[str] | None, where: str, number: int) -> TaggedSentence:
    """A row as a sentence of tokens; ``names`` are the tags by their numbers.

    Raises:
        DataError: not a tag for each token, a number without a name, a malformed tag.
    """
    try:
        if not isinstance(words, list) or not isinstance(values, list) or len(words) != len(values):
            raise InputError(f"expected one tag per token, got {_count(words)} tokens and {_count(values)} tags")
        tags = tuple(_tag(value, names) for value in values)
        for tag in tags:
            split_tag(tag)
    except InputError as error:
        raise DataError(f"{where}:{number}: {error}") from None
    return TaggedSentence(tuple(map(str, words)), tags, (number,) * len(words), where)


def _count(values: Any) -> int:
    return len(values) if isinstance(values, list) else 0


def _tag(value: Any, names: Sequence[str] | None) -> str:
    if not isinstance(value, int):
        return str(value)
    if names is None:
        raise InputError(
            f"expected the tags or their names, got the number {value}; the data set must name them (ClassLabel), or "
            f"convert them to strings"
        )
    if not 0 <= value < len(names):
        raise InputError(f"expected the number of a tag, 0 to {len(names) - 1}, got {value}")
    return names[value]
