"""What a run folder belongs to: resuming with other settings, data or weights would mix two runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from retrieveall.errors import DataError
from retrieveall.storage import write_atomic

__all__ = ["Identity", "check_identity", "write_identity"]

Identity: TypeAlias = Mapping[str, str | Mapping[str, Any]]
"""What must agree, by what it is called in the error: settings by name, or a checksum of what has none."""

_FILE = "run.json"
_SHOWN = 5  # settings that an error names


def check_identity(folder: Path, identity: Identity, changed: Mapping[str, Mapping[str, Any]] | None = None) -> bool:
    """Refuse a folder that holds another run; whether it holds this one, and is no new folder.

    A setting that the folder does not know came with a later version; at its default it makes no difference.

    Args:
        changed: of the settings in ``identity``, those that are not at their default.

    Raises:
        DataError: names what differs: of settings their names, with the value then and now.
    """
    held = _read(folder)
    if held is None:
        return False
    for name, now in identity.items():
        if name not in held:
            raise DataError(
                f"the run in {folder} was begun by another version of retrieveall; go on with that version, or remove "
                "the folder to begin anew"
            )
        then, now = held[name], _plain(now)
        if not _agree(then, now, None if changed is None else _plain(changed.get(name))):
            raise DataError(
                f"the run in {folder} differs in {name}{_differences(then, now)}; to go on with it, repeat the "
                "command as it was; to begin anew, remove that folder or choose another one with --run"
            )
    return True


def write_identity(folder: Path, identity: Identity) -> None:
    """Say what the folder belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / _FILE, json.dumps(dict(identity), indent=1).encode())


def _read(folder: Path) -> dict[str, Any] | None:
    """What the folder belongs to; None for a new one."""
    try:
        held = json.loads((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise DataError(
            f"{folder / _FILE}: expected what the run belongs to, got a damaged file; remove the folder to begin anew"
        )
    return held


def _plain(value: Any) -> Any:
    """As it comes out of a JSON file."""
    return json.loads(json.dumps(value))


def _agree(then: Any, now: Any, changed: Any) -> bool:
    """Whether both are the same, but for settings in ``now`` that are new and at their default."""
    if not (isinstance(then, dict) and isinstance(now, dict) and isinstance(changed, dict)):
        return bool(then == now)
    new = set(now) - set(then)
    return (
        set(then) <= set(now)
        and not new & set(changed)
        and all(_agree(then[name], now[name], changed.get(name, {})) for name in then)
    )


def _differences(then: Any, now: str | Mapping[str, Any]) -> str:
    """``: learning_rate 0.01 then, 0.02 now``; nothing where only checksums are known."""
    if not (isinstance(then, Mapping) and isinstance(now, Mapping)):
        return ""
    before, after = dict(_flat(then)), dict(_flat(now))
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    shown = [f"{key} {_shown(before, key)} then, {_shown(after, key)} now" for key in changed[:_SHOWN]]
    more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return f": {'; '.join(shown)}{more}"


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by their dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False)[:60] if key in settings else "not set"
