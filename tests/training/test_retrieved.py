"""What was retrieved is kept beside a run, and used again only where it is what would be found now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from retrieveall.training.retrieved import retrieve_once
from retrieveall.types import Entity, Knowledge, KnownEntity, Neighbour, Sentence

BERLIN = Sentence("Berlin \ud800", (Entity(0, 6, "LOC", "Berlin"),), "de", "1")
KNOWN = KnownEntity(0, 6, "Berlin", {"de": {"LOC": 3, "ORG": 1}}, 0.9, 2, False, 5)
FOUND = Knowledge((Neighbour(BERLIN, 0.5),), (KNOWN,))


class Retriever:
    calls = 0

    def __call__(self, sentences: Sequence[Sentence]) -> list[Knowledge]:
        self.calls += 1
        return [FOUND] * len(sentences)


def test_what_was_kept_is_what_was_found(tmp_path: Path) -> None:
    retriever, path = Retriever(), tmp_path / "run" / "de.jsonl"
    done: list[int] = []
    assert retrieve_once(path, "key", [BERLIN] * 300, retriever, done.append) == [FOUND] * 300
    assert done == [256, 300]
    assert retrieve_once(path, "key", [BERLIN] * 300, retriever) == [FOUND] * 300
    assert retriever.calls == 2, "the second time from the file"


@pytest.mark.parametrize("change", ["key", "count", "format", "line", "nothing"])
def test_what_was_kept_for_something_else_is_found_anew(tmp_path: Path, change: str) -> None:
    retriever, path = Retriever(), tmp_path / "de.jsonl"
    retrieve_once(path, "key", [BERLIN], retriever)
    heading, line = path.read_text(encoding="utf-8", errors="surrogatepass").splitlines()
    if change == "format":  # as it was before lines had a format
        heading = '{"key": "key", "sentences": 1}'
    elif change == "line":
        line = line[:-5]
    path.write_text(f"{heading}\n{line}\n", encoding="utf-8", errors="surrogatepass")
    key, count = "other" if change == "key" else "key", 2 if change == "count" else 1
    assert retrieve_once(path, key, [BERLIN] * count, retriever) == [FOUND] * count
    assert retriever.calls == (1 if change == "nothing" else 2)
