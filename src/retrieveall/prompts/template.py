"""Versioned prompt templates: package data, strict, never code.

A template is a set of short patterns. Filling one gives *pieces*: literals of the template, which may be special
tokens of the tokenizer, and contents (input text, mentions, labels), which never are. Keeping the two apart is what
makes a text that contains ``<|im_end|>`` or the template's own markers stay plain text.
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
    """A stretch of the prompt. ``literal`` pieces come from the template, the others from data."""

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
    """Split ``pattern`` at its fields; what a field holds becomes content, the rest literals."""
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
    """``text`` as one literal, whatever stands in it; nothing for an empty one."""
    return [Piece(text, literal=True)] if text else []


def available_templates() -> list[str]:
    """Versions of the templates in the package."""
    folder = resources.files("retrieveall.prompts") / "templates"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@cache
def load_template(version: str) -> Template:
    """The template of that version.

    Raises:
        ConfigError: no such template; lists those there are.
    """
    if version not in available_templates():
        raise ConfigError(
            f"expected one of the prompt templates {', '.join(available_templates())}, got {version[:80]!r}"
        )
    text = (resources.files("retrieveall.prompts") / "templates" / f"{version}.yaml").read_text("utf-8")
    return parse_config(Template, yaml.safe_load(text), f"prompt template {version}")
