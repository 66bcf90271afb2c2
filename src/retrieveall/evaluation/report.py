"""Evaluation results, saved as JSON and rendered as a table.

Ratios are stored from 0 to 1 and shown in per cent. ``load`` uses only the counts in a file; its ratios are for
human readers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from retrieveall.errors import DataError
from retrieveall.evaluation.provenance import Provenance
from retrieveall.evaluation.spans import Counts, SpanScores
from retrieveall.storage import why_not_json, write_atomic
from retrieveall.types import AnswerFaults

__all__ = ["EvaluationReport", "LanguageChoice", "LanguageReport", "markdown_table", "per_cent"]

LanguageChoice: TypeAlias = Literal["routed", "gold"]
"""Whether adapters are routed by retrieval, or that of the gold language is used."""

_FORMAT = 1
_CHOICES: dict[str, LanguageChoice] = {"routed": "routed", "gold": "gold", "told": "gold"}  # "told" in older reports


@dataclass(frozen=True)
class LanguageReport:
    """The results of one language.

    Attributes:
        sentences: number of evaluated sentences.
        scores: counts over all of them.
        unseen: counts over the sentences that are not training texts of the model; None if those are unknown.
        unseen_sentences: number of unseen sentences.
        calibration_error: expected calibration error of the predicted entities' probabilities, 0 to 1; None
            without a predicted entity.
        routing_accuracy: share of sentences in which this language has the largest adapter weight; None for a language
            that the model does not have.
        entity_free: number of sentences without a gold entity.
        spurious: number of entity-free sentences with at least one predicted entity.
        seconds: time spent in the model.
        faults: number of sentences whose answer has each fault; None for a tagging model.
    """

    sentences: int
    scores: SpanScores
    unseen: SpanScores | None = None
    unseen_sentences: int = 0
    calibration_error: float | None = None
    routing_accuracy: float | None = None
    entity_free: int = 0
    spurious: int = 0
    seconds: float = 0.0
    faults: AnswerFaults | None = None

    @property
    def f1(self) -> float:
        return self.scores.micro.f1

    @property
    def unseen_f1(self) -> float | None:
        if self.unseen is None or not self.unseen_sentences:
            return None
        return self.unseen.micro.f1

    @property
    def spurious_rate(self) -> float | None:
        """Share of entity-free sentences with a predicted entity; None without such sentences."""
        return self.spurious / self.entity_free if self.entity_free else None

    @property
    def fault_rates(self) -> dict[str, float]:
        """Share of sentences whose answer has each kind of fault; empty for a tagging model."""
        return {} if self.faults is None else {kind: n / self.sentences for kind, n in asdict(self.faults).items()}

    @property
    def sentences_per_second(self) -> float:
        return self.sentences / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "sentences": self.sentences,
            **_ratios(self.scores.micro),
            "labels": _labels(self.scores),
            "unseen": None
            if self.unseen is None
            else {
                "sentences": self.unseen_sentences,
                **_ratios(self.unseen.micro),
                "labels": _labels(self.unseen),
            },
            "calibration_error": self.calibration_error,
            "routing_accuracy": self.routing_accuracy,
            "entity_free": self.entity_free,
            "spurious": self.spurious,
            "spurious_rate": self.spurious_rate,
            "seconds": round(self.seconds, 3),
            "sentences_per_second": round(self.sentences_per_second, 1),
            "faults": None if self.faults is None else asdict(self.faults),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> LanguageReport:
        unseen = raw["unseen"]
        return cls(
            sentences=raw["sentences"],
            scores=_scores(raw["labels"]),
            unseen=None if unseen is None else _scores(unseen["labels"]),
            unseen_sentences=0 if unseen is None else unseen["sentences"],
            calibration_error=raw["calibration_error"],
            routing_accuracy=raw["routing_accuracy"],
            entity_free=raw["entity_free"],
            spurious=raw["spurious"],
            seconds=raw["seconds"],
            faults=None if (faults := raw.get("faults")) is None else AnswerFaults(**faults),  # absent in older reports
        )


@dataclass(frozen=True)
class EvaluationReport:
    """The results of all languages and their provenance.

    Attributes:
        languages: the report of each language.
        choice: whether adapters were routed.
        data: description of the evaluation data.
        provenance: commit, machine, versions, model.
    """

    languages: Mapping[str, LanguageReport]
    choice: LanguageChoice = "routed"
    data: str = ""
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def mean(self) -> dict[str, float | None]:
        """Unweighted mean over the languages that have the figure."""
        return {name: _mean([get(one) for one in self.languages.values()]) for name, get in _MEANS.items()}

    @property
    def labels(self) -> tuple[str, ...]:
        """All gold and predicted labels, sorted."""
        return tuple(sorted({label for one in self.languages.values() for label in one.scores.by_label}))

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "data": self.data,
            "choice": self.choice,
            "mean": self.mean,
            "languages": {name: one.to_dict() for name, one in self.languages.items()},
            "provenance": asdict(self.provenance),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> EvaluationReport:
        """The inverse of ``to_dict``; ``ValueError``, ``KeyError`` or ``TypeError`` for anything else."""
        if raw["format"] != _FORMAT:
            raise ValueError(f"format {raw['format']!r}")
        choice = _CHOICES[raw["choice"]]
        return cls(
            {name: LanguageReport.from_dict(one) for name, one in raw["languages"].items()},
            choice,
            raw["data"],
            Provenance(**raw["provenance"]),
        )

    def save(self, path: Path | str) -> None:
        """Write the report as JSON, atomically.

        Raises:
            ModelFolderError: the disk is full or not writable.
        """
        write_atomic(Path(path), self.to_json().encode())

    @classmethod
    def load(cls, path: Path | str) -> EvaluationReport:
        """Read what ``save`` wrote.

        Raises:
            DataError: missing or not a report; names the file.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_bytes()))
        except OSError as error:
            raise DataError(f"could not read the report {path}: {error.strerror}; check the path") from None
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}: expected an evaluation report, but {why_not_json(error)}; write it again with: "
                "retrieveall evaluate"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            detail = " ".join(str(error).split())[:120]
            raise DataError(
                f"{path}: expected an evaluation report of format {_FORMAT}, got something else ({detail}); "
                "write it again with: retrieveall evaluate"
            ) from None

    def to_markdown(self) -> str:
        """A table with one row per language and one for the mean, ratios in per cent."""
        return markdown_table(*self._table())

    def to_text(self, width: int = 80) -> str:
        """The same table for a terminal, in as many parts as fit the width."""
        return text_tables(*self._table(), width)

    def _table(self) -> tuple[list[str], list[list[str]]]:
        labels = self.labels
        header = ["language", "sentences", "F1", "precision", "recall", *(f"F1 {label}" for label in labels)]
        header += ["F1 unseen", "calibration error", "routed right", "spurious", *self._fault_kinds, "sentences/s"]
        rows = [
            [
                name,
                f"{one.sentences:,}",
                *map(per_cent, (one.f1, one.scores.micro.precision, one.scores.micro.recall)),
                *(per_cent(_label_f1(one, label)) for label in labels),
                *map(per_cent, (one.unseen_f1, one.calibration_error, one.routing_accuracy)),
                per_cent(one.spurious_rate),
                *(per_cent(one.fault_rates.get(kind)) for kind in self._fault_kinds),
                f"{one.sentences_per_second:,.0f}",
            ]
            for name, one in self.languages.items()
        ]
        return header, [*rows, self._mean_row(labels)]

    @property
    def _fault_kinds(self) -> tuple[str, ...]:
        """Kinds of answer faults, as columns; empty for a tagging model."""
        return tuple(dict.fromkeys(kind for one in self.languages.values() for kind in one.fault_rates))

    def _mean_row(self, labels: Sequence[str]) -> list[str]:
        reports, mean = self.languages.values(), self.mean
        sentences, seconds = sum(one.sentences for one in reports), sum(one.seconds for one in reports)
        return [
            "mean",
            f"{sentences:,}",
            *(per_cent(mean[name]) for name in ("f1", "precision", "recall")),
            *(per_cent(_mean([_label_f1(one, label) for one in reports])) for label in labels),
            *(per_cent(mean[name]) for name in ("unseen_f1", "calibration_error", "routing_accuracy")),
            per_cent(mean["spurious_rate"]),
            *(per_cent(_mean([one.fault_rates.get(kind) for one in reports])) for kind in self._fault_kinds),
            f"{sentences / seconds if seconds else 0:,.0f}",
        ]


_MEANS: dict[str, Callable[[LanguageReport], float | None]] = {
    "f1": lambda one: one.f1,
    "precision": lambda one: one.scores.micro.precision,
    "recall": lambda one: one.scores.micro.recall,
    "unseen_f1": lambda one: one.unseen_f1,
    "calibration_error": lambda one: one.calibration_error,
    "routing_accuracy": lambda one: one.routing_accuracy,
    "spurious_rate": lambda one: one.spurious_rate,
}


def per_cent(ratio: float | None) -> str:
    """With one decimal; a dash for None."""
    return "–" if ratio is None else f"{100 * ratio:.1f}"


def text_tables(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Aligned columns in blocks of at most ``width`` characters; each block begins with the first column."""
    columns = [list(column) for column in zip(header, *rows, strict=True)]
    first, *others = [[cell.rjust(max(map(len, column))) for cell in column] for column in columns]
    first = [cell.strip().ljust(len(cell)) for cell in first]
    blocks = [list(first)]
    for column in others:
        if len(blocks[-1][0]) + 2 + len(column[0]) > width and blocks[-1] != first:
            blocks.append(list(first))
        blocks[-1] = [f"{line}  {cell}" for line, cell in zip(blocks[-1], column, strict=True)]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column left-aligned, the others right-aligned, without a final line feed."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _label_f1(report: LanguageReport, label: str) -> float | None:
    counts = report.scores.by_label.get(label)
    return None if counts is None else counts.f1


def _ratios(counts: Counts) -> dict[str, float]:
    return {"f1": counts.f1, "precision": counts.precision, "recall": counts.recall, **asdict(counts)}


def _labels(scores: SpanScores) -> dict[str, dict[str, float]]:
    return {label: _ratios(counts) for label, counts in scores.by_label.items()}


def _scores(raw: Mapping[str, Mapping[str, int]]) -> SpanScores:
    return SpanScores({label: Counts(one["correct"], one["predicted"], one["gold"]) for label, one in raw.items()})
