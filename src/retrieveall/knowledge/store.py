"""The knowledge of all languages: one folder, opened lazily, extended or cut by one language at a time.

Knows sentences, not adapters or prompts. ``encoder/`` is fixed by the first build; each language has a folder
of its own that nothing but its own sentences can change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from retrieveall.config import check_language
from retrieveall.errors import InputError, LanguageError, ModelFolderError
from retrieveall.knowledge.context import MAX_SCALE, ContextIndex, Hit, fit_scale, quantise
from retrieveall.knowledge.encoder import Encoder, NgramEncoder, make_encoder, open_encoder, save_encoder
from retrieveall.knowledge.entities import EntityIndex
from retrieveall.knowledge.files import Vouched, copy_files, read_tensors, write_tensors
from retrieveall.knowledge.language import FILES, LanguageKnowledge
from retrieveall.knowledge.mentions import count_mentions
from retrieveall.knowledge.sentences import SentenceTable
from retrieveall.storage import MANIFEST, Manifest, Transaction, recover
from retrieveall.types import Knowledge, KnownEntity, Neighbour, Sentence

__all__ = ["KnowledgeBase", "Progress"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the sentences done and their total."""

_ENCODER = "encoder"
_BATCH = 4096


class KnowledgeBase:
    """What may be retrieved: the training sentences of every language, by vector and by mention."""

    def __init__(
        self,
        encoder: Encoder | None,
        scale: float | None,
        languages: Mapping[str, LanguageKnowledge],
        home: Path | None = None,
        vouched: Vouched | None = None,
    ) -> None:
        """Use ``build`` or ``open``. Encoder and scale are read from the folder ``home`` where they are
        None.
        """
        self._encoder = encoder
        self._scale = scale
        self._home = home
        self._vouched = vouched or Vouched(None)
        self._parts = dict(languages)
        self._context: ContextIndex | None = None
        self._entities: EntityIndex | None = None

    @classmethod
    def build(
        cls,
        sentences_by_language: Mapping[str, Sequence[Sentence]],
        encoder: Encoder | str | None = None,
        progress: Progress | None = None,
    ) -> KnowledgeBase:
        """Index the training sentences of each language.

        Args:
            encoder: an encoder, or what ``make_encoder`` takes; the n-gram encoder fitted on the
                sentences if None.

        Raises:
            LanguageError: a key that is not a language identifier.
            InputError: no sentences at all.
        """
        languages = sorted(check_language(language) for language in sentences_by_language)
        texts = [sentence.text for language in languages for sentence in sentences_by_language[language]]
        if not texts:
            raise InputError("expected training sentences to index, got none")
        total = len(texts)
        if encoder is None or isinstance(encoder, str):
            if progress is not None:
                progress("fitting the encoder", 0, total)
            encoder = make_encoder(encoder or NgramEncoder.name, texts)
        step = max(1, total // _BATCH)
        base = cls(encoder, fit_scale(encoder.encode(texts[::step])), {})
        done = 0
        for language in languages:
            if progress is not None:
                progress(f"indexing {language}", done, total)
            base.add_language(language, sentences_by_language[language])
            done += len(sentences_by_language[language])
        if progress is not None:
            progress("indexed", total, total)
        return base

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = True, part_of_model: bool = False) -> KnowledgeBase:
        """The knowledge in ``folder``. Reads names and sizes; the parts are read and checked on first use.

        A change by ``retrieveall index`` or ``save`` that was interrupted is finished or taken back first.

        Args:
            verify: compare the checksum of each file with the manifest of the index when the file is first used.
                Without it, only sizes are compared, at once.
            part_of_model: it has no manifest of its own; the model's manifest vouches for its files.

        Raises:
            ModelFolderError: no such folder, or a file that is missing, truncated, or not in the manifest.
        """
        folder = Path(folder)
        recover(folder)
        if not (folder / _ENCODER).is_dir():
            raise ModelFolderError(
                f"expected a knowledge folder with '{_ENCODER}/' at {folder}, found none; run: retrieveall index"
            )
        manifest = None if part_of_model else Manifest.find(folder)
        if manifest is not None:
            manifest.verify(full=False)
        vouched = Vouched(manifest if verify else None)
        parts = {}
        for child in sorted(folder.iterdir()):
            if child.name == _ENCODER or child.name.startswith(".") or not child.is_dir():
                continue
            _check_files(child, manifest)
            parts[child.name] = LanguageKnowledge(check_language(child.name), folder=child, vouched=vouched)
        return cls(None, None, parts, folder / _ENCODER, vouched)

    def save(self, folder: Path | str) -> None:
        """Write the knowledge to ``folder`` as an index that stands alone, manifest included, as one change.

        Languages that were read and not changed stay byte-identical. Folders of languages that this base does not
        have are removed.

        Raises:
            ModelFolderError: the disk is full, or a file that this base was opened from is missing or altered.
        """
        folder = Path(folder)
        with Transaction(folder) as transaction:
            fresh = not (folder / MANIFEST).exists()  # then the files that stay have yet to be vouched for
            if fresh or self._home != folder / _ENCODER:
                self._write_encoder(transaction.replace_folder(_ENCODER))
            for language, part in self._parts.items():
                if fresh or part.folder != folder / language:
                    part.save(transaction.path(f"{language}/{FILES[0]}").parent)
            for child in folder.iterdir():
                # Only what is a language of ours: the folder may be one that others use too.
                if child.name not in self._parts and (child / FILES[0]).is_file():
                    for name in FILES:
                        transaction.delete(f"{child.name}/{name}")

    def write_files(self, folder: Path | str) -> None:
        """Write all files of the knowledge into ``folder``, as a part of something that has a manifest itself."""
        folder = Path(folder)
        self._write_encoder(folder / _ENCODER)
        for language in self._parts:
            self.save_language(language, folder / language)

    def _write_encoder(self, home: Path) -> None:
        if self._home is None:
            save_encoder(self.encoder, home)
            write_tensors(home / "scale.safetensors", {"scale": np.array([self.scale], dtype=np.float64)})
        else:
            source = self._home_folder()
            copy_files(source, home, [path.name for path in sorted(source.iterdir())])

    def save_language(self, language: str, folder: Path | str) -> None:
        """Write the files of one language into ``folder``.

        Raises:
            LanguageError: not in this base.
        """
        self._part(language).save(Path(folder))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, sorted."""
        return tuple(sorted(self._parts))

    @property
    def encoder(self) -> Encoder:
        """What turns texts into vectors; read on first use."""
        if self._encoder is None:
            self._encoder = open_encoder(self._home_folder())
        return self._encoder

    @property
    def scale(self) -> float:
        """Factor between vectors and their codes; fixed together with the encoder."""
        if self._scale is None:
            path = self._home_folder() / "scale.safetensors"
            values = read_tensors(path, {"scale": (np.float64, 1)})["scale"]
            if len(values) != 1 or not 0 < values[0] <= MAX_SCALE:
                raise ModelFolderError(f"{path}: expected one positive number; index again")
            self._scale = float(values[0])
        return self._scale

    def __len__(self) -> int:
        return sum(len(part.sentences) for part in self._parts.values())

    def sentences(self, language: str) -> SentenceTable:
        """The training sentences of ``language``, by row.

        Raises:
            LanguageError: not in this base.
        """
        return self._part(language).sentences

    def add_language(self, language: str, sentences: Sequence[Sentence]) -> None:
        """Add or replace a language; the others are not touched.

        Raises:
            LanguageError: not a language identifier.
        """
        if check_language(language).casefold() == _ENCODER:
            raise LanguageError(f"a language cannot be named {language!r}, the encoder's folder is; rename it")
        vectors = self.encoder.encode([sentence.text for sentence in sentences])
        part = LanguageKnowledge(
            language,
            sentences=SentenceTable.of(sentences, language),
            codes=quantise(vectors, self.scale),
            mentions=count_mentions(sentences),
        )
        self._parts[language] = part
        if self._context is not None:
            self._context.add(language, part.codes(self.encoder.dimension))
        self._entities = None

    def remove_language(self, language: str) -> None:
        """Forget a language; the others are not touched.

        Raises:
            LanguageError: not in this base.
        """
        self._part(language)
        del self._parts[language]
        if self._context is not None:
            self._context.remove(language)
        self._entities = None

    def retrieve(
        self,
        texts: Sequence[str],
        k: int,
        *,
        leave_out: Sequence[Sentence | None] | None = None,
        languages: Collection[str] | None = None,
        near_matches: bool = True,
        partial_matches: bool = False,
    ) -> list[Knowledge]:
        """What is known about each of ``texts``: the ``k`` nearest sentences, and the known mentions in it.

        Args:
            leave_out: for each text, a training sentence that must be treated as never seen, with everything of
                the same id in its language and everything of the same text in any language.
            languages: retrieve from these only.
            near_matches: also mentions in another case or with other endings.
            partial_matches: also words that are a part of mentions.

        Raises:
            InputError: ``leave_out`` of another length than ``texts``.
            LanguageError: one of ``languages`` is not in this base.
        """
        if leave_out is None:
            leave_out = [None] * len(texts)
        if len(leave_out) != len(texts):
            raise InputError(f"expected one sentence or None a text to leave out, {len(texts)}, got {len(leave_out)}")
        names = self.languages if languages is None else tuple(self._part(name).language for name in languages)
        if not texts:
            return []
        excluded = [self._twins(sentence) for sentence in leave_out]
        if k > 0:
            hits = self._context_index().search(self.encoder.encode(texts), k, exclude=excluded, languages=names)
        else:
            hits = [[] for _ in texts]
        known = []
        for text, rows, found in zip(texts, excluded, hits, strict=True):
            removed = [self._parts[name].sentences[row] for name, some in rows.items() for row in some]
            entities = self.known_entities(
                text,
                leave_out=removed,
                languages=None if languages is None else names,
                near_matches=near_matches,
                partial_matches=partial_matches,
            )
            known.append(Knowledge(tuple(self._neighbour(hit) for hit in found), entities))
        return known

    def known_entities(
        self,
        text: str,
        *,
        leave_out: Sequence[Sentence] = (),
        languages: Collection[str] | None = None,
        near_matches: bool = True,
        partial_matches: bool = False,
    ) -> tuple[KnownEntity, ...]:
        """The entity level of ``retrieve``: the known mentions in ``text``, by position, free of overlap.

        Args:
            leave_out: sentences, with ``language`` set, whose mentions are each counted once less; nothing is looked
                for that has their id or text.
        """
        return tuple(
            self._entity_index().lookup(
                text,
                leave_out=leave_out,
                languages=languages,
                near_matches=near_matches,
                partial_matches=partial_matches,
            )
        )

    def examples(self, known: KnownEntity, *, leave_out: Sentence | None = None) -> list[Sentence]:
        """A few training sentences that mention the surface of ``known``, by language."""
        gone = self._twins(leave_out)
        return [
            self._parts[language].sentences[row]
            for language, surface in self._entity_index().surfaces(known.surface)
            for row in surface.examples
            if row not in gone.get(language, ())
        ]

    def _home_folder(self) -> Path:
        if self._home is None:
            raise ModelFolderError("the knowledge has neither an encoder nor a folder to read it from; index again")
        self._vouched.compare(_ENCODER)
        return self._home

    def _part(self, language: str) -> LanguageKnowledge:
        if language not in self._parts:
            have = ", ".join(self.languages) or "none"
            raise LanguageError(f"no knowledge of the language {language[:80]!r}; there is: {have}")
        return self._parts[language]

    def _twins(self, sentence: Sentence | None) -> dict[str, list[int]]:
        if sentence is None:
            return {}
        found = {name: part.sentences.twins(sentence) for name, part in self._parts.items()}
        return {name: rows for name, rows in found.items() if rows}

    def _neighbour(self, hit: Hit) -> Neighbour:
        return Neighbour(self._parts[hit.language].sentences[hit.row], hit.similarity)

    def _context_index(self) -> ContextIndex:
        if self._context is None:
            context = ContextIndex(self.scale)
            for language, part in self._parts.items():
                context.add(language, part.codes(self.encoder.dimension))
            self._context = context
        return self._context

    def _entity_index(self) -> EntityIndex:
        if self._entities is None:
            self._entities = EntityIndex({language: part.mentions() for language, part in self._parts.items()})
        return self._entities


def _check_files(folder: Path, manifest: Manifest | None) -> None:
    """The files of a language must be there, and where there is a manifest, in it."""
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise ModelFolderError(f"expected {path}, found none; index '{folder.name}' again")
        if manifest is not None and f"{folder.name}/{name}" not in manifest.files:
            raise ModelFolderError(
                f"expected {path} in the manifest of the index, found none; index '{folder.name}' again"
            )
