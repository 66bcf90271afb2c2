"""A model on disk: one folder with settings, backbone, adapters and knowledge. Opens, verifies, copies, uploads.

    retrieveall.yaml   settings          adapters/<language>/   PEFT's files and a card
    manifest.json      checksums         knowledge/<language>/  sentences, vectors, mentions
    backbone/          Hugging Face model, unless the settings name another location

Handles files, runs no model. Every change is a ``storage.Transaction``: it happens completely or not at all.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from retrieveall.adapters import AdapterPool
from retrieveall.config import ModelConfig, load_yaml
from retrieveall.decoders.calibration import UNCALIBRATED, Calibration
from retrieveall.errors import InputError, LanguageError, MissingExtraError, ModelFolderError
from retrieveall.storage import MANIFEST, FileRecord, Manifest, Transaction, recover, safe_join

if TYPE_CHECKING:
    from retrieveall.knowledge import KnowledgeBase

__all__ = ["CARD", "SETTINGS", "ModelFolder", "shipped_models"]

SETTINGS = "retrieveall.yaml"
KNOWLEDGE = "knowledge"
ADAPTERS = "adapters"
CARD = "README.md"
_MINI = "mini"
_ONLY_IN_THE_REPOSITORY = (
    "it is not in the wheel, which would be too large: give its folder in a clone of the repository, "
    "src/retrieveall/models/mini, or install from the clone with pip install -e ."
)
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def shipped_models() -> dict[str, Path]:
    """The models in the package, by name."""
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
        """Open a shipped model by name, a folder by path or a hub id; recovers from an interrupted change.

        Args:
            verify: check checksums, not only sizes.

        Raises:
            InputError: ``name`` is neither a string nor a path.
            ModelFolderError: not found, not a model, or a missing, truncated or modified file.
        """
        path = _locate(name, revision).absolute()  # read later, perhaps from another working directory
        recover(path)
        if not (path / SETTINGS).is_file():
            raise ModelFolderError(f"expected {SETTINGS} in {path}, found none; is this a model folder?")
        manifest = Manifest.load(path)
        manifest.verify(full=verify)
        if SETTINGS not in manifest.files:
            raise ModelFolderError(
                f"expected {SETTINGS} in the manifest of {path}, found none; download the model again"
            )
        return cls(path, load_yaml(ModelConfig, path / SETTINGS))

    def languages(self) -> tuple[str, ...]:
        """Languages with an adapter, sorted."""
        return AdapterPool(self.path).languages()

    def check_adapters(self) -> None:
        """Refuse a model without a single adapter.

        Raises:
            ModelFolderError: there is none; names the command that goes on.
        """
        if not self.languages():
            raise ModelFolderError(
                f"{self.next_step()}; to run the backbone alone: --allow-no-adapters, in Python allow_no_adapters=True"
            )

    def next_step(self) -> str:
        """What a model without adapters lacks, and the command that goes on."""
        path = shlex.quote(str(self.path))
        if self.knowledge().languages:
            return (
                f"the model in {path} has no adapter, its training did not finish; repeat the command that began it, "
                f"it goes on where it stopped: retrieveall train DATA --out {path}"
            )
        return (
            f"the model in {path} has no language; add one with: "
            f"retrieveall add-language LANGUAGE --data DATA --model {path}"
        )

    def has_backbone(self, source: Path) -> bool:
        """Whether the backbone is the one at ``source``, a folder or a hub id, or a copy of it."""
        named = self.config.backbone.path
        if str(source) == named or source.resolve() == (self.path / named).resolve():
            return True
        inside = f"{named}/"
        records = Manifest.load(self.path).files.items()
        files = {name.removeprefix(inside): record for name, record in records if name.startswith(inside)}
        return bool(files) and all(
            (source / name).is_file() and FileRecord.of(source / name) == record for name, record in files.items()
        )

    @property
    def card(self) -> str | None:
        """The model card, ``README.md`` of the folder, in Markdown; None if it has none."""
        path = self.path / CARD
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    def calibration(self, language: str) -> Calibration:
        """The calibration on the language's adapter card."""
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
        """Remove a language's adapter and knowledge; files of other languages are not touched.

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

    def check_apart(self, target: Path) -> None:
        """Refuse a place for a copy that is this folder, or within it.

        Raises:
            ModelFolderError: it is.
        """
        if target.resolve().is_relative_to(self.path.resolve()):
            raise ModelFolderError(f"expected a folder outside the model {self.path}, got {target}; choose another")

    def copy_to(self, target: Path) -> None:
        """Copy every file of the manifest to a new folder.

        Raises:
            ModelFolderError: ``target`` is within this folder, or no empty folder, a file of this model is missing or
                modified, or the disk is full.
        """
        self.check_apart(target)
        recover(target)  # an earlier copy may have been interrupted
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ModelFolderError(f"expected a new or empty folder to save to, {target} is neither; choose another")
        manifest = Manifest.load(self.path)
        manifest.verify()  # otherwise the copy's manifest would certify damaged files
        with Transaction(target) as transaction:
            for name in manifest.names():
                shutil.copyfile(safe_join(self.path, name), transaction.path(name))

    def push(self, repo_id: str, *, private: bool, token: str | None) -> str:
        """Upload the files of the manifest to a Hugging Face hub repository; returns its URL.

        Deletes adapters and knowledge in the repository that this folder does not have.

        Raises:
            ModelFolderError: a file is missing or modified, or the upload failed.
            MissingExtraError: huggingface_hub is not installed.
        """
        try:
            from huggingface_hub import HfApi
        except ImportError:  # a dependency of transformers, not of this package
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
            f"got {type(name).__name__}; give a string such as 'base' or a path"
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
    check = _ONLY_IN_THE_REPOSITORY if name == _MINI else "check the path"
    raise ModelFolderError(
        f"expected a model folder, a hub id or one of {', '.join(shipped) or '(no shipped model)'}, "
        f"got {str(name)[:200]!r}; {check}"
    )


def _download(repo_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    from retrieveall.data.hub import quiet_retries
    from retrieveall.storage.hub import fail_fast

    try:
        with quiet_retries(), fail_fast(repo_id):
            return Path(snapshot_download(repo_id, revision=revision))
    except Exception as error:
        raise ModelFolderError(
            f"expected a model folder or a Hugging Face hub id, got {repo_id!r}: there is no such folder, "
            f"and the download failed: {_why_not(error, revision)}"
        ) from error


def _why_not(error: Exception, revision: str | None) -> str:
    """The cause and the remedy in one line; the hub client's own messages are long and meant for programmers."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "the model is gated; request access on its page and log in with: hf auth login"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such model, or it is private; check the path or the id, or log in with: hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {str(revision)[:80]!r}; check the revision"
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError)):
        return (
            "the hub is not reachable and there is no local copy; check the path or the network, "
            "or download the model elsewhere and give the path of its folder"
        )
    first = re.split(r"(?<=[.!?])\s", " ".join(str(error).split()), maxsplit=1)[0] or type(error).__name__
    return f"{first[:300]} ({type(error).__name__}); check the path or the id"
