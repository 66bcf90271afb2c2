"""Renders a tokenizer's chat template as transformers does, without importing transformers.

A template from the hub is not trusted: it runs in jinja2's sandbox, without access to files or Python objects. It has
the filters, functions and tags that transformers provides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import jinja2
import jinja2.ext
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

__all__ = ["render_chat"]


def render_chat(template: str, message: str, tokens: Mapping[str, str], today: date) -> str:
    """Render one user message and the beginning of the assistant's turn.

    Args:
        tokens: special tokens available to the template, such as ``bos_token`` and ``eos_token``.
        today: the date for templates that print one.

    Raises:
        Exception: any exception of the template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _fail,
        "strftime_now": today.strftime,
        "namespace": _SafeNamespace,
    }
    return environment.from_string(template).render(
        messages=[{"role": "user", "content": message}],
        tools=None,
        documents=None,
        add_generation_prompt=True,
        date_string=today.strftime("%d %b %Y"),
        **tokens,
    )


class _GenerationBlock(jinja2.ext.Extension):
    """``{% generation %}`` marks assistant output for training; its content is rendered unchanged."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> Node | list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _SafeNamespace(Namespace):
    """A namespace without dunder names, through which a template could escape the sandbox."""

    def __init__(*args: Any, **values: Any) -> None:
        self, rest = args[0], args[1:]
        given = dict(*rest, **values)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: str) -> None:
    if name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"the name {name!r} is not allowed in a namespace")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of jinja2's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _fail(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)
