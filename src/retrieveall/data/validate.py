"""Statistics and problems of a corpus, by split.

An unreadable line is reported with file and line, then skipped. Only a 12-byte digest of each text is kept, so that
corpora of any size can be checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from retrieveall.data.formats import Item
from retrieveall.data.readers import open_corpus
from retrieveall.data.schemes import Scheme
from retrieveall.data.segmentation import segment_around
from retrieveall.errors import DataError
from retrieveall.types import Sentence

__all__ = ["CorpusReport", "Problem", "SplitReport", "validate"]

EXAMPLES = 20
"""Problems listed per kind and split; all are counted."""

ERRORS = frozenset({"unreadable", "unknown label", "duplicate id"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: ``where`` is ``file:line`` if the line is known, ``kind`` is a key of ``findings``."""

    split: str
    kind: str
    where: str
    message: str

    @property
    def severity(self) -> Literal["error", "warning"]:
        """``error`` if the corpus is unusable as it is, else ``warning``."""
        return "error" if self.kind in ERRORS else "warning"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(slots=True)
class SplitReport:
    """One file. ``entities``: counts per label; ``findings``: counts per kind of problem, listed or not.

    ``format`` is how it was read; ``notes`` is what was repaired or left out, a line for each kind.
    """

    name: str
    path: str
    sentences: int = 0
    words: int = 0
    entities: dict[str, int] = field(default_factory=dict)
    entity_free: int = 0
    scheme: Scheme | None = None
    format: str = ""
    notes: tuple[str, ...] = ()
    findings: dict[str, int] = field(default_factory=dict)

    @property
    def ill_formed(self) -> int:
        """Number of tags that violate ``scheme``."""
        return self.findings.get("ill-formed tag", 0)

    @property
    def duplicates(self) -> int:
        """Number of sentences whose text occurs earlier in the same split."""
        return self.findings.get("duplicate text", 0)

    @property
    def misaligned(self) -> int:
        """Number of entities that begin or end inside a word of ``segment``, and not before a Korean particle."""
        return self.findings.get("entity cuts a word", 0)


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """``overlaps[a, b]``: number of sentences of ``b`` whose text also occurs in ``a``, for ``a`` before ``b``."""

    splits: Mapping[str, SplitReport]
    overlaps: Mapping[tuple[str, str], int]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not any(problem.severity == "error" for problem in self.problems)


def validate(
    paths: Mapping[str, str | Path],
    *,
    labels: Collection[str] | None = None,
    format: str = "auto",
    language: str | None = None,
    scheme: Scheme | Literal["auto"] = "auto",
) -> CorpusReport:
    """Read the splits of a corpus and report statistics and problems.

    Args:
        paths: file of each split, or an archive member as for ``read_corpus``.
        labels: allowed labels; any by default.
        format: as for ``read_corpus``.
        language: as for ``read_corpus``.
        scheme: the scheme to check tags against; ``auto`` detects it from the first sentences.

    Raises:
        InputError: an unknown format.
    """
    splits: dict[str, SplitReport] = {}
    problems: list[Problem] = []
    digests: dict[str, Counter[bytes]] = {}
    for name, path in paths.items():
        check = _Check(name, str(path), None if labels is None else frozenset(labels))
        check.run(path, format, language, None if scheme == "auto" else scheme)
        splits[name] = check.report
        problems += check.problems
        digests[name] = check.texts
    names = list(paths)
    overlaps = {
        (first, second): sum(count for text, count in digests[second].items() if text in digests[first])
        for i, first in enumerate(names)
        for second in names[i + 1 :]
    }
    return CorpusReport(splits, overlaps, tuple(problems))


class _Check:
    """The state of reading one split."""

    def __init__(self, name: str, path: str, labels: frozenset[str] | None) -> None:
        self.report = SplitReport(name, path)
        self.problems: list[Problem] = []
        self.texts: Counter[bytes] = Counter()
        self._ids: set[bytes] = set()
        self._labels = labels

    def run(self, path: str | Path, format: str, language: str | None, scheme: Scheme | None) -> None:
        try:
            for item in self._items(path, format, language, scheme):
                self._count(item.where, item.sentence)
        except DataError as error:
            self._unreadable(error)
        if not self.report.sentences and not self.problems:
            self._found("unreadable", self.report.path, "expected at least one sentence, got none; check the file")
        if self.report.sentences and not self.report.entities:
            self._found(
                "no entity",
                self.report.path,
                f"no entity in {self.report.sentences:,} sentences, read as {self.report.format}",
            )

    def _items(self, path: str | Path, format: str, language: str | None, scheme: Scheme | None) -> Iterator[Item]:
        opened = open_corpus(
            path, format=format, language=language, scheme=scheme, report=self._unreadable, check_tags=True
        )
        self.report.format = opened.format.title
        for item in opened.items:
            self.report.scheme = opened.scheme
            for where, tag in item.ill_formed:
                self._found("ill-formed tag", where, f"the tag {tag!r} violates the scheme {opened.scheme}")
            if item.named:
                self._check_id(item.where, item.sentence.id)
            yield item
        self.report.notes = tuple(opened.notes.lines())

    def _count(self, where: str, sentence: Sentence) -> None:
        report = self.report
        report.sentences += 1
        words = segment_around(sentence.text, ((each.start, each.end) for each in sentence.entities))
        report.words += len(words)
        report.entity_free += not sentence.entities
        starts = {word.start for word in words}
        ends = {word.end for word in words}
        for entity in sentence.entities:
            report.entities[entity.label] = report.entities.get(entity.label, 0) + 1
            if self._labels is not None and entity.label not in self._labels:
                allowed = ", ".join(sorted(self._labels))
                self._found("unknown label", where, f"expected a label out of {allowed}, got {entity.label!r}")
            if entity.start not in starts or entity.end not in ends:
                self._found("entity cuts a word", where, f"{entity.text[:40]!r} begins or ends inside a word")
        digest = _digest(sentence.text)
        if digest in self.texts:
            self._found("duplicate text", where, f"the text occurs earlier in the split: {sentence.text[:40]!r}")
        self.texts[digest] += 1

    def _check_id(self, where: str, identifier: str) -> None:
        digest = _digest(identifier)
        if digest in self._ids:
            self._found("duplicate id", where, f"the id {identifier[:40]!r} occurs earlier in the split; rename it")
        self._ids.add(digest)

    def _unreadable(self, error: DataError) -> None:
        where, _, message = str(error).partition(": ")
        self._found("unreadable", where, message)

    def _found(self, kind: str, where: str, message: str) -> None:
        count = self.report.findings.get(kind, 0) + 1
        self.report.findings[kind] = count
        if count <= EXAMPLES:
            self.problems.append(Problem(self.report.name, kind, where, message))


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
