"""What was retrieved for the training sentences, kept beside the run, so that a resumed run need not search again.

One JSON line a sentence, after a first line that says what the file is for. Knows nothing of prompts or models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from retrieveall.storage import write_atomic
from retrieveall.types import Entity, Knowledge, KnownEntity, Neighbour, Sentence

__all__ = ["retrieve_once"]

_BATCH = 256
_FORMAT = 2  # of a line; a file of another one is written anew


def retrieve_once(
    path: Path,
    key: str,
    sentences: Sequence[Sentence],
    retrieve: Callable[[Sequence[Sentence]], list[Knowledge]],
    done: Callable[[int], None] | None = None,
) -> list[Knowledge]:
    """The knowledge of each sentence: from ``path`` if that was written for the same ``key``, else found and kept.

    Args:
        key: whatever the outcome depends on; a file with another key is written anew.
        done: called with the number of sentences that are ready.
    """
    kept = _read(path, key, len(sentences))
    if kept is not None:
        return kept
    found: list[Knowledge] = []
    for first in range(0, len(sentences), _BATCH):
        found += retrieve(sentences[first : first + _BATCH])
        if done is not None:
            done(len(found))
    lines = [json.dumps(_heading(key, len(found))), *map(_dump, found)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))
    return found


def _heading(key: str, count: int) -> dict[str, Any]:
    return {"format": _FORMAT, "key": key, "sentences": count}


def _read(path: Path, key: str, count: int) -> list[Knowledge] | None:
    """None where there is no file, or one for something else; it is a cache, so nothing in it is worth an error."""
    try:
        with path.open(encoding="utf-8", errors="surrogatepass") as lines:
            if json.loads(next(lines)) != _heading(key, count):
                return None
            return [_load(json.loads(line)) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def _dump(knowledge: Knowledge) -> str:
    neighbours = [
        [
            n.similarity,
            n.sentence.text,
            n.language,
            n.sentence.id,
            [[e.start, e.end, e.label] for e in n.sentence.entities],
        ]
        for n in knowledge.neighbours
    ]
    entities = [
        [
            *(e.start, e.end, e.surface, {name: dict(counts) for name, counts in e.counts.items()}),
            *(e.similarity, e.inside, e.partial, e.outside),
        ]
        for e in knowledge.entities
    ]
    return json.dumps([neighbours, entities], ensure_ascii=False, separators=(",", ":"))


def _load(raw: Any) -> Knowledge:
    neighbours, entities = raw
    return Knowledge(
        tuple(Neighbour(_sentence(*fields), similarity) for similarity, *fields in neighbours),
        tuple(KnownEntity(*fields) for fields in entities),
    )


def _sentence(text: str, language: str, id_: str, spans: list[list[Any]]) -> Sentence:
    entities = tuple(Entity(start, end, label, text[start:end]) for start, end, label in spans)
    return Sentence(text, entities, language, id_)
