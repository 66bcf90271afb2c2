"""Each decoder has settings of its own, and those of the other are refused where the configuration is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from retrieveall.config import GenerationConfig, ModelConfig, TaggingConfig, dump_yaml, load_yaml, parse_config
from retrieveall.errors import ConfigError

LABELS = [{"name": "PER"}]


def parse(decoder: Any) -> ModelConfig:
    return parse_config(ModelConfig, {"labels": LABELS, "decoder": decoder}, "x.yaml")


@pytest.mark.parametrize(
    ("decoder", "kind"),
    [
        ({}, TaggingConfig),
        ({"kind": "tagging"}, TaggingConfig),
        ({"attention": "full", "temperature": 2.0, "tag_tokens": {"O": "A"}}, TaggingConfig),
        ({"kind": "generation"}, GenerationConfig),
        ({"kind": "generation", "constrained": False, "max_answer_tokens": 9, "spacing": "always"}, GenerationConfig),
    ],
)
def test_the_kind_decides_what_may_be_set(decoder: dict[str, Any], kind: type) -> None:
    config = parse(decoder)
    assert type(config.decoder) is kind
    assert {key: getattr(config.decoder, key) for key in decoder} == decoder
    assert parse_config(ModelConfig, yaml.safe_load(dump_yaml(config)), "again") == config


OWN = {
    "tagging": {"attention": "repeat", "tag_tokens": {}, "temperature": 1.0},
    "generation": {"constrained": True, "max_answer_tokens": 64},
}


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize(("kind", "other"), [("tagging", "generation"), ("generation", "tagging")])
def test_settings_of_the_other_decoder_are_refused(kind: str, other: str, written: bool) -> None:
    """Even at their defaults. A decoder without a kind tags."""
    if kind != "tagging" and not written:
        pytest.skip("the kind of a generating decoder is always written")
    for key, value in OWN[other].items():
        with pytest.raises(ConfigError, match=rf"^x.yaml: decoder\.{key}: ") as caught:
            parse(({"kind": kind} if written else {}) | OWN[kind] | {key: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("decoder", "key"),
    [
        ({"attention": "causal"}, "decoder.attention"),
        ({"kind": "tagging", "temperature": 0}, "decoder.temperature"),
        ({"kind": "generation", "max_answer_tokens": 7}, "decoder.max_answer_tokens"),
        ({"tag_tokens": {"O": 3}}, "decoder.tag_tokens.O"),
        ({"tagging": {}}, "decoder.tagging"),
        ({"kind": "generation", "tagging": {}}, "decoder.tagging"),
        ({"window_words": 24}, "decoder.window_words"),
        ({"kind": "spans"}, "decoder.kind"),
        ({"kind": None}, "decoder.kind"),
        ({"kind": ["tagging"]}, "decoder.kind"),
        ("generation", "decoder"),
        ([], "decoder"),
        (None, "decoder"),
    ],
)
def test_the_error_names_the_key_as_it_was_written(decoder: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x\.yaml: {key}: ") as caught:
        parse(decoder)
    assert "_decoder_kind" not in str(caught.value)
    if key == "decoder.kind":
        assert "tagging or generation" in str(caught.value)


def test_a_folder_of_an_earlier_version_says_so(tmp_path: Path) -> None:
    """And not that some key of it is unknown now."""
    old = {
        "format_version": 1,
        "labels": LABELS,
        "decoder": {"kind": "generation", "attention": "repeat", "window_words": 9},
    }
    (tmp_path / "retrieveall.yaml").write_text(yaml.safe_dump(old))
    with pytest.raises(ConfigError, match=r"retrieveall\.yaml: format_version: .*earlier version"):
        load_yaml(ModelConfig, tmp_path / "retrieveall.yaml")


@pytest.mark.parametrize("windows", [{"words": 20, "overlap": 11}, {"words": 7}, {"overlap": -1}, {"size": 9}])
def test_windows_that_make_no_sense(windows: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"^x\.yaml: windows"):
        parse_config(ModelConfig, {"labels": LABELS, "windows": windows}, "x.yaml")


def test_what_the_engine_needs_to_know_of_a_decoder() -> None:
    full, repeat, writing = parse({"attention": "full"}), parse({}), parse({"kind": "generation"})
    assert [each.decoder.full_attention for each in (full, repeat, writing)] == [True, False, False]
    assert [each.decoder.copies for each in (full, repeat, writing)] == [1, 2, 1]
    assert [each.decoder.longest_answer for each in (full, repeat, writing)] == [0, 0, 256]
    assert [each.decoder.reads_logits for each in (full, repeat, writing)] == [True, True, False]


def test_particles_as_words_need_a_decoder_that_tags() -> None:
    """A generating decoder writes mentions out of whole words."""
    for hangul in ("whole", "particles"):
        tagging = parse_config(ModelConfig, {"labels": LABELS, "windows": {"hangul": hangul}}, "x.yaml")
        assert tagging.windows.hangul == hangul
    raw = {"labels": LABELS, "decoder": {"kind": "generation"}, "windows": {"hangul": "whole"}}
    assert parse_config(ModelConfig, raw, "x.yaml").windows.hangul == "whole"
    with pytest.raises(ConfigError, match=r"windows\.hangul 'particles'.*decoder\.kind 'tagging'"):
        parse_config(ModelConfig, raw | {"windows": {"hangul": "particles"}}, "x.yaml")


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_settings_are_finite_numbers(value: float) -> None:
    from retrieveall.config import TrainingConfig

    with pytest.raises(ConfigError, match=r"learning_rate: .*finite"):
        parse_config(TrainingConfig, {"learning_rate": value}, "--set")
