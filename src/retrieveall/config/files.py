"""Settings as YAML, in and out; errors name the file, the key and what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from retrieveall.config.faults import Place, first_fault
from retrieveall.errors import ConfigError

__all__ = ["dump_yaml", "load_yaml", "parse_config"]

T = TypeVar("T", bound=BaseModel)


def load_yaml(kind: type[T], path: Path) -> T:
    """Read a YAML file as ``kind``.

    Raises:
        ConfigError: missing or malformed file, unknown key, wrong value; names the file and the key.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"expected a configuration file at {path}, found none; check the path") from None
    except OSError as error:
        raise ConfigError(f"{path}: expected a YAML file, got {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: expected a YAML file, {_why_not_yaml(error)}") from None
    return parse_config(kind, raw, str(path))


def _why_not_yaml(error: Exception) -> str:
    """In one line; the parser's own are many, and say little of a binary file."""
    if isinstance(error, (UnicodeDecodeError, yaml.reader.ReaderError)):
        return "got a binary file, or text that is not UTF-8"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        cut = any(end in f"{error.problem}" for end in ("<stream end>", "end of stream", "\\x00"))
        fault = "which is truncated" if cut else "got something else"
        return f"{fault}: {error.problem} at line {mark.line + 1}, column {mark.column + 1}"
    return f"got something else: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"


def parse_config(kind: type[T], raw: Any, where: str) -> T:
    """Validate plain data as ``kind``; ``where`` names its origin in the error."""
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        found = "a text" if isinstance(raw, str) else "a list" if isinstance(raw, list) else type(raw).__name__
        raise ConfigError(f"{where}: expected settings, one `key: value` a line, got {found}; check the file")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_fault(kind, error, raw)}") from None


def _fault(kind: type[BaseModel], error: ValidationError, raw: Mapping[str, Any]) -> str:
    """The first invalid key and the reason."""
    errors = error.errors(include_url=False)
    first = errors[0]
    key = _key(_place(first, raw))
    if first["type"] == "union_tag_invalid":
        return f"{key}.kind: expected {_kinds(first)}, got {str(first['ctx']['tag'])[:80]!r}"
    if first["type"] == "union_tag_not_found":
        return f"{key}.kind: expected a kind, got none"
    if first["type"] == "extra_forbidden":
        meant = _meant(kind, key)
        hint = f"did you mean {meant}?" if meant else "check its spelling and its place"
        return f"{key}: expected a known key, got one that does not exist; {hint}"
    place, reason = first_fault(errors, lambda each: _place(each, raw))
    return f"{_key(place) or 'the document'}: {reason}"


def _kinds(error: ErrorDetails) -> str:
    """The kinds there are: ``crf, spacy or gliner``."""
    *others, last = (each.strip().strip("'") for each in str(error["ctx"]["expected_tags"]).split(","))
    return f"{', '.join(others)} or {last}" if others else last


def _meant(kind: type[BaseModel], key: str) -> str | None:
    """The existing key most like ``key``: alike in spelling, or of the same name in another place."""
    keys = list(_keys(kind))
    name = key.rpartition(".")[2]
    elsewhere = [each for each in keys if each.rpartition(".")[2] == name]
    return next(iter(elsewhere or get_close_matches(key, keys, 1, 0.75)), None)


def _keys(kind: Any, before: str = "") -> Iterator[str]:
    """The dotted keys of a settings class, with those of the classes inside."""
    for name, found in getattr(kind, "model_fields", {}).items():
        yield f"{before}{name}"
        for inner in (found.annotation, *get_args(found.annotation)):
            for each in (inner, *get_args(inner)):
                if isinstance(each, type) and issubclass(each, BaseModel):
                    yield from _keys(each, f"{before}{name}.")


def _place(error: ErrorDetails, raw: Any) -> Place:
    """The keys and numbers of items that the user wrote: pydantic puts names of types and kinds between them."""
    place: list[int | str] = []
    value = raw
    for number, part in enumerate(error["loc"], 1):
        inside = (
            part in value
            if isinstance(value, Mapping)
            else isinstance(value, list | tuple) and part in range(len(value))
        )
        if inside:
            value = value[part]
            place.append(part)
        elif error["type"] == "missing" and number == len(error["loc"]):
            place.append(part)
    return tuple(place)


def _key(place: Place) -> str:
    return ".".join(map(str, place))


def dump_yaml(config: BaseModel, exclude: set[str] | None = None) -> str:
    """The configuration as YAML, keys in the order of the class."""
    return yaml.safe_dump(config.model_dump(mode="json", exclude=exclude), sort_keys=False, allow_unicode=True)
