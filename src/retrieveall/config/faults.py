"""What is wrong with a value, in the words of this library: pydantic's errors as ``expected …, got …``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

__all__ = ["Place", "first_fault", "json_type", "reason"]

Place = tuple[int | str, ...]

_OBJECT, _SETTINGS = "an object", "keys with values"  # in JSON, and in YAML
_TYPES = {
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "none_required": "null",
    "path_type": "a path",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "at most {le}",
    "string_too_short": "at least {min_length} character(s)",
    "string_too_long": "at most {max_length} character(s)",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}
"""What pydantic's errors want. Whatever may stand at a place is joined by "or"."""
_KINDS = ("_type", "_parsing", "_from_float", "none_required", "literal_error", "enum")
"""Errors that another type at the same place could have avoided; any other says that the type was right."""
_GOT = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "a list", tuple: "a list"}
_LENGTHS = ("string_too_short", "string_too_long", "too_short", "too_long")
_SIZES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_NOT_ONE_OF = re.compile(r"(?s)(.+) is not one of (.+?)\.?")
_PREFIX = re.compile(r"^(Value error|Assertion failed), ")


def first_fault(
    errors: Sequence[ErrorDetails], place_of: Callable[[ErrorDetails], Place], *, show: bool = True
) -> tuple[Place, str]:
    """The place of the first fault, and what is wrong there.

    A value that may be of several types has an error for each of them. The ones that are meant are those that got
    furthest.

    Args:
        place_of: where an error is, in the words of whoever wrote the value.
        show: whether the wrong value may be shown.
    """
    places = [place_of(each) for each in errors]
    first = places[0][:1]
    furthest = max((place for place in places if place[:1] == first), key=len)
    there = [each for place, each in zip(places, errors, strict=True) if place == furthest]
    certain = [each for each in there if not _is_of_kind(each)]
    return furthest, reason(certain[:1] or there, show=show)


def reason(errors: Sequence[ErrorDetails], *, show: bool = True) -> str:
    """``expected a number, got 'abc'``, for the errors of one value.

    Args:
        show: whether the value may be shown, or only its type, in the words of JSON.
    """
    first = errors[0]
    if first["type"] == "missing":
        return "expected a value, got none"
    if first["type"] not in _TYPES:
        return _words(str(first["msg"]))
    expected = " or ".join(dict.fromkeys(_expected(each) for each in errors if each["type"] in _TYPES))
    got = _got(first, show)
    if show:
        expected, got = expected.replace(_OBJECT, _SETTINGS), _SETTINGS if got == _OBJECT else got
    return f"expected {expected}, got {got}"


def json_type(value: Any) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "null"
    return _OBJECT if isinstance(value, Mapping) else _GOT.get(type(value), type(value).__name__)


def _is_of_kind(error: ErrorDetails) -> bool:
    return error["type"].endswith(_KINDS)


def _expected(error: ErrorDetails) -> str:
    found = _TYPES[error["type"]].format_map({name: _number(value) for name, value in error.get("ctx", {}).items()})
    return found.replace("(s)", "" if "at least 1 " in found or "at most 1 " in found else "s")


def _number(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value


def _got(error: ErrorDetails, show: bool) -> str:
    value = error["input"]
    if error["type"] in _LENGTHS and hasattr(value, "__len__"):
        return str(len(value)) if len(value) else "none"
    kind = json_type(value)
    if value is None or isinstance(value, (Mapping, list, tuple)):
        return kind
    if show:
        return str(value).lower() if isinstance(value, bool) else repr(value)[:80]
    if error["type"] in _SIZES:
        return "a smaller number" if error["type"].startswith("greater") else "a greater number"
    return f"another {kind.partition(' ')[2]}" if error["type"] in ("literal_error", "enum") else kind


def _words(message: str) -> str:
    """A message of a check of ours, or of one that has no words here, without pydantic's own."""
    said = _PREFIX.sub("", message)
    choice = _NOT_ONE_OF.fullmatch(said)
    if choice is not None:
        return f"expected one of {choice[2]}, got {choice[1]}"
    return re.sub(r"^Input should be", "expected", re.sub(r"^Invalid JSON: ", "expected JSON: ", said))
