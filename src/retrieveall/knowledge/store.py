"""The knowledge of all languages: one folder, opened lazily, to which languages can be added.

Knows sentences, not adapters or prompts. ``encoder/`` is fixed by the first build; each language has a folder
of its own that nothing but its own sentences can change. Sentences and queries are compared in their normal form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from retrieveall.config import check_language
from retrieveall.data.normal import NormalText, normalise, normalise_sentence
from retrieveall.errors import InputError, LanguageError, ModelFolderError
from retrieveall.knowledge.context import MAX_SCALE, ContextIndex, Hit, fit_scale, quantise
from retrieveall.knowledge.encoder import Encoder, NgramEncoder, fingerprint, make_encoder, open_encoder, save_encoder
from retrieveall.knowledge.entities import EntityIndex
from retrieveall.knowledge.files import Checksums, copy_files, read_tensors, write_tensors
from retrieveall.knowledge.mentions import count_mentions
from retrieveall.knowledge.profiles import looks_like
from retrieveall.knowledge.sentences import SentenceTable, text_key
from retrieveall.knowledge.shard import FILES, Shard
from retrieveall.storage import MANIFEST, Manifest, Transaction, recover
from retrieveall.types import Knowledge, KnownEntity, LanguageMatch, Neighbour, Sentence

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
        shards: Mapping[str, Shard],
        encoder_folder: Path | None = None,
        checksums: Checksums | None = None,
    ) -> None:
        """Use ``build`` or ``open``. Encoder and scale are read from ``encoder_folder`` where they are None."""
        self._encoder = encoder
        self._scale = scale
        self._encoder_folder = encoder_folder
        self._checksums = checksums or Checksums(None)
        self._shards = dict(shards)
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
            encoder: an encoder, or what ``make_encoder`` takes; the n-gram encoder fitted on the sentences if None.

        Raises:
            LanguageError: a key that is not a language identifier.
            InputError: no sentences at all.
        """
        languages = sorted(check_language(language) for language in sentences_by_language)
        texts = [normalise(each.text).text for language in languages for each in sentences_by_language[language]]
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
        """The knowledge in ``folder``. Reads names and sizes; each file is read and checked when it is first used.

        A change by ``retrieveall index`` or ``save`` that was interrupted is finished or taken back first.

        Args:
            verify: compare the checksum of each file with the manifest of the index when the file is first used.
                Without it, only sizes are compared, at once.
            part_of_model: it has no manifest of its own; the model's manifest lists its files.

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
        checksums = Checksums(manifest if verify else None)
        shards = {}
        for child in sorted(folder.iterdir()):
            if child.name == _ENCODER or child.name.startswith(".") or not child.is_dir():
                continue
            _check_files(child, manifest)
            shards[child.name] = Shard(check_language(child.name), folder=child, checksums=checksums)
        return cls(None, None, shards, folder / _ENCODER, checksums)

    def save(self, folder: Path | str) -> None:
        """Write the knowledge to ``folder`` as an index that stands alone, manifest included, as one change.

        Languages that were read and not changed stay byte-identical. Folders of languages that this base does not
        have are removed.

        Raises:
            ModelFolderError: the disk is full, or a file that this base was opened from is missing or altered.
        """
        folder = Path(folder)
        with Transaction(folder) as transaction:
            fresh = not (folder / MANIFEST).exists()  # then the files that stay are not in a manifest yet
            if fresh or self._encoder_folder != folder / _ENCODER:
                self._write_encoder(transaction.replace_folder(_ENCODER))
            for language, shard in self._shards.items():
                if fresh or shard.folder != folder / language:
                    shard.save(transaction.path(f"{language}/{FILES[0]}").parent)
            for child in folder.iterdir():
                # Only what is a language of ours: the folder may be one that others use too.
                if child.name not in self._shards and (child / FILES[0]).is_file():
                    for name in FILES:
                        transaction.delete(f"{child.name}/{name}")

    def write_files(self, folder: Path | str) -> None:
        """Write all files of the knowledge into ``folder``, without a manifest: for a model, which has one."""
        folder = Path(folder)
        self._write_encoder(folder / _ENCODER)
        for language in self._shards:
            self.save_language(language, folder / language)

    def _write_encoder(self, folder: Path) -> None:
        if self._encoder_folder is None:
            save_encoder(self.encoder, folder)
            write_tensors(folder / "scale.safetensors", {"scale": np.array([self.scale], dtype=np.float64)})
        else:
            source = self._checked_encoder_folder()
            copy_files(source, folder, [path.name for path in sorted(source.iterdir())])

    def save_language(self, language: str, folder: Path | str) -> None:
        """Write the files of one language into ``folder``.

        Raises:
            LanguageError: not in this base.
        """
        self._shard(language).save(Path(folder))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, sorted."""
        return tuple(sorted(self._shards))

    @property
    def encoder(self) -> Encoder:
        """What turns texts into vectors; read on first use."""
        if self._encoder is None:
            self._encoder = open_encoder(self._checked_encoder_folder())
        return self._encoder

    @property
    def scale(self) -> float:
        """Factor between vectors and their codes; fixed together with the encoder."""
        if self._scale is None:
            path = self._checked_encoder_folder() / "scale.safetensors"
            values = read_tensors(path, {"scale": (np.float64, 1)})["scale"]
            if len(values) != 1 or not 0 < values[0] <= MAX_SCALE:
                raise ModelFolderError(f"{path}: expected one positive number; index again")
            self._scale = float(values[0])
        return self._scale

    def fingerprint(self) -> str:
        """A hash of all that retrieval depends on: encoder, and ids, texts, labels and vectors of the sentences."""
        shards = [[language, self._shards[language].fingerprint()] for language in self.languages]
        return hashlib.sha256(json.dumps([fingerprint(self.encoder), self.scale, shards]).encode()).hexdigest()

    def sentences(self, language: str) -> SentenceTable:
        """The training sentences of ``language`` in normal form, by row.

        Raises:
            LanguageError: not in this base.
        """
        return self._shard(language).sentences

    def add_language(self, language: str, sentences: Sequence[Sentence]) -> None:
        """Add or replace a language; the others are not touched.

        Raises:
            LanguageError: not a language identifier.
        """
        if check_language(language).casefold() == _ENCODER:
            raise LanguageError(f"a language cannot be named {language!r}, the encoder's folder is; rename it")
        sentences = [normalise_sentence(sentence) for sentence in sentences]
        vectors = self.encoder.encode([sentence.text for sentence in sentences])
        shard = Shard(
            language,
            sentences=SentenceTable.of(sentences, language),
            codes=quantise(vectors, self.scale),
            mentions=count_mentions(sentences),
        )
        self._shards[language] = shard
        if self._context is not None:
            self._context.add(language, shard.codes(self.encoder.dimension))
        self._entities = None

    def with_languages(self, folder: Path, languages: Collection[str]) -> KnowledgeBase:
        """The knowledge of ``languages`` alone, in memory and ready to search.

        What this base has read of them is shared; the others are read from ``folder``. This base does not change.

        Raises:
            ModelFolderError: a file of a language that is read is missing or malformed.
        """
        shards = {
            name: self._shards.get(name) or Shard(check_language(name), folder=folder / name) for name in languages
        }
        base = KnowledgeBase(self.encoder, self.scale, shards, self._encoder_folder, self._checksums)
        base._context = self._context_index().of(languages)
        for name in set(languages) - set(self._shards):
            base._context.add(name, shards[name].codes(self.encoder.dimension))
        base.retrieve(["A"], 1, match_languages=True)
        return base

    def retrieve(
        self,
        texts: Sequence[str],
        k: int,
        *,
        exclude: Sequence[Sentence | None] | None = None,
        languages: Collection[str] | None = None,
        near_matches: bool = True,
        partial_matches: bool = False,
        match_languages: bool = False,
    ) -> list[Knowledge]:
        """What is known about each of ``texts``: the ``k`` nearest sentences, and the known mentions in it.

        Args:
            exclude: for each text, a training sentence to treat as never seen, together with its duplicates:
                sentences with the same id in its language, and with the same text in any language. Where none has its
                text, the counts of its language lose its own mentions all the same: one that was copied into it from
                a training sentence is then known as often as it would be in new text.
            languages: retrieve from these only.
            near_matches: also mentions in another case or with other endings.
            partial_matches: also words that are components of longer mentions.
            match_languages: also how each text matches each language, for routing. ``exclude`` applies to the nearest
                sentence and not to the character models, in which one sentence hardly counts.

        Raises:
            InputError: ``exclude`` of another length than ``texts``.
            LanguageError: one of ``languages`` is not in this base.
        """
        if exclude is None:
            exclude = [None] * len(texts)
        if len(exclude) != len(texts):
            raise InputError(
                f"expected one sentence or None to exclude for each of {len(texts)} texts, got {len(exclude)}"
            )
        if languages is not None:
            languages = tuple(self._shard(name).language for name in languages)
        if not texts:
            return []
        normal = [normalise(text) for text in texts]
        excluded = [self._duplicates(sentence) for sentence in exclude]
        compared = self._compare(normal, max(k, 1) if match_languages else k, excluded, languages)
        matches = self._matches(normal, [best for _, best in compared]) if match_languages else [{} for _ in normal]
        known = []
        for text, sentence, rows, (hits, _), match in zip(normal, exclude, excluded, compared, matches, strict=True):
            removed = self._removed(sentence, rows)
            entities = self._known(text, removed, languages, near_matches, partial_matches)
            known.append(Knowledge(tuple(map(self._neighbour, hits[:k])), entities, match))
        return known

    def known_entities(
        self,
        text: str,
        *,
        exclude: Sequence[Sentence] = (),
        languages: Collection[str] | None = None,
        near_matches: bool = True,
        partial_matches: bool = False,
    ) -> tuple[KnownEntity, ...]:
        """The entity level of ``retrieve``: the known mentions in ``text``, by position, free of overlap.

        Args:
            exclude: training sentences, with ``language`` set, whose mentions are not counted. Unlike in
                ``retrieve``, only these: their duplicates are not looked up.
        """
        removed = [normalise_sentence(sentence) for sentence in exclude]
        return self._known(normalise(text), removed, languages, near_matches, partial_matches)

    def examples(self, known: KnownEntity, *, exclude: Sentence | None = None) -> list[Sentence]:
        """A few training sentences that mention the surface of ``known``, by language."""
        duplicates = self._duplicates(exclude)
        return [
            self._shards[language].sentences[row]
            for language, surface in self._entity_index().surfaces(normalise(known.surface).text)
            for row in surface.examples
            if row not in duplicates.get(language, ())
        ]

    def _compare(
        self,
        texts: Sequence[NormalText],
        k: int,
        exclude: Sequence[Mapping[str, Collection[int]]],
        languages: Collection[str] | None,
    ) -> list[tuple[list[Hit], dict[str, float]]]:
        if k <= 0:
            return [([], {}) for _ in texts]
        vectors = self.encoder.encode([text.text for text in texts])
        return self._context_index().compare(vectors, k, exclude=exclude, languages=languages)

    def _matches(
        self, texts: Sequence[NormalText], best: Sequence[Mapping[str, float]]
    ) -> list[dict[str, LanguageMatch]]:
        profiles = {name: shard.profile() for name, shard in self._shards.items()}
        found = []
        for similarities, looks in zip(best, looks_like(profiles, [text.text for text in texts]), strict=True):
            match = {name: LanguageMatch(each, profiles[name].different) for name, each in similarities.items()}
            for name in match.keys() & looks.keys():
                look = looks[name]
                match[name] = replace(match[name], likelihood=look.likelihood, fit=look.fit, foreign=look.foreign)
            found.append(match)
        return found

    def _neighbour(self, hit: Hit) -> Neighbour:
        return Neighbour(self._shards[hit.language].sentences[hit.row], hit.similarity)

    def _known(
        self,
        text: NormalText,
        exclude: Sequence[Sentence],
        languages: Collection[str] | None,
        near_matches: bool,
        partial_matches: bool,
    ) -> tuple[KnownEntity, ...]:
        found = self._entity_index().lookup(
            text.text,
            exclude=exclude,
            languages=languages,
            near_matches=near_matches,
            partial_matches=partial_matches,
        )
        return tuple(found) if text.text == text.source else _in_source(found, text)

    def _duplicates(self, sentence: Sentence | None) -> dict[str, list[int]]:
        """The rows of each language that are ``sentence``."""
        if sentence is None:
            return {}
        found = {name: shard.sentences.duplicates(sentence) for name, shard in self._shards.items()}
        return {name: rows for name, rows in found.items() if rows}

    def _removed(self, sentence: Sentence | None, rows: Mapping[str, Collection[int]]) -> list[Sentence]:
        """The sentences whose mentions are not counted: ``rows``, and ``sentence`` itself if none has its text."""
        removed = [self._shards[name].sentences[row] for name, some in rows.items() for row in some]
        if sentence is not None and text_key(sentence.text) not in {text_key(each.text) for each in removed}:
            removed.append(normalise_sentence(sentence))
        return removed

    def _checked_encoder_folder(self) -> Path:
        if self._encoder_folder is None:
            raise ModelFolderError("the knowledge has neither an encoder nor a folder to read it from; index again")
        self._checksums.compare(_ENCODER)
        return self._encoder_folder

    def _shard(self, language: str) -> Shard:
        if language not in self._shards:
            have = ", ".join(self.languages) or "none"
            raise LanguageError(f"no knowledge of the language {language[:80]!r}; there is: {have}")
        return self._shards[language]

    def _context_index(self) -> ContextIndex:
        if self._context is None:
            context = ContextIndex(self.scale)
            for language, shard in self._shards.items():
                context.add(language, shard.codes(self.encoder.dimension))
            self._context = context
        return self._context

    def _entity_index(self) -> EntityIndex:
        if self._entities is None:
            self._entities = EntityIndex({language: shard.mentions() for language, shard in self._shards.items()})
        return self._entities


def _in_source(found: Sequence[KnownEntity], text: NormalText) -> tuple[KnownEntity, ...]:
    """Known entities of the normal form as those of the text that was given."""
    moved: list[KnownEntity] = []
    taken = 0
    for known in found:
        start, end = text.span(known.start, known.end)
        if start < taken:  # two mentions in one cluster, as in U+FDFA, which stands for four words
            continue
        exact = known.surface == text.text[known.start : known.end]
        surface = text.source[start:end] if exact else known.surface
        moved.append(replace(known, start=start, end=end, surface=surface))
        taken = end
    return tuple(moved)


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
