"""What every corpus format provides, and what its reader is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol, Self

from retrieveall.data.files import ByteSource, Report, Text, fail, plain_name
from retrieveall.data.schemes import Scheme
from retrieveall.data.splits import SUFFIXES
from retrieveall.types import Sentence

__all__ = ["CorpusFormat", "Item", "Notes", "Reading", "Source", "note_left_out"]


class Source:
    """A corpus on the disk: a file, a member of an archive, or a folder.

    ``split`` chooses one split of a folder that holds several.
    """

    def __init__(self, path: Path, *, members: frozenset[str] = frozenset(), split: str = "") -> None:
        self.path = path
        self.folder = path.is_dir()
        self.split = split
        self.bytes = ByteSource(path, members)

    @classmethod
    def opened(cls, stream: IO[bytes], name: str) -> Self:
        """A stream that is open already; ``name`` is for messages."""
        source = cls(Path(name))
        source.folder, source.bytes = False, ByteSource.opened(stream, name)
        return source

    @property
    def name(self) -> str:
        """The name for messages."""
        return self.bytes.name

    @property
    def head(self) -> bytes:
        """The first bytes; none of a folder."""
        return b"" if self.folder else self.bytes.head

    @cached_property
    def head_lines(self) -> list[str]:
        """The first lines without their endings; a line that the head cuts off is not one of them."""
        text = self.head.decode("utf-8-sig", "replace")
        while "\n" not in text and self.bytes.grow():
            text = self.head.decode("utf-8-sig", "replace")
        lines = text.split("\n")
        whole = lines[:-1] if len(lines) > 1 else lines
        last = [] if self.bytes.grow() else lines[len(whole) :]
        return [line.removesuffix("\r") for line in (*whole, *last)]


def note_left_out(root: Path, read: str, notes: Notes, own: Collection[str] = ()) -> None:
    """Count the other corpora in a folder that is read as one of a single format.

    Args:
        read: what is read of the folder, such as "BRAT".
        own: the endings and names of files that belong to that format.
    """
    for file in sorted(root.rglob("*")):
        if file.name in own or any(part.startswith(".") for part in file.relative_to(root).parts):
            continue
        ending = Path(plain_name(file)).suffix.lower()
        if ending in SUFFIXES and ending not in own and file.is_file():
            notes.add(f"files left out, since the folder is read as {read}; give them by name", str(file))


class Notes:
    """What a reader repaired or left out: counts by kind, with the first place of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, kind: str, where: str, example: str = "") -> None:
        """Count one; ``kind`` completes the sentence "12 ...", as in "spans without the blanks at their edges"."""
        self.counts[kind] += 1
        shown = f"{where}: {example[:60]!r}" if example else where
        self._first.setdefault(kind, shown)

    def lines(self) -> list[str]:
        """One line for each kind."""
        return [f"{count:,} {kind} (first: {self._first[kind]})" for kind, count in self.counts.items()]


@dataclass(slots=True)
class Reading:
    """The options of a reader and what it reports.

    ``report`` is called with the error of a part that cannot be read; if it returns, that part is skipped. ``scheme``
    is the scheme of tags that the caller demands, ``detected`` the one that was found; ``stem`` begins generated ids;
    with ``check_tags`` ill-formed tags are collected.
    """

    language: str | None = None
    scheme: Scheme | None = None
    stem: str = ""
    report: Report = fail
    notes: Notes = field(default_factory=Notes)
    detected: Scheme | None = None
    check_tags: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """A sentence and where it begins, ``file:line``.

    ``ill_formed`` are places and tags that violate the detected scheme, ``broken`` the numbers of the entities that
    begin with one; ``named``: the id is the file's own.
    """

    sentence: Sentence
    where: str
    ill_formed: tuple[tuple[str, str], ...] = ()
    broken: frozenset[int] = frozenset()
    named: bool = False


class CorpusFormat(Protocol):
    """One form of corpora."""

    @property
    def name(self) -> str:
        """The name in options and messages, such as ``doccano``."""

    @property
    def title(self) -> str:
        """What it is, in a few words."""

    @property
    def endings(self) -> tuple[str, ...]:
        """File endings that are written in this format; the last resort in recognising one."""

    @property
    def of_tokens(self) -> bool:
        """Whether its files hold tokens rather than text."""

    def recognise(self, source: Source) -> bool:
        """Whether the content is of this format."""

    def read(self, source: Source, reading: Reading) -> Iterator[Item]:
        """Stream the sentences.

        Raises:
            DataError: names file and line, unless ``reading.report`` returns.
        """

    def write(self, sentences: Iterable[Sentence], target: Text, scheme: Scheme = "iob2") -> int:
        """Write sentences; returns their number.

        Raises:
            DataError: a sentence that the format cannot hold; a file that cannot be written.
            InputError: the format is only read.
        """
