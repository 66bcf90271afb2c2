"""The folder of results: a file per block, and a record of what is finished, by which a later run goes on.

``part-FILE-BLOCK.jsonl`` holds the results of a block. In ``_retrieveall/``, which other tools pass over, are the
settings of the run (``run.json``), a record per finished block, and files that are being written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from retrieveall.distributed.corpus import Block
from retrieveall.distributed.place import Place, absolute
from retrieveall.errors import DataError, EngineError, InputError

__all__ = ["Output", "open_output"]

_STATE = "_retrieveall"
_RUN = f"{_STATE}/run.json"
_DONE = f"{_STATE}/done"
_WRITING = f"{_STATE}/writing"
_TRIES = 3  # workers that a block is given to; Ray itself would go on for ever
_SHOWN = 80


class Output:
    """The results at ``place``, which is sent to the workers."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def finished(self, block: Block) -> dict[str, int] | None:
        """The counts of a block whose results are complete, else None."""
        if self.place.size(_record(block)) is None:
            return None
        try:
            counts = {key: int(value) for key, value in json.loads(self.place.read(_record(block))).items()}
            complete = self.place.size(_part(block)) == counts.pop("bytes")
        except (ValueError, KeyError, AttributeError):
            return None
        return counts if complete else None

    @contextmanager
    def writing(self, block: Block) -> Iterator[IO[bytes]]:
        """The results of a block; the file appears when they are complete, and replaces one of another worker."""
        with self.place.writing(_part(block), _WRITING) as stream:
            yield stream

    def finish(self, block: Block, counts: Mapping[str, int]) -> None:
        """Record that the results of a block are complete."""
        record = {**counts, "bytes": self.place.size(_part(block))}
        self.place.write(_record(block), json.dumps(record).encode(), _WRITING)

    def begin(self, block: Block, where: str) -> None:
        """Count the workers that have begun a block in this run, to find one that every worker is lost with.

        Raises:
            EngineError: too many.
        """
        for number in range(1, _TRIES + 1):
            name = f"{_WRITING}/{block.name}.try{number}"
            if self.place.size(name) is None:
                self.place.mark(name)
                return
        raise EngineError(
            f"{_TRIES} workers were lost while they predicted rows from {block.first + 1:,} of {where}; "
            "they may need more memory: lower --workers or --batch-size. Finished results are kept; repeat the command "
            "to go on"
        )

    def clean(self) -> None:
        """Remove what lost workers had begun to write, and the counts of ``begin``."""
        self.place.remove_folder(_WRITING)


def open_output(path: str, identity: Mapping[str, Any]) -> Output:
    """The folder of results at a path or URI: a new or empty one, or that of a run with the same identity.

    Raises:
        InputError: it holds other files, or the results of a run with other settings or another input.
        DataError: it cannot be written.
    """
    place = Place(absolute(path))
    now = json.loads(json.dumps(dict(identity)))
    if place.size(_RUN) is not None:
        _compare(place, now)
    else:
        found = place.listing(recursive=False)
        if found:
            raise InputError(
                f"expected --output as a new or empty folder, or one of a stopped run, got {place.root} with "
                f"{found[0].base_name}; choose another folder"
            )
    Output(place).clean()
    place.make_folders(_STATE, _DONE, _WRITING)
    place.write(_RUN, json.dumps(now, ensure_ascii=False, indent=1).encode(), _WRITING)
    return Output(place)


def _compare(place: Place, now: Mapping[str, Any]) -> None:
    """Compare with the identity of the run that began the folder.

    Raises:
        InputError: it was another.
        DataError: the record is damaged.
    """
    try:
        before = dict(json.loads(place.read(_RUN)))
    except (ValueError, TypeError):
        raise DataError(
            f"{place.root}/{_RUN}: expected the settings of a run, got no JSON; delete the folder"
        ) from None
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise InputError(
                f"expected the input and options of the run that began {place.root}, got another {key}: "
                f"{str(before.get(key))[:_SHOWN]} then, {str(now.get(key))[:_SHOWN]} now; choose another --output, "
                "or delete the folder to begin anew"
            )


def _part(block: Block) -> str:
    return f"part-{block.name}.jsonl"


def _record(block: Block) -> str:
    return f"{_DONE}/{block.name}.json"
