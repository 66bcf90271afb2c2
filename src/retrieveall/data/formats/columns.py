"""Finds the token and the tag among the columns of a file, and reads its rows as sentences.

By the names of the columns where the file has them (a header, or ``# global.columns``); otherwise by their content:
the tag is the first column of well-formed tags with an entity that are not the labels of chunks, the token is the first
other column that does not count tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from retrieveall.data.conll import TaggedSentence
from retrieveall.data.formats.base import Reading
from retrieveall.data.schemes import split_tag
from retrieveall.errors import DataError, InputError

__all__ = [
    "GLOBAL_COLUMNS",
    "MAX_TOKENS",
    "Layout",
    "Row",
    "Split",
    "find_layout",
    "is_break",
    "is_tag",
    "recognised",
    "sentences",
]

Split = Callable[[str], list[str]]
"""Splits a line into cells."""

Row = tuple[str, int, list[str]]
"""File, line number and cells; no cells for a blank line."""

MAX_TOKENS = 100_000
"""Maximum tokens of a sentence; more of them lack their sentence breaks."""

GLOBAL_COLUMNS = "# global.columns"
_HEAD = 500
_ENOUGH = 0.8
"""Share of good rows by which a file is recognised."""
_DOCUMENT = "-DOCSTART-"
_TOKEN_NAMES = {"token", "tokens", "word", "words", "form", "text", "terminal"}
_TAG_NAMES = (
    {"ner", "ner_tag", "ner_tags", "ner-tag", "ne", "ne_tag", "entity", "tag", "tags", "label", "labels", "bio", "iob"}
    | {"ne-coarse-lit", "iob_tag", "bio_tag", "entity_tag", "named_entity"}
)  # fmt: skip
_SENTENCE_NAMES = {"sentence #", "sentence", "sentence_id", "sentence id", "sent_id", "sentence_idx", "sentence_no"}
_CHUNKS = {"NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "PNP"}
_JOINED = ("SpaceAfter=No", "NoSpaceAfter")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the columns are, from 0.

    ``good`` is the share of rows that hold a token and a tag; ``header``: the first row names the columns; ``others``
    are columns that also hold tags.
    """

    token: int
    tag: int
    width: int
    good: float
    sentence: int | None = None
    header: bool = False
    others: tuple[int, ...] = ()


def recognised(layout: Layout | None) -> bool:
    """Whether so many rows are good that the file is one of columns, whatever its name."""
    return layout is not None and layout.good >= _ENOUGH


def is_break(cells: Sequence[str]) -> bool:
    """Whether a row ends a sentence: no cell with text, or the beginning of a document."""
    return not any(cell.strip() for cell in cells) or cells[0] == _DOCUMENT


def find_layout(lines: Iterable[str], split: Split) -> Layout | None:
    """The layout of a file by its first lines; None if no column holds tags."""
    head = list(islice((line for line in lines if line.strip()), _HEAD))
    # Lines that begin with "#" may be comments or tokens; the others show which.
    rows = [cells for cells in map(split, (line for line in head if not line.startswith("#"))) if not is_break(cells)]
    names = _global_columns(head)
    header = not names and bool(rows) and _is_header(rows[0])
    names = names or ([cell.strip().casefold() for cell in rows[0]] if header else [])
    rows = rows[int(header) :]
    widths = Counter(len(cells) for cells in rows if len(cells) > 1)
    found = [_layout(rows, width, names, header) for width, _ in widths.most_common(3)]
    return max((each for each in found if each is not None), key=lambda each: each.good, default=None)


def _global_columns(lines: Sequence[str]) -> list[str]:
    for line in lines:
        if line.startswith(GLOBAL_COLUMNS):
            return line.partition("=")[2].casefold().split()
    return []


def _is_header(cells: Sequence[str]) -> bool:
    names = {cell.strip().casefold() for cell in cells}
    return bool(names & _TOKEN_NAMES and names & _TAG_NAMES) and not any(_is_entity(cell) for cell in cells)


def _layout(rows: Sequence[list[str]], width: int, names: Sequence[str], header: bool) -> Layout | None:
    own = [cells for cells in rows if len(cells) == width]
    tags = _tag_columns(own, width, names)
    if not tags:
        return None
    tag = tags[0]
    token = _token_column(own, width, tag, names)
    good = sum(is_tag(cells[tag]) and bool(cells[token].strip()) for cells in own)
    sentence = next((i for i, name in enumerate(names[:width]) if name in _SENTENCE_NAMES and i != token), None)
    return Layout(token, tag, width, good / max(1, len(rows)), sentence, header, tuple(tags[1:]))


def _tag_columns(rows: Sequence[list[str]], width: int, names: Sequence[str]) -> list[int]:
    """The columns of tags, the one to read first."""
    shares = [sum(is_tag(cells[i]) for cells in rows) / max(1, len(rows)) for i in range(width)]
    best = max(shares, default=0.0)
    found = [i for i, share in enumerate(shares) if share >= 0.5 and share >= best - 0.05]
    named = [i for i in found if i < len(names) and names[i] in _TAG_NAMES]
    labels = {i: {split_tag(cells[i].strip())[1] for cells in rows if is_tag(cells[i])} - {""} for i in found}
    chunks = [i for i in found if labels[i] and labels[i] <= _CHUNKS]
    useful = [i for i in found if labels[i] and i not in chunks] or [i for i in found if i not in chunks] or found
    chosen = named or (useful if any(labels[i] for i in useful) else useful[-1:])
    return chosen + [i for i in found if i not in chosen and i not in chunks and labels[i]]


def _token_column(rows: Sequence[list[str]], width: int, tag: int, names: Sequence[str]) -> int:
    named = [i for i, name in enumerate(names[:width]) if name in _TOKEN_NAMES and i != tag]
    others = [i for i in range(width) if i != tag]
    counted = [i for i in others if all(cells[i].strip().isdecimal() for cells in rows)]
    return next(chain(named, (i for i in others if i not in counted), others))


def is_tag(cell: str) -> bool:
    """Whether a cell is a well-formed tag."""
    try:
        split_tag(cell.strip())
    except InputError:
        return False
    return True


def _is_entity(cell: str) -> bool:
    return cell.strip() != "O" and is_tag(cell)


def sentences(rows: Iterable[Row], layout: Layout, reading: Reading) -> Iterator[TaggedSentence]:
    """The sentences of rows; a row that does not fit is reported and skipped.

    Raises:
        DataError: more than ``MAX_TOKENS`` tokens without a break.
    """
    building = _Building(layout)
    skip = layout.header
    for file, number, cells in rows:
        if is_break(cells):
            yield from building.take()
            continue
        if skip:
            skip = False
            continue
        if building.starts_another(cells):
            yield from building.take()
        try:
            building.add(file, number, cells)
        except (ValueError, InputError) as error:
            reading.report(DataError(f"{file}:{number}: {error}"))
    yield from building.take()


class _Building:
    """The tokens of one sentence so far."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sentence = ""
        self._rows: list[tuple[str, str, int]] = []
        self._joined: set[int] = set()
        self._file = ""

    def starts_another(self, cells: Sequence[str]) -> bool:
        """Whether the row has the id of another sentence than the rows before."""
        place = self._layout.sentence
        written = cells[place].strip() if place is not None and place < len(cells) else ""
        before, self._sentence = self._sentence, written or self._sentence
        return bool(before and written and written != before)

    def add(self, file: str, number: int, cells: Sequence[str]) -> None:
        """Add a row.

        Raises:
            ValueError: it has another number of columns, or no token.
            InputError: its tag is none.
            DataError: too many tokens.
        """
        token, tag = _token_and_tag(cells, self._layout)
        if any(mark in cell for cell in cells[self._layout.token + 1 :] for mark in _JOINED):
            self._joined.add(len(self._rows))
        self._file = file
        self._rows.append((token, tag, number))
        if len(self._rows) > MAX_TOKENS:
            raise DataError(
                f"{file}:{number}: expected sentences of at most {MAX_TOKENS:,} tokens, got a longer one; separate "
                f"sentences by blank lines, or add a column with their ids"
            )

    def take(self) -> Iterator[TaggedSentence]:
        """The sentence, if it has tokens; the next one begins."""
        if self._rows:
            tokens, tags, lines = zip(*self._rows, strict=True)
            yield TaggedSentence(tokens, tags, lines, self._file, frozenset(self._joined))
        self._rows, self._joined = [], set()


def _token_and_tag(cells: Sequence[str], layout: Layout) -> tuple[str, str]:
    if len(cells) == 1:
        raise ValueError(f"expected {_columns(layout)}, got only {cells[0][:40]!r}; write the tag, or O")
    if len(cells) < layout.width or any(map(str.strip, cells[layout.width :])):
        raise ValueError(f"expected {_columns(layout)}, got {len(cells)} columns; write all rows alike")
    token, tag = cells[layout.token].strip(" "), cells[layout.tag].strip()
    if not token.strip():
        raise ValueError("expected a token before the tag, got none; remove the line or add the token")
    split_tag(tag)
    return token, tag


def _columns(layout: Layout) -> str:
    return f"{layout.width} columns, the token in column {layout.token + 1} and the tag in column {layout.tag + 1}"
