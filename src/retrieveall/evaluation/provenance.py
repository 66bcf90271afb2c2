"""Origin of a measurement: commit, date, machine, versions, model, command. Does not load torch."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from retrieveall.storage import MANIFEST, sha256_file
from retrieveall.threads import usable_cpus

__all__ = ["Provenance"]

_PACKAGES = ("retrieveall", "torch", "transformers", "numpy")


@dataclass(frozen=True)
class Provenance:
    """What is needed to reproduce a measurement.

    Attributes:
        commit: git commit of the library's source tree; None if it is not in a repository.
        modified: whether tracked files differ from the commit; None without a commit.
        date: end of the measurement, ISO 8601, UTC.
        machine: ``platform``, ``processor``, ``cpus`` available to this process, ``threads`` of torch.
        versions: of Python and the packages that affect the result; None if not installed.
        model: name in the model's settings.
        manifest_sha256: checksum of the model's ``manifest.json``, which holds the checksums of all files.
        command: the command line of this process.
    """

    commit: str | None = None
    modified: bool | None = None
    date: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)
    model: str = ""
    manifest_sha256: str | None = None
    command: str = ""

    @classmethod
    def collect(cls, model: Any = None) -> Provenance:
        """The provenance of a measurement of ``model``, which may be any object, in this process."""
        commit = _commit()
        folder = getattr(getattr(model, "folder", None), "path", None)
        manifest = None if folder is None else Path(folder) / MANIFEST
        return cls(
            commit=commit,
            modified=None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            machine={
                "platform": platform.platform(),
                "processor": _processor(),
                "cpus": usable_cpus(),
                "threads": _threads(),
            },
            versions={
                "python": platform.python_version(),
                **{name: _version(name) for name in _PACKAGES},
            },
            model=str(getattr(getattr(model, "config", None), "name", "")),
            manifest_sha256=sha256_file(manifest) if manifest is not None and manifest.is_file() else None,
            command=_command(sys.orig_argv),
        )


def _git(*arguments: str) -> str | None:
    """Output of git in the package's folder; None if git fails or is not installed."""
    package = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "-C", str(package), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _commit() -> str | None:
    # An installed package may lie inside another project's repository, which does not track its files.
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git("rev-parse", "HEAD")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _threads() -> int | None:
    torch = sys.modules.get("torch")  # if torch is not loaded, it was not used
    return None if torch is None else int(torch.get_num_threads())


def _command(arguments: list[str]) -> str:
    """The command line, without the directories of the interpreter and console script."""
    head = [Path(part).name if Path(part).is_absolute() else part for part in arguments[:2]]
    return shlex.join([*head, *arguments[2:]])
