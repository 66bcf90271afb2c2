"""Templates are strict data."""

from __future__ import annotations

import pytest

from retrieveall.config import parse_config
from retrieveall.errors import ConfigError
from retrieveall.prompts import Piece, Template, available_templates, load_template
from retrieveall.prompts.template import fill

GOOD = {
    "version": "test.v1",
    "entity": {"prompt": "E", "example": "{mention}"},
    "context": {"prompt": "C", "example": "{marked}", "mention": "{mention}"},
    "task": {"prompt": "T"},
    "text": "",
    "repeat": "R",
}


def test_every_shipped_template_loads_under_its_own_name() -> None:
    assert {"mini.v1", "mini.v2", "plain.v1"} <= set(available_templates())
    for version in available_templates():
        assert load_template(version).version == version


@pytest.mark.parametrize("name", ["nope.v1", "../config", "mini", "", "mini.v1.yaml", "x" * 10_000])
def test_an_unknown_template_is_one_short_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"mini\.v1, mini\.v2, plain\.v1") as caught:
        load_template(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "{mention}"}, "unknown field {mention}"),
        ({"entity": {"prompt": "{label}", "example": ""}}, "entity.prompt: unknown field"),
        ({"extra": 1}, "extra"),
        ({"version": "test"}, "name.v1"),
        ({"repeat": 3}, "repeat"),
    ],
)
def test_a_malformed_template_is_refused(change: dict[str, object], message: str) -> None:
    assert parse_config(Template, GOOD, "t").version == "test.v1"
    with pytest.raises(ConfigError) as caught:
        parse_config(Template, {**GOOD, **change}, "t")
    assert message in str(caught.value)


def test_fill_keeps_literals_and_data_apart() -> None:
    inner = [Piece("[", literal=True), Piece("{b}", literal=False)]
    assert fill("x{a}y{b}{c}", a="{b}", b=inner, c="") == [
        Piece("x", literal=True),
        Piece("{b}", literal=False),
        Piece("y", literal=True),
        *inner,
    ]
