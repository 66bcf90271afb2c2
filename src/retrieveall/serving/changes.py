"""Languages that join and leave a model while it answers: prepared beside the worker, exchanged between two batches."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from retrieveall.adapters import AdapterCard, read_adapter
from retrieveall.data import check_labels
from retrieveall.errors import AdapterError, InputError, LanguageError, ModelFolderError
from retrieveall.knowledge.shard import Shard
from retrieveall.model_folder import ADAPTERS, KNOWLEDGE, ModelFolder, shipped_models
from retrieveall.storage import Transaction

if TYPE_CHECKING:
    from retrieveall import RetrieveAll
    from retrieveall.serving.batching import Batcher

__all__ = ["Exists", "Missing", "add_language", "between", "check_changeable", "quiet", "remove_language"]

T = TypeVar("T")
_PROBE = "Ada Lovelace, London"
_MOST_VALUES = 20_000_000
_MOST_BYTES = 2 << 30


class Exists(LanguageError):
    """The model has this language already."""


class Missing(LanguageError):
    """The model does not have this language."""


def check_changeable(model: RetrieveAll) -> None:
    """Whether languages of an opened model can be added and removed.

    Raises:
        InputError: a model in the package, or one whose adapters run elsewhere.
    """
    if model.folder.path in {path.absolute() for path in shipped_models().values()}:
        raise InputError(
            "expected a model folder to change, got a model of the package; copy it with: "
            "retrieveall remove-language LANG --copy-to FOLDER, or save_pretrained"
        )
    if not hasattr(model.engine, "bank"):
        raise InputError("languages can be changed where the model runs in this process; register them at the server")


async def add_language(batcher: Batcher, model: RetrieveAll, language: str, files: Path) -> None:
    """Check the unpacked ``files`` and add them to the model and its folder.

    Raises:
        Exists: the model has it.
        RetrieveAllError: what is wrong with the files; model and folder are as they were.
    """
    _check_new(model, language)
    await asyncio.to_thread(_check_files, model, language, files)
    await asyncio.to_thread(_commit, model.folder, language, files)
    before = model.knowledge
    try:
        known = [*before.languages, *([language] if (files / KNOWLEDGE).is_dir() else [])]
        after = await asyncio.to_thread(before.with_languages, model.folder.path / KNOWLEDGE, known)
        await between(batcher, lambda: _exchange(model, after, language))
    except BaseException:
        await asyncio.shield(between(batcher, lambda: _undo(model, before, language)))
        raise


async def remove_language(batcher: Batcher, model: RetrieveAll, language: str) -> None:
    """Remove a language from the model and its folder.

    Raises:
        Missing: the model does not have it.
    """
    before = model.knowledge
    if language not in {*model.languages, *before.languages}:
        raise Missing(f"expected one of the languages {', '.join(model.languages)}, got {language!r}")
    left = [name for name in before.languages if name != language]
    after = await asyncio.to_thread(before.with_languages, model.folder.path / KNOWLEDGE, left)
    await between(batcher, lambda: _undo(model, after, language))


async def between(batcher: Batcher, command: Callable[[], T]) -> T:
    """The result of ``command``, which the worker runs between two batches."""
    return await quiet(asyncio.wrap_future(batcher.between_batches(command)))


def quiet(future: asyncio.Future[T]) -> asyncio.Future[T]:
    """Errors that nobody waits for are not logged: their messages may quote a text."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _check_new(model: RetrieveAll, language: str) -> None:
    present = {name.casefold() for name in (*model.languages, *model.knowledge.languages)}
    if language.casefold() in present:  # some file systems know no case
        raise Exists(f"the model has the language {language!r} already; delete it first")


def _check_files(model: RetrieveAll, language: str, files: Path) -> None:
    """All that can be seen without running the adapter."""
    adapter = files / ADAPTERS / language
    card = AdapterCard.load(adapter)
    read_adapter(adapter)
    if card.language != language or set(card.labels) != set(model.labels):
        raise AdapterError(
            f"expected an adapter of {language!r} for the labels {', '.join(model.labels)}, its card says "
            f"{card.language[:80]!r} and {', '.join(card.labels)[:200] or 'none'}; train it for this model"
        )
    if (folder := files / KNOWLEDGE / language).is_dir():
        _check_knowledge(model, language, folder)


def _check_knowledge(model: RetrieveAll, language: str, folder: Path) -> None:
    for path in sorted(folder.glob("*.parquet")):
        _check_table(path)
    shard = Shard(language, folder=folder)
    shard.codes(model.knowledge.encoder.dimension)
    shard.mentions()
    shard.profile()
    sentences = [shard.sentences[row] for row in range(len(shard.sentences))]
    check_labels(sentences, model.labels, language, "relabel it")


def _check_table(path: Path) -> None:
    """Refuse a table that is far larger in memory than on the disk, before it is read as a whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
            size = 0
            if values <= _MOST_VALUES:
                for batch in file.iter_batches(batch_size=64):
                    size += batch.nbytes
                    if size > _MOST_BYTES:
                        break
    except (pa.ArrowException, OSError) as error:
        kind = type(error).__name__
        raise ModelFolderError(f"{path.name} is not a valid Parquet file ({kind}); index again") from None
    if values > _MOST_VALUES or size > _MOST_BYTES:
        raise ModelFolderError(f"{path.name} is too large: {values:,} values; index fewer sentences")


def _commit(folder: ModelFolder, language: str, files: Path) -> None:
    with Transaction(folder.path) as transaction:
        for part in (ADAPTERS, KNOWLEDGE):
            if (source := files / part / language).is_dir():
                target = transaction.replace_folder(f"{part}/{language}")
                for path in sorted(source.iterdir()):
                    shutil.copyfile(path, target / path.name)


def _exchange(model: RetrieveAll, knowledge: Any, language: str) -> None:
    """Use the new state, and run the new adapter once, which compares it with the backbone."""
    model.reload(knowledge=knowledge)
    model.predict([_PROBE], language=[language])


def _undo(model: RetrieveAll, knowledge: Any, language: str) -> None:
    """Use a state without ``language``, and delete its files. A running batch cannot be using them."""
    model.folder.remove_language(language)
    model.reload(knowledge=knowledge)
