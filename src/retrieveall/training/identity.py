"""What a run folder belongs to: resuming with other settings, data or weights would mix two runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from retrieveall.errors import DataError
from retrieveall.storage import write_atomic

__all__ = ["check_identity", "write_identity"]

_FILE = "run.json"


def check_identity(folder: Path, identity: Mapping[str, str]) -> None:
    """Refuse a folder that holds another run.

    Args:
        identity: what must agree, by what it is called in the error.

    Raises:
        DataError: names what differs.
    """
    try:
        held = json.loads((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        held = {}
    for name, value in identity.items():
        if held.get(name) != value:
            raise DataError(
                f"{folder} holds a run with another {name}: expected {value[:12]}, "
                f"it has {str(held.get(name))[:12]}; choose another run folder or remove it"
            )


def write_identity(folder: Path, identity: Mapping[str, str]) -> None:
    """Say what the folder belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / _FILE, json.dumps(dict(identity), indent=1).encode())
