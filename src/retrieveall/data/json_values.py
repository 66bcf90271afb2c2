"""Parses JSON and checks its values; each error says what was expected and what came."""

from __future__ import annotations

import json
import re
from typing import Any

from retrieveall.storage import why_not_json

__all__ = ["check_object", "check_string", "integer", "kind_of", "parse", "string", "strings"]

_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON.
    """
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"expected a JSON object, but {why_not_json(error)}") from None


def check_object(value: Any) -> dict[str, Any]:
    """``value``, if it is an object.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, dict):
        raise ValueError(f'expected a JSON object with the key "text", got {kind_of(value)}')
    return value


def string(value: dict[str, Any], key: str) -> str:
    """The string at ``key``.

    Raises:
        ValueError: there is none, or something else.
    """
    if key not in value:
        raise ValueError(f'expected the key "{key}", got none')
    return check_string(value[key], key)


def check_string(value: Any, key: str) -> str:
    """``value``, if it is a string of Unicode text.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str):
        raise ValueError(f'expected "{key}" as a string, got {kind_of(value)}')
    if _SURROGATE.search(value):
        raise ValueError(f'expected "{key}" as Unicode text, got a lone surrogate; correct the \\u escape')
    return value


def integer(value: Any, key: str) -> int:
    """``value``, if it is an integer.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f'expected "{key}" as an integer, got {kind_of(value)}')
    return value


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), type(value).__name__)


def strings(value: Any, key: str) -> list[str]:
    """``value``, if it is a list of strings.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, list):
        raise ValueError(f'expected "{key}" as a list, got {kind_of(value)}')
    return [check_string(each, key) for each in value]
