"""spaCy's DocBin (``.spacy``): read and written without spaCy, as the compressed MessagePack that it is.

Read are tokens, spaces and entities; span groups are not. Texts whose tokens all lack an entity tag were never
annotated and are left out.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from retrieveall.data.files import Text, replacing
from retrieveall.data.formats.base import Item, Reading, Source
from retrieveall.data.formats.spacy_strings import string_id, strings_by_id
from retrieveall.data.formats.spans import Span, entities_of
from retrieveall.data.schemes import Scheme
from retrieveall.data.segmentation import segment
from retrieveall.errors import DataError, InputError, MissingExtraError
from retrieveall.types import Sentence

__all__ = ["DocBin"]

_MAX_FILE = 512 * 2**20
_MAX_CONTENT = 2**31
_ORTH, _ENT_IOB, _ENT_TYPE = 65, 77, 78
_, _INSIDE, _OUTSIDE, _BEGIN = range(4)
_NO_GROUPS = (b"", b"\x80", b"\x90")
_VERSION = "0.1"
_LIMIT_OF_USER_DATA = 2**20


class DocBin:
    """A whole file is held in memory, as spaCy does it."""

    name = "docbin"
    title = "spaCy DocBin"
    endings: tuple[str, ...] = (".spacy",)
    of_tokens = False

    def recognise(self, source: Source) -> bool:
        start = zlib.decompressobj()
        try:
            first = start.decompress(source.head[: 2**16], 64) if source.head[:1] == b"\x78" else b""
        except zlib.error:
            return False
        return 0x80 <= first[:1][0] <= 0x8F and any(key in first for key in (b"version", b"attrs")) if first else False

    def read(self, source: Source, reading: Reading) -> Iterator[Item]:
        content = _unpacked(source)
        try:
            texts = _texts(content)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{source.name}: expected a spaCy DocBin, got other content ({error!r})") from None
        for number, text in enumerate(texts, 1):
            where = f"{source.name}:{number}"
            try:
                item = _item(text, where, f"{reading.stem}-{number}", reading)
            except ValueError as error:
                reading.report(DataError(f"{where}: {error}"))
                continue
            if item is not None:
                yield item

    def write(self, sentences: Iterable[Sentence], target: Text, scheme: Scheme = "iob2") -> int:
        if not isinstance(target, Path):
            raise InputError("expected a file for a DocBin, which is binary, got a stream of text")
        packing = _Packing()
        for sentence in sentences:
            packing.add(sentence)
        with replacing(target) as path:
            path.write_bytes(packing.data())
        return len(packing.lengths)


@dataclass(frozen=True, slots=True)
class _Text:
    """Words, whether a space follows, and their labels with whether an entity begins; None where nobody looked."""

    words: list[str]
    spaces: Sequence[int]
    tags: list[tuple[int, str]] | None
    details: Mapping[Any, Any]
    groups: bool


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError:
        raise MissingExtraError("msgpack", "docbin", "a spaCy DocBin") from None
    return msgpack


def _unpacked(source: Source) -> Mapping[str, Any]:
    """The map of a DocBin.

    Raises:
        DataError: it is damaged, something else, or larger than the limits.
    """
    msgpack = _msgpack()
    packed = source.bytes.data(_MAX_FILE)
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(packed, _MAX_CONTENT)
        if inflate.unconsumed_tail:
            raise DataError(f"{source.name}: expected at most {_MAX_CONTENT:,} bytes of content; split the DocBin")
        if not inflate.eof:
            raise DataError(f"{source.name}: the file is truncated: its compressed content has no end; get it again")
        content = msgpack.unpackb(data, strict_map_key=False)
    except (zlib.error, ValueError, msgpack.UnpackException) as error:
        raise DataError(f"{source.name}: expected a spaCy DocBin, got damaged content ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{source.name}: expected a spaCy DocBin, got other content")
    return content


def _texts(content: Mapping[str, Any]) -> Iterator[_Text]:
    """The texts, one by one.

    Raises:
        KeyError: a part is missing.
        ValueError: parts that do not fit together.
    """
    names = strings_by_id(content["strings"])
    attributes = [int(each) for each in content["attrs"]]
    lengths, tokens = _numbers("i", content["lengths"]), _numbers("Q", content["tokens"])
    if sum(lengths) * len(attributes) != len(tokens) or sum(lengths) != len(content["spaces"]):
        raise ValueError("tokens and lengths do not fit")
    columns = {each: tokens[place :: len(attributes)] for place, each in enumerate(attributes)}
    return _of_arrays(content, lengths, columns, names)


def _of_arrays(
    content: Mapping[str, Any], lengths: Sequence[int], columns: Mapping[int, Sequence[int]], names: Mapping[int, str]
) -> Iterator[_Text]:
    start = 0
    for place, length in enumerate(lengths):
        part = slice(start, start + length)
        start += length
        unknown = _at(content, "flags", place, {}).get("has_unknown_spaces")
        spaces = [True] * (length - 1) + [False] if unknown else content["spaces"][part]
        words = [names[each] for each in columns[_ORTH][part]]
        tags = _tags(columns, part, names)
        groups = _at(content, "span_groups", place, b"") not in _NO_GROUPS
        yield _Text(words, spaces, tags, _details(_at(content, "user_data", place, b"")), groups)


def _tags(columns: Mapping[int, Sequence[int]], part: slice, names: Mapping[int, str]) -> list[tuple[int, str]] | None:
    if _ENT_IOB not in columns or _ENT_TYPE not in columns:
        return None
    marks = columns[_ENT_IOB][part]
    if not any(marks):
        return None
    return list(zip(marks, (names[each] for each in columns[_ENT_TYPE][part]), strict=True))


def _at(content: Mapping[str, Any], key: str, place: int, default: Any) -> Any:
    """An entry of a list that older versions do not have."""
    found = content.get(key, ())
    return found[place] if place < len(found) else default


def _details(packed: Any) -> Mapping[Any, Any]:
    """The user data of a text, in which this library keeps id and language."""
    if not isinstance(packed, bytes) or not 1 < len(packed) < _LIMIT_OF_USER_DATA:
        return {}
    msgpack = _msgpack()
    try:
        found = msgpack.unpackb(packed, strict_map_key=False, use_list=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        return {}
    return found if isinstance(found, dict) else {}


def _numbers(kind: str, data: bytes) -> array[int]:
    found = array(kind)
    found.frombytes(data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _item(found: _Text, where: str, name: str, reading: Reading) -> Item | None:
    text = "".join(word + " " if space else word for word, space in zip(found.words, found.spaces, strict=True))
    if found.groups:
        reading.notes.add("texts with span groups, which are not read", where, text)
    if found.tags is None:
        reading.notes.add("texts left out that nobody annotated", where, text)
        return None
    own, language = found.details.get("id"), found.details.get("language")
    entities = entities_of(text, _spans(found), where, reading.notes)
    sentence = Sentence(
        text,
        entities,
        language if isinstance(language, str) else reading.language,
        own if isinstance(own, str) else name,
    )
    return Item(sentence, where, named=isinstance(own, str))


def _spans(found: _Text) -> list[Span]:
    """The spans of a text, from the tags of its tokens."""
    spans: list[Span] = []
    position, running = 0, ""
    for word, space, (mark, label) in zip(found.words, found.spaces, found.tags or (), strict=True):
        end = position + len(word)
        if mark not in (_INSIDE, _BEGIN) or not label:
            running = ""
        elif mark == _INSIDE and running == label:
            spans[-1] = Span(spans[-1].start, end, label)
        else:
            spans.append(Span(position, end, label))
            running = label
        position = end + bool(space)
    return spans


class _Packing:
    """A DocBin in the making."""

    def __init__(self) -> None:
        self.lengths = array("i")
        self._tokens = array("Q")
        self._spaces = bytearray()
        self._strings: set[str] = set()
        self._details: list[bytes] = []
        self._msgpack = _msgpack()

    def add(self, sentence: Sentence) -> None:
        pieces = list(_pieces(sentence))
        opened = {each.start: each for each in sentence.entities}
        running, end = "", 0
        for start, text, space in pieces:
            begins = start in opened
            if begins:
                running, end = opened[start].label, opened[start].end
            elif start >= end:
                running = ""
            mark = (_BEGIN if begins else _INSIDE) if running else _OUTSIDE
            self._tokens.extend((_id(text, sentence), mark, string_id(running)))
            self._spaces.append(space)
            self._strings.update((text, running))
        self.lengths.append(len(pieces))
        details = {"id": sentence.id, "language": sentence.language}
        self._details.append(self._msgpack.packb({key: value for key, value in details.items() if value}))

    def data(self) -> bytes:
        count = len(self.lengths)
        content = {
            "version": _VERSION,
            "attrs": [_ORTH, _ENT_IOB, _ENT_TYPE],
            "tokens": _little(self._tokens),
            "spaces": bytes(self._spaces),
            "lengths": _little(self.lengths),
            "strings": sorted(self._strings),
            "cats": [{}] * count,
            "flags": [{"has_unknown_spaces": False}] * count,
            "span_groups": [_NO_GROUPS[-1]] * count,
            "user_data": self._details,
        }
        return zlib.compress(self._msgpack.packb(content))


def _id(text: str, sentence: Sentence) -> int:
    try:
        return string_id(text)
    except UnicodeEncodeError:
        raise DataError(f"sentence {sentence.id!r}: expected Unicode text, got a lone surrogate; remove it") from None


def _little(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _pieces(sentence: Sentence) -> Iterator[tuple[int, str, bool]]:
    """Tokens with their offset and whether a space follows: words, cut where entities begin and end, and the rest.

    Joined again, they are exactly the text.
    """
    text = sentence.text
    edges = {0, len(text)} | {edge for word in segment(text) for edge in (word.start, word.end)}
    edges |= {edge for each in sentence.entities for edge in (each.start, each.end)}
    held: tuple[int, str] | None = None
    for start, end in pairwise(sorted(edges)):
        piece = text[start:end]
        if held is not None:
            space = piece.startswith(" ")
            yield (*held, space)
            start, piece = start + space, piece[int(space) :]
        held = (start, piece) if piece else None
    if held is not None:
        yield (*held, False)
