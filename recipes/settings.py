"""Reading a recipe's file of settings, with what a small build or the command line changes in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from retrieveall.config import parse_config
from retrieveall.errors import ConfigError

__all__ = ["read_settings"]

T = TypeVar("T", bound=BaseModel)


def read_settings(kind: type[T], path: Path, *, small: bool = False, changes: Iterable[str] = ()) -> T:
    """The settings in ``path``.

    Args:
        small: with what the file says under ``small``.
        changes: ``KEY=VALUE`` each, such as ``masked_words.steps=100``; the value is YAML.

    Raises:
        ConfigError: an unknown key or a wrong value; names it.
    """
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    for_small = raw.pop("small", {})
    if small:
        raw = _merge(raw, for_small)
    for change in changes:
        keys, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"expected KEY=VALUE to change a setting, got {change!r}")
        nested: Any = yaml.safe_load(value)
        for key in reversed(keys.split(".")):
            nested = {key: nested}
        raw = _merge(raw, nested)
    return parse_config(kind, raw, str(path))


def _merge(base: Any, changes: Any) -> Any:
    """``base`` with the values of ``changes``; mappings are merged, everything else is replaced."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return {**base, **{key: _merge(base.get(key), value) for key, value in changes.items()}}
