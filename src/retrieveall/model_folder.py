"""A model on disk: one folder with its settings, backbone, adapters and knowledge. Opens, checks, copies, uploads.

    retrieveall.yaml   settings          adapters/<language>/   PEFT's files and a card
    manifest.json      checksums         knowledge/<language>/  sentences, vectors, mentions
    backbone/          Hugging Face model, unless the settings name another place

Knows files; runs no model. Every change goes through ``storage.Transaction``, so that it happens whole or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from retrieveall.adapters import AdapterPool
from retrieveall.config import ModelConfig, load_yaml
from retrieveall.decoding import UNCALIBRATED, Calibration
from retrieveall.errors import InputError, LanguageError, MissingExtraError, ModelFolderError
from retrieveall.storage import MANIFEST, Manifest, Transaction, recover, safe_join

if TYPE_CHECKING:
    from retrieveall.knowledge import KnowledgeBase

__all__ = ["SETTINGS", "ModelFolder", "shipped_models"]

SETTINGS = "retrieveall.yaml"
KNOWLEDGE = "knowledge"
ADAPTERS = "adapters"
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def shipped_models() -> dict[str, Path]:
    """The models inside the package, by name."""
    root = Path(str(resources.files("retrieveall") / "models"))
    if not root.is_dir():
        return {}
    return {path.name: path for path in sorted(root.iterdir()) if (path / SETTINGS).is_file()}


@dataclass(frozen=True)
class ModelFolder:
    """An opened model folder."""

    path: Path
    config: ModelConfig

    @classmethod
    def open(cls, name: str | Path, *, revision: str | None = None, verify: bool = True) -> ModelFolder:
        """Open by the name of a shipped model, a path, or a hub id, and finish a change that was interrupted.

        Args:
            verify: compare checksums, not only sizes.

        Raises:
            InputError: a name that is neither a string nor a path.
            ModelFolderError: not found, no model, or a missing, truncated or altered file.
        """
        path = _locate(name, revision)
        recover(path)
        if not (path / SETTINGS).is_file():
            raise ModelFolderError(f"expected {SETTINGS} in {path}, found none; is this the folder of a model?")
        manifest = Manifest.load(path)
        manifest.verify(full=verify)
        if SETTINGS not in manifest.files:
            raise ModelFolderError(f"expected {SETTINGS} in the manifest of {path}, found none; get the model again")
        return cls(path, load_yaml(ModelConfig, path / SETTINGS))

    def languages(self) -> tuple[str, ...]:
        """Languages with an adapter, sorted."""
        return AdapterPool(self.path).languages()

    def calibration(self, language: str) -> Calibration:
        """That of the language's card."""
        pool = AdapterPool(self.path)
        return Calibration(*pool.card(language).calibration) if language in pool.languages() else UNCALIBRATED

    def knowledge(self) -> KnowledgeBase:
        """The knowledge base, opened lazily.

        Raises:
            ModelFolderError: there is none.
        """
        from retrieveall.knowledge import KnowledgeBase

        return KnowledgeBase.open(self.path / KNOWLEDGE, part_of_model=True)

    def remove_language(self, language: str) -> None:
        """Take a language's adapter and knowledge out; no other language's file is written.

        Raises:
            LanguageError: the model does not have it.
        """
        folders = [f"{part}/{language}" for part in (ADAPTERS, KNOWLEDGE)]
        if language not in {*self.languages(), *self.knowledge().languages}:
            raise LanguageError(
                f"expected one of the languages {', '.join(self.languages()) or '(none)'}, got {language[:80]!r}"
            )
        with Transaction(self.path) as transaction:
            for folder in folders:
                transaction.delete(folder)

    def copy_to(self, target: Path) -> None:
        """Copy every file of the manifest to a new folder.

        Raises:
            ModelFolderError: ``target`` exists and is not an empty folder, a file of this model is missing or altered,
                or the disk is full.
        """
        recover(target)  # an earlier copy may have been interrupted
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ModelFolderError(f"expected a new or empty folder to save to, {target} is neither; choose another")
        manifest = Manifest.load(self.path)
        manifest.verify()  # or the copy's manifest would vouch for damage
        with Transaction(target) as transaction:
            for name in manifest.names():
                shutil.copyfile(safe_join(self.path, name), transaction.path(name))

    def push(self, repo_id: str, *, private: bool, token: str | None) -> str:
        """Upload the files of the manifest to a repository of the Hugging Face hub; returns its address.

        Adapters and knowledge that the repository has and this folder has not are deleted there.

        Raises:
            ModelFolderError: a file is missing or altered, or the hub refused.
            MissingExtraError: huggingface_hub is not installed.
        """
        try:
            from huggingface_hub import HfApi
        except ImportError:  # comes with transformers, but is not ours to assume
            raise MissingExtraError("huggingface_hub", "datasets", "push_to_hub") from None
        manifest = Manifest.load(self.path)
        manifest.verify()
        api = HfApi(token=token)
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=str(self.path),
                allow_patterns=[*manifest.names(), MANIFEST],
                delete_patterns=[f"{ADAPTERS}/*", f"{KNOWLEDGE}/*"],
            )
        except Exception as error:
            detail = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelFolderError(f"could not upload to {repo_id!r}: {detail}") from error
        return str(url)


def _locate(name: str | Path, revision: str | None) -> Path:
    shipped = shipped_models()
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(
            "expected the name of a shipped model, the path of a model folder or a hub id, "
            f"got {type(name).__name__}; give a string such as 'mini' or a path"
        )
    if isinstance(name, str) and name in shipped:
        return shipped[name]
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
    except (OSError, RuntimeError, ValueError):  # too long, no such user, NUL: not a path
        pass
    if isinstance(name, str) and _HUB_ID.fullmatch(name) and not name.startswith("."):
        return _download(name, revision)
    raise ModelFolderError(
        f"expected a model folder, a hub id or one of {', '.join(shipped) or '(no shipped model)'}, "
        f"got {str(name)[:200]!r}; check the path"
    )


def _download(repo_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    from retrieveall.data.hub import quiet_retries

    try:
        with quiet_retries():
            return Path(snapshot_download(repo_id, revision=revision))
    except Exception as error:
        raise ModelFolderError(
            f"expected a model folder or the id of a model on the Hugging Face hub, got {repo_id!r}: there is no such "
            f"folder, and from the hub it could not be had, {_why_not(error, revision)}"
        ) from error


def _why_not(error: Exception, revision: str | None) -> str:
    """What the hub's client met, and what to do: its own messages are several sentences that advise programmers."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "which asks who you are; request access on its page and log in with: hf auth login"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "which has no such model, or a private one; check the path or the id, or log in with: hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"which has no revision {str(revision)[:80]!r} of it; check the revision"
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError)):
        return (
            "for it was not reached and this machine has no copy of it; check the path or the network, "
            "or download the model elsewhere and give the path of its folder"
        )
    first = re.split(r"(?<=[.!?])\s", " ".join(str(error).split()), maxsplit=1)[0] or type(error).__name__
    return f"its client said: {first[:300]} ({type(error).__name__}); check the path or the id"
