"""Versioned prompt templates, stored as package data without code.

A template is a set of short patterns. Filling one gives *pieces*: literals of the template, which may contain special
tokens, and contents (input text, mentions, labels), which may not. This way a text that contains ``<|im_end|>`` or
the template's own markers remains plain text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, field_validator

from retrieveall.config import parse_config
from retrieveall.errors import ConfigError

__all__ = ["Piece", "Template", "available_templates", "load_template"]

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the prompt: ``literal`` if it comes from the template, else from data."""

    text: str
    literal: bool


class _Level(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    example: str
    mention: str = ""


class _Task(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    label: str = ""


_FIELDS = {
    "entity.prompt": set[str](),
    "entity.example": {"mention", "surface", "label", "count", "strength", "doubt"},
    "context.prompt": set[str](),
    "context.example": {"text", "marked", "entities"},
    "context.mention": {"mention", "label"},
    "task.prompt": {"labels"},
    "task.label": {"name", "definition"},
    "text": set[str](),
    "repeat": set[str](),
}


class Template(BaseModel):
    """The patterns of one template version, fine to coarse: entity level, context level, task, text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    entity: _Level
    context: _Level
    task: _Task
    text: str
    repeat: str

    @field_validator("version")
    @classmethod
    def _has_version(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9_-]+\.v\d+", value):
            raise ValueError("a template version looks like 'name.v1'")
        return value

    def model_post_init(self, _context: object) -> None:
        for name, allowed in _FIELDS.items():
            part: object = self
            for attribute in name.split("."):
                part = getattr(part, attribute)
            unknown = set(_FIELD.findall(str(part))) - allowed
            if unknown:
                raise ValueError(f"{name}: unknown field {{{min(unknown)}}}; known are {sorted(allowed)}")


def fill(pattern: str, **fields: str | list[Piece]) -> list[Piece]:
    """Split ``pattern`` at its fields; field values become contents, the rest literals."""
    pieces: list[Piece] = []
    position = 0
    for match in _FIELD.finditer(pattern):
        if match.start() > position:
            pieces.append(Piece(pattern[position : match.start()], literal=True))
        value = fields[match.group(1)]
        if isinstance(value, list):
            pieces += value
        elif value:
            pieces.append(Piece(value, literal=False))
        position = match.end()
    if position < len(pattern):
        pieces.append(Piece(pattern[position:], literal=True))
    return pieces


def literal(text: str) -> list[Piece]:
    """``text`` as a single literal; nothing if it is empty."""
    return [Piece(text, literal=True)] if text else []


def available_templates() -> list[str]:
    """Template versions in the package."""
    folder = resources.files("retrieveall.prompts") / "templates"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@cache
def load_template(version: str) -> Template:
    """Load a template.

    Raises:
        ConfigError: no such template; lists the available ones.
    """
    if version not in available_templates():
        raise ConfigError(
            f"expected one of the prompt templates {', '.join(available_templates())}, got {version[:80]!r}"
        )
    text = (resources.files("retrieveall.prompts") / "templates" / f"{version}.yaml").read_text("utf-8")
    return parse_config(Template, yaml.safe_load(text), f"prompt template {version}")
