from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.config import RoutingConfig
from retrieveall.errors import LanguageError
from retrieveall.routing import Router
from retrieveall.types import LanguageMatch

languages = st.sampled_from(["de", "en", "ko", "ru", "zh"])
matches = st.dictionaries(
    languages,
    st.builds(
        LanguageMatch,
        similarity=st.floats(-1, 1),
        sentences=st.integers(1, 10**6),
        likelihood=st.floats(-1e4, 0),
        fit=st.none() | st.floats(-10, 10),
        foreign=st.floats(0, 1),
    ),
)
pools = st.sets(languages)
configs = st.builds(
    RoutingConfig,
    dimension=st.floats(0, 64),
    weight=st.floats(0, 8),
    temperature=st.floats(0.1, 64),
    winner=st.floats(0, 1),
    max_adapters=st.integers(1, 4),
    unknown=st.none() | st.floats(0, 5),
    unknown_runs=st.sampled_from(["mixture", "base"]),
    fallback=st.sampled_from(["mixture", "base"]),
)


def match(similarity: float = 0.5, **others: float) -> LanguageMatch:
    return replace(LanguageMatch(similarity, fit=0.0), **others)  # type: ignore[arg-type]


@given(matches, pools, configs)
def test_weights_are_a_distribution_over_available_adapters(
    found: dict[str, LanguageMatch], pool: set[str], config: RoutingConfig
) -> None:
    route = Router(config).route(found, pool)
    assert set(route.adapters) <= pool
    assert set(route.votes) <= pool
    assert len(route.adapters) <= config.max_adapters
    assert all(0 < weight <= 1 for weight in route.adapters.values())
    for weights in (route.adapters, route.votes):
        assert not weights or math.isclose(sum(weights.values()), 1)
    if not route.adapters:
        assert route.reason in {"fallback", "unknown"}
        assert config.unknown_runs == "base" or config.fallback == "base" or not pool


@given(matches, pools, configs)
def test_the_order_of_languages_does_not_matter(
    found: dict[str, LanguageMatch], pool: set[str], config: RoutingConfig
) -> None:
    assert Router(config).route(found, pool) == Router(config).route(dict(reversed(found.items())), pool)


@given(matches, pools, configs)
def test_the_reason_follows_from_the_matches(
    found: dict[str, LanguageMatch], pool: set[str], config: RoutingConfig
) -> None:
    route = Router(config).route(found, pool)
    if all(each.fit is None for name, each in found.items() if name in pool):
        assert route.reason == "fallback"
    elif route.reason == "unknown":
        assert config.unknown is not None
        assert route.language is None
        assert bool(route.adapters) == (config.unknown_runs == "mixture")
        assert len(route.adapters) <= config.max_adapters
    else:
        assert route.reason == ("vote" if max(route.votes.values()) >= config.winner else "mixture")


def test_the_score_is_that_of_the_docstring() -> None:
    found = {"de": match(0.8, sentences=20_000, likelihood=-40.0), "yo": match(0.6, sentences=100, likelihood=-38.0)}
    scores = {
        "de": -40 - 3 * (8 * math.log(0.25) + math.log(20_000)),
        "yo": -38 - 3 * (8 * math.log(0.45) + math.log(100)),
    }
    total = sum(math.exp(score / 4) for score in scores.values())
    route = Router(RoutingConfig(temperature=4.0, weight=3.0)).route(found, {"de", "yo"})
    assert route.votes == pytest.approx({name: math.exp(score / 4) / total for name, score in scores.items()})


def test_a_nearer_sentence_among_many_is_no_nearer() -> None:
    """With n times as many sentences the nearest is nearer by n^(-1/d): the votes stay equal."""
    found = {"small": match(1.05 - 0.5, sentences=100), "large": match(1.05 - 0.5 * 200 ** (-2 / 16), sentences=20_000)}
    for weight in (0.5, 2.0, 8.0):
        votes = Router(RoutingConfig(weight=weight)).route(found, {"small", "large"}).votes
        assert votes == pytest.approx({"small": 0.5, "large": 0.5})


def test_the_nearest_sentence_weighs_as_much_as_the_settings_say() -> None:
    found = {"near": match(0.9, likelihood=-42), "likely": match(0.7, likelihood=-40)}
    routes = [Router(RoutingConfig(weight=weight)).route(found, set(found)) for weight in (0.0, 2.0)]
    assert [next(iter(route.votes)) for route in routes] == ["likely", "near"]


def test_a_split_vote_is_a_mixture_of_the_strongest() -> None:
    found = {"de": match(likelihood=-40), "en": match(likelihood=-41), "ru": match(likelihood=-60)}
    route = Router(RoutingConfig(winner=0.9, max_adapters=2)).route(found, {"de", "en", "ru"})
    assert list(route.adapters) == ["de", "en"]
    assert sum(route.adapters.values()) == pytest.approx(1)
    assert route.reason == "mixture"


def test_a_language_without_adapter_has_no_vote() -> None:
    route = Router().route({"ja": match(0.9), "zh": match(0.2)}, {"zh", "en"})
    assert route.adapters == {"zh": 1.0}


def test_unlike_every_language_is_unknown() -> None:
    unlike = {"de": match(fit=-3.0), "en": match(fit=-2.5, likelihood=-10)}
    route = Router().route(unlike, {"de", "en"})
    assert (set(route.adapters), route.reason, route.language) == ({"de", "en"}, "unknown", None)
    alone = Router(RoutingConfig(unknown_runs="base")).route(unlike, {"de", "en"})
    assert (alone.adapters, alone.reason, alone.votes) == ({}, "unknown", route.votes)
    assert Router(RoutingConfig(unknown=None)).route(unlike, {"de", "en"}).reason != "unknown"
    assert Router().route(unlike | {"nl": match(fit=-1.0)}, {"de", "en", "nl"}).reason != "unknown"
    assert Router().route(unlike | {"nl": match(fit=-1.0)}, {"de", "en"}).reason == "unknown"


def test_another_script_is_unknown() -> None:
    assert Router().route({"de": match(foreign=1.0), "ru": match(foreign=0.9)}, {"de", "ru"}).reason == "unknown"
    assert Router().route({"de": match(foreign=1.0), "ru": match(foreign=0.4)}, {"de", "ru"}).reason != "unknown"


def test_without_letters_the_nearest_weigh_or_the_backbone_runs() -> None:
    found = {"ru": match(0.9, fit=None), "de": match(0.1, fit=None)}  # type: ignore[arg-type]
    route = Router(RoutingConfig(max_adapters=1)).route(found, {"de", "en", "ru"})
    assert (route.adapters, route.reason) == ({"ru": 1.0}, "fallback")
    assert Router(RoutingConfig(fallback="base")).route(found, {"de", "ru"}).adapters == {}


def test_without_matches_all_weigh_the_same_or_the_backbone_runs() -> None:
    pool = {"zh", "de", "en", "ru"}
    mixture = Router(RoutingConfig(max_adapters=2)).route({}, pool)
    assert mixture.adapters == {"de": 0.5, "en": 0.5}
    assert mixture.reason == "fallback"
    base = Router(RoutingConfig(fallback="base")).route({}, pool)
    assert (base.adapters, base.language, base.reason) == ({}, None, "fallback")


def test_the_caller_can_fix_the_language_and_still_sees_the_votes() -> None:
    route = Router().route({"de": match(fit=-9.0)}, {"de", "en"}, language="en")
    assert route.adapters == {"en": 1.0}
    assert route.votes == {"de": 1.0}
    assert route.reason == "fixed"


def test_an_unknown_language_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LanguageError, match=r"'xx'; choose one of: de, en"):
        Router().route({}, {"en", "de"}, language="xx")


def test_keys_of_earlier_versions_are_dropped() -> None:
    old = {"power": 4.0, "winner": 0.6, "max_adapters": 3, "floor": 0.1, "fallback": "mixture"}
    assert RoutingConfig.model_validate(old) == RoutingConfig()
    assert "power" not in RoutingConfig.model_validate(old).model_dump()


def test_a_language_in_another_script_has_no_vote_beside_one_in_the_script() -> None:
    """Letters that no language knows are as unlikely in all: they decide nothing between scripts."""
    likely = match(likelihood=-10.0, foreign=0.95)
    route = Router().route({"en": match(likelihood=-90.0, foreign=0.7), "zh": likely}, {"en", "zh"})
    assert route.adapters == {"en": 1.0}
    assert list(route.votes) == ["en"]
    assert Router(RoutingConfig(unknown=None)).route({"zh": likely}, {"zh"}).adapters == {"zh": 1.0}
