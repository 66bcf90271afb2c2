"""The knowledge of one language, in memory or in its folder, where each file is read when it is first needed.

The files depend on nothing outside the folder but the encoder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from retrieveall.errors import ModelFolderError
from retrieveall.knowledge.context import Codes
from retrieveall.knowledge.files import (
    Checksums,
    copy_files,
    make_table,
    read_table,
    read_tensors,
    write_table,
    write_tensors,
)
from retrieveall.knowledge.mentions import MentionCounts
from retrieveall.knowledge.profiles import Profile
from retrieveall.knowledge.sentences import SentenceTable
from retrieveall.knowledge.surfaces import SurfaceTable

__all__ = ["FILES", "Shard"]

FILES = ("sentences.parquet", "vectors.safetensors", "entities.parquet", "words.parquet")


class Shard:
    """Sentences, vectors and mentions of one language: either given, or read from ``folder`` when asked for."""

    def __init__(
        self,
        language: str,
        *,
        folder: Path | None = None,
        checksums: Checksums | None = None,
        sentences: SentenceTable | None = None,
        codes: Codes | None = None,
        mentions: MentionCounts | None = None,
    ) -> None:
        self.language = language
        self.folder = folder
        self._checksums = checksums
        self._sentences = sentences
        self._codes = codes
        self._mentions = mentions
        self._profile: Profile | None = None

    @property
    def sentences(self) -> SentenceTable:
        """The sentences; kept once read."""
        if self._sentences is None:
            self._sentences = SentenceTable.open(self._file("sentences.parquet"), self.language)
        return self._sentences

    def codes(self, dimension: int) -> Codes:
        """int8 [n, dimension] as ``quantise`` gives them. Not kept when read: the context index has its own copy.

        Raises:
            ModelFolderError: missing or malformed file, not one vector a sentence, or of another dimension.
        """
        codes = self._read_codes()
        expected = (len(self.sentences), dimension)
        if codes.shape != expected:
            path = self._file("vectors.safetensors")
            raise ModelFolderError(f"{path}: expected codes {list(expected)}, got {list(codes.shape)}; index again")
        return codes

    def fingerprint(self) -> str:
        """A hash of sentences, labels and vectors."""
        codes = self._read_codes()
        digest = hashlib.sha256(f"{self.sentences.fingerprint()} {codes.shape} ".encode())
        digest.update(np.ascontiguousarray(codes).tobytes())
        return digest.hexdigest()

    def mentions(self) -> MentionCounts:
        """The surfaces and the common words; kept once read.

        Raises:
            ModelFolderError: missing or malformed file.
        """
        if self._mentions is None:
            path = self._file("words.parquet")
            words, counts = read_table(path, _word_schema()).to_pydict().values()
            surfaces = SurfaceTable.open(self._file("entities.parquet"))
            if surfaces.last_example() >= len(self.sentences):
                raise ModelFolderError(f"{path.with_name('entities.parquet')}: an example is missing; index again")
            self._mentions = MentionCounts(surfaces, dict(zip(words, counts, strict=True)))
        return self._mentions

    def profile(self) -> Profile:
        """The character model of the language; made from the sentences when it is first needed, and kept."""
        if self._profile is None:
            self._profile = Profile(self.sentences.texts)
        return self._profile

    def save(self, folder: Path) -> None:
        """Write the files into ``folder``. Those of a language that was read are copied byte for byte."""
        if self._codes is None:
            copy_files(self._file(FILES[0]).parent, folder, [self._file(name).name for name in FILES])
            return
        mentions = self.mentions()
        self.sentences.save(folder / "sentences.parquet")
        write_tensors(folder / "vectors.safetensors", {"codes": self._codes})
        mentions.surfaces.save(folder / "entities.parquet")
        words: list[list[Any]] = [list(mentions.common), list(mentions.common.values())]
        write_table(folder / "words.parquet", make_table(_word_schema(), words))

    def _read_codes(self) -> Codes:
        if self._codes is not None:
            return self._codes
        codes: Codes = read_tensors(self._file("vectors.safetensors"), {"codes": (np.int8, 2)})["codes"]
        return codes

    def _file(self, name: str) -> Path:
        if self.folder is None:
            raise ModelFolderError(f"the knowledge of '{self.language}' has no {name} and no folder to read it from")
        if self._checksums is not None:
            self._checksums.compare(f"{self.language}/{name}")
        return self.folder / name


def _word_schema() -> Any:
    import pyarrow as pa

    return pa.schema([("word", pa.string()), ("outside", pa.int32())])
