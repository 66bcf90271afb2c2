"""Model folders that a command may change: never the one in the package, unless given by path."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from retrieveall.cli.guard import note
from retrieveall.errors import InputError, LanguageError

if TYPE_CHECKING:
    from retrieveall.model_folder import ModelFolder

__all__ = ["open_writable", "run_folder", "run_of"]


def open_writable(model: str, copy_to: Path | None, *, has: str | None = None, reuse: bool = False) -> ModelFolder:
    """The folder to change: ``model`` if it is a path, else a new copy at ``copy_to``.

    Args:
        has: a language that the model must have, checked before copying.
        reuse: accept an existing copy, to resume an interrupted run.

    Raises:
        InputError: a shipped model or a hub id without ``copy_to``.
        LanguageError: no such language.
        ModelFolderError: an invalid model, or ``copy_to`` is not empty or within the model.
    """
    from retrieveall.model_folder import SETTINGS, ModelFolder, shipped_models

    if copy_to is None and (model in shipped_models() or not Path(model).expanduser().is_dir()):
        kind = "the name of a shipped model" if model in shipped_models() else "no folder"
        raise InputError(
            f"expected --model as a folder to change, got {model[:200]!r}, {kind}; "
            "make a copy with --copy-to FOLDER, or check the path"
        )
    folder = ModelFolder.open(model)
    if copy_to is not None:
        folder.check_apart(copy_to)
    if copy_to is not None and reuse and (copy_to / SETTINGS).is_file():
        return _same_model(ModelFolder.open(copy_to), folder, model)
    if has is not None:
        have = {*folder.languages(), *folder.knowledge().languages}
        if has not in have:
            raise LanguageError(
                f"expected one of the languages {', '.join(sorted(have)) or '(none)'}, got {has[:80]!r}"
            )
    if copy_to is None:
        return folder
    folder.copy_to(copy_to)
    return ModelFolder.open(copy_to)


def _same_model(copy: ModelFolder, original: ModelFolder, name: str) -> ModelFolder:
    """``copy``, if it is a copy of ``original``, perhaps with more languages: the same settings and backbone.

    Raises:
        InputError: it is another model.
    """
    from retrieveall.storage import Manifest

    theirs, own = Manifest.load(copy.path).files, Manifest.load(original.path).files
    shared = [path for path in own if not path.startswith(("adapters/", "knowledge/"))]
    changed = [path for path in shared if theirs.get(path) != own[path]]
    if changed:
        raise InputError(
            f"expected {copy.path} as a new folder or a copy of {name}, got another model (its {changed[0]} differs); "
            f"choose another folder, or change that model with --model {copy.path}"
        )
    return copy


def run_of(model: Path, purpose: str) -> Path:
    """The folder beside a model that holds its checkpoints while it is trained."""
    model = model.resolve()
    return model.with_name(f"{model.name}.{purpose}.run")


@contextmanager
def run_folder(named: Path | None, model: Path, purpose: str, *, keep: bool = False) -> Iterator[Path]:
    """The folder for checkpoints: ``named``, or one beside the model that is deleted when the run is complete.

    After an error or interruption it is kept if it holds a checkpoint or a language's result, to resume the run. Before
    that, what is kept are finished training examples, which later settings of the training can use, too. With ``keep``
    another process deletes it.
    """
    folder = named or run_of(model, purpose)
    if keep:
        yield folder
        return
    try:
        yield folder
    except BaseException:
        if folder.is_dir():
            note(f"note: {_left_of(folder, named is not None)}")
        raise
    if named is None:
        shutil.rmtree(folder, ignore_errors=True)


def _left_of(folder: Path, named: bool) -> str:
    """Delete of a stopped run what nothing can go on with; what is kept, what was deleted, and how to go on.

    Args:
        named: the user chose the folder, of which nothing is deleted.
    """
    if any(any(folder.rglob(name)) for name in ("checkpoint-*", "installed.json")):
        return f"the run is kept in {folder}; run the same command to resume from its last checkpoint"
    begin = "run the same command to begin again"
    if named:
        return f"the run was stopped before its first checkpoint; {folder} is kept; {begin}"
    examples = set(folder.rglob("examples/*.safetensors"))
    if not examples:
        shutil.rmtree(folder, ignore_errors=True)
        return f"the run was stopped before its first checkpoint; its folder {folder} was deleted; {begin}"
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            with suppress(OSError):  # not empty
                path.rmdir()
        elif path not in examples:
            path.unlink(missing_ok=True)
    return (
        "the run was stopped before its first checkpoint; its settings and weights were deleted, its training examples "
        f"are kept in {folder}; {begin} with them"
    )
