"""Checks what callers of the Python interface pass: texts, languages, labels, thresholds; says what was meant.

Shared by the model, the integrations and the client of the service. Knows no model, only its languages and labels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from retrieveall.config import MAX_CHARACTERS
from retrieveall.errors import InputError, LanguageError
from retrieveall.types import LEVELS, Level

__all__ = [
    "LABELS_BY_WORD",
    "check_count",
    "check_language",
    "check_option_names",
    "check_text",
    "check_threshold",
    "check_unicode",
    "checked_path",
    "checked_texts",
    "label_meant",
    "languages_per_text",
    "listed",
    "listed_levels",
    "server_url",
    "wanted_labels",
]

_EMPTY = ("NAType", "NaTType")  # of pandas, beside NaN
LABELS_BY_WORD = {
    **dict.fromkeys(("person", "persons", "people", "name", "human", "per", "pers"), "PER"),
    **dict.fromkeys(("organization", "organisation", "organizations", "organisations", "company", "org"), "ORG"),
    **dict.fromkeys(("location", "locations", "place", "places", "city", "country", "gpe", "loc"), "LOC"),
}
"""What the usual labels of the field are called elsewhere."""

_LANGUAGES = {
    **{"ar": "arabic ara", "bn": "bengali ben", "cs": "czech ces cze", "da": "danish dan", "el": "greek ell gre"},
    **{"de": "german deutsch deu ger", "en": "english eng", "es": "spanish español espanol castellano spa"},
    **{"fa": "persian farsi fas per", "fi": "finnish fin", "fr": "french français francais fra fre"},
    **{"he": "hebrew heb", "hi": "hindi hin", "hu": "hungarian hun", "id": "indonesian ind", "it": "italian ita"},
    **{"ja": "japanese jp jpn 日本語", "ko": "korean kr kor 한국어", "nl": "dutch nld dut", "no": "norwegian nor"},
    **{"pl": "polish pol", "pt": "portuguese por", "ro": "romanian ron rum", "ru": "russian rus русский"},
    **{"sv": "swedish swe", "sw": "swahili swa", "th": "thai tha", "tr": "turkish tur", "uk": "ukrainian ukr ua"},
    **{"vi": "vietnamese vie", "zh": "chinese cn zho chi mandarin 中文"},
}
_LANGUAGE_BY_WORD = {word: code for code, words in _LANGUAGES.items() for word in words.split()}


def listed(texts: str | Iterable[str]) -> Iterable[str]:
    """The texts; a single one as a list.

    Raises:
        InputError: no texts, or a container whose items are none.
    """
    if isinstance(texts, str):
        return [texts]
    kind = type(texts).__name__
    if getattr(texts, "ndim", 1) != 1:
        raise InputError(
            f"expected a text or a list of texts, got {kind}, a table; pass one column, such as table['text'].tolist()"
        )
    if isinstance(texts, (set, frozenset)):
        raise InputError(f"expected a text or a list of texts, got {kind}, which has no order; pass a list")
    if isinstance(texts, (bytes, bytearray, Mapping)) or not isinstance(texts, Iterable):
        raise InputError(f"expected a text or a list of texts, got {kind}; pass str, decode bytes first")
    return texts


def check_text(text: Any, number: int) -> None:
    """Refuse what is no text, or too long.

    Raises:
        InputError: names the place in the list.
    """
    if not isinstance(text, str):
        empty = text is None or type(text).__name__ in _EMPTY or (isinstance(text, float) and math.isnan(text))
        remedy = "empty cells of a table are to be '', as with fillna('')" if empty else "pass str, decode bytes first"
        raise InputError(
            f"expected a text, got {type(text).__name__} as text {number} of the list (the first is 0); {remedy}"
        )
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"expected texts of at most {MAX_CHARACTERS:,} characters, got {len(text):,} as text {number} of the list "
            "(the first is 0); split the document"
        )


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts up to an invalid one.

    Raises:
        InputError: names the number of the invalid text.
    """
    for number, text in enumerate(texts):
        check_text(text, number)
        yield text


def check_threshold(threshold: Any) -> None:
    """Refuse what is no probability; None is the model's own.

    Raises:
        InputError: no number from 0 to 1.
    """
    if threshold is None:
        return
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not (number and 0.0 <= float(threshold) <= 1.0):
        shown = f"{threshold}" if number else repr(threshold)[:80]
        hint = f"; for per cent, divide by 100: {threshold / 100:g}" if number and 1 < float(threshold) <= 100 else ""
        raise InputError(f"expected a threshold from 0 to 1, got {shown}{hint}")


def check_count(value: Any, name: str) -> None:
    """Refuse what is no number of at least 1.

    Raises:
        InputError: names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"expected {name} of at least 1, got {repr(value)[:80]}")


def listed_levels(levels: Any) -> list[Level]:
    """The levels as a list; a generator is read once.

    Raises:
        InputError: an unknown level; no list.
    """
    items = list(levels) if _is_list(levels) else [levels]
    unknown = [level for level in items if not (isinstance(level, str) and level in LEVELS)]
    if unknown or not _is_list(levels):
        raise InputError(
            f"expected a list of levels among {', '.join(LEVELS)}, got {repr((unknown or [levels])[0])[:80]}"
        )
    return items


def check_unicode(text: str, what: str) -> None:
    """Refuse a lone surrogate, which no file and no request can hold.

    Raises:
        InputError: names the place.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"expected Unicode text, got a lone surrogate in {what}, at {error.start}; remove it"
        ) from None


def checked_path(path: Any, what: str) -> Path:
    """A path as a string or a ``Path``.

    Raises:
        InputError: neither; a null character in it.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"expected {what} as a path, got {type(path).__name__}; pass a str or a Path")
    found = os.fspath(path)
    if not isinstance(found, str) or not found or "\0" in found:
        raise InputError(f"expected {what} as a path, got {repr(found)[:80]}")
    return Path(found)


def languages_per_text(language: Any, count: int, known: Collection[str] | None) -> list[str | None]:
    """The language of each text: one for all, or one a text; None where it is to be found.

    Args:
        known: the languages of the model; None where only it knows them.

    Raises:
        InputError: neither; not as many as texts.
        LanguageError: a language that is not among ``known``.
    """
    if language is None or isinstance(language, str):
        languages: list[str | None] = [language] * count
        check_language(language, known)
        return languages
    if isinstance(language, (bytes, bytearray)) or not isinstance(language, Sequence):
        raise InputError(f"expected a language, or one per text, got {type(language).__name__}; give a string")
    if len(language) != count:
        raise InputError(f"expected one language per text ({count}), got {len(language)}")
    for name in language:
        check_language(name, known)
    return list(language)


def check_language(language: Any, known: Collection[str] | None) -> None:
    """Refuse a language that is not among ``known``, if that is not None; a language of None is to be found.

    Raises:
        LanguageError: names the one that was meant, or how to add it.
    """
    if language is None or (isinstance(language, str) and (known is None or language in known)):
        return
    if known is None:
        raise LanguageError(f"expected a language as a string, got {type(language).__name__}")
    meant = _language_meant(language, known) if isinstance(language, str) else None
    remedy = f"did you mean {meant!r}?" if meant else "add it with: retrieveall add-language"
    raise LanguageError(
        f"expected one of the languages {', '.join(sorted(known)) or '(none)'}, got {str(language)[:80]!r}; {remedy}"
    )


def wanted_labels(labels: Any, known: Sequence[str] | None) -> frozenset[str]:
    """The labels to return; None: all.

    Args:
        known: the labels of the model; None where only it knows them.

    Raises:
        InputError: no labels, or one that is not among ``known``; names the one that was meant.
    """
    if labels is None:
        return frozenset(known or ())
    if not isinstance(labels, str) and not _is_list(labels):
        raise InputError(f"expected a list of labels, got {type(labels).__name__}")
    if getattr(labels, "ndim", 1) != 1:
        raise InputError(f"expected a list of labels, got {type(labels).__name__}, a table; pass one row or column")
    wanted = [labels] if isinstance(labels, str) else list(labels)
    for label in wanted:
        if known is None:
            if not isinstance(label, str):
                raise InputError(f"expected labels as strings, got {type(label).__name__}")
        elif not isinstance(label, str) or label not in known:
            meant = label_meant(label, known) if isinstance(label, str) else None
            hint = f"; did you mean {meant!r}?" if meant else ""
            raise InputError(f"expected labels among {', '.join(known)}, got {str(label)[:80]!r}{hint}")
    return frozenset(wanted)


def label_meant(label: str, known: Sequence[str]) -> str | None:
    """The label that another name stands for, or that is spelt alike."""
    by_case = {each.casefold(): each for each in known}
    word = label.strip().casefold()
    found = by_case.get(word) or by_case.get(LABELS_BY_WORD.get(word, "").casefold())
    return found or next((by_case[each] for each in get_close_matches(word, list(by_case), 1, 0.75)), None)


def check_option_names(options: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse an option that does not exist.

    Raises:
        InputError: names those that do.
    """
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"{where}: expected options among {', '.join(known)}, got {name[:80]!r}{hint}")


def server_url(url: Any, instead: str) -> str:
    """The address of a server; ``http://`` is added where it names no protocol.

    Args:
        instead: what to do instead of a password in the address.

    Raises:
        InputError: no such address.
    """
    if not isinstance(url, str):
        raise InputError(f"expected a server address such as 'http://localhost:8000', got {type(url).__name__}")
    full = url.strip() if "://" in url else f"http://{url.strip()}"
    try:
        parts = urlsplit(full)
        fine = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        secret = "@" in parts.netloc
        _ = parts.port
    except ValueError:
        fine, secret = False, False
    if secret:
        raise InputError(f"expected a server address without a user and password in it; {instead}")
    if not fine or any(each.isspace() for each in full):
        raise InputError(f"expected a server address such as 'http://localhost:8000', got {url[:200]!r}")
    return full


def _language_meant(language: str, known: Collection[str]) -> str | None:
    by_case = {each.casefold(): each for each in known}
    word = language.strip().casefold().replace("_", "-")
    for guess in (word, word.partition("-")[0], _LANGUAGE_BY_WORD.get(word, "")):
        if guess in by_case:
            return by_case[guess]
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping))
