"""Environments of other libraries: ``python -m retrieveall.benchmark.peers DIR``.

Each library has a venv of its own under DIR, ``DIR/spacy``, since none fits this project's versions. The method's
``environment`` names it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from retrieveall.errors import RetrieveAllError

__all__ = ["PEERS", "PROGRAMS", "clean_environment", "install", "python_of"]

PROGRAMS = Path(__file__).parent / "peer_programs"
PEERS = {"gliner": ("gliner[training]==0.2.29", "torch==2.13.0"), "spacy": ("spacy==3.8.18",)}
"""What is installed into the venv of each."""


def python_of(environment: Path) -> Path:
    """The interpreter of a venv."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def clean_environment() -> dict[str, str]:
    """Without this project's path, which would make the other Python load our packages; no reports to the hub."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    # GLiNER shuffles labels that it takes from a set, whose order depends on the hashes of strings.
    return own | {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false"}


def install(name: str, folder: Path) -> Path:
    """Make the venv of a library, unless it is there, and return its path.

    Raises:
        RetrieveAllError: Python or pip failed.
    """
    environment = folder / name
    if not python_of(environment).exists():
        _run([sys.executable, "-m", "venv", str(environment)])
    _run([str(python_of(environment)), "-m", "pip", "--disable-pip-version-check", "-q", "install", *PEERS[name]])
    return environment


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RetrieveAllError(f"{' '.join(command)[:200]} failed: {last[:300]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m retrieveall.benchmark.peers", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the venvs")
    parser.add_argument("--only", nargs="+", choices=sorted(PEERS), default=sorted(PEERS))
    args = parser.parse_args(arguments)
    try:
        for name in args.only:
            print(install(name, args.folder))
    except (RetrieveAllError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
