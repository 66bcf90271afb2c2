from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.config import RoutingConfig
from retrieveall.errors import LanguageError
from retrieveall.routing import Router
from retrieveall.types import Neighbour, Sentence


def neighbour(language: str, similarity: float) -> Neighbour:
    return Neighbour(Sentence("text", language=language), similarity)


languages = st.sampled_from(["de", "en", "ko", "ru", "zh"])
neighbours = st.lists(st.builds(neighbour, languages, st.floats(-1, 1)), max_size=12)
pools = st.sets(languages)
configs = st.builds(
    RoutingConfig,
    power=st.floats(0.1, 64),
    winner=st.floats(0, 1),
    max_adapters=st.integers(1, 4),
    floor=st.floats(-1, 1),
    fallback=st.sampled_from(["mixture", "base"]),
)


@given(neighbours, pools, configs)
def test_weights_are_a_distribution_over_available_adapters(
    found: list[Neighbour], pool: set[str], config: RoutingConfig
) -> None:
    route = Router(config).route(found, pool)
    assert set(route.adapters) <= pool
    assert set(route.votes) <= pool
    assert len(route.adapters) <= config.max_adapters
    assert all(0 < weight <= 1 for weight in route.adapters.values())
    for weights in (route.adapters, route.votes):
        assert not weights or math.isclose(sum(weights.values()), 1)
    if not route.adapters:
        assert route.reason == "fallback"
        assert config.fallback == "base" or not pool


@given(neighbours, pools, configs, st.randoms(use_true_random=False))
def test_the_order_of_neighbours_does_not_matter(
    found: list[Neighbour], pool: set[str], config: RoutingConfig, random: object
) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Router(config).route(found, pool) == Router(config).route(shuffled, pool)


@given(neighbours, pools, configs)
def test_the_reason_follows_from_votes_and_floor(found: list[Neighbour], pool: set[str], config: RoutingConfig) -> None:
    route = Router(config).route(found, pool)
    best = max((each.similarity for each in found if each.language in pool), default=-math.inf)
    if best <= 0 or best < config.floor:
        assert route.reason == "fallback"
    elif max(route.votes.values()) >= config.winner:
        assert route.reason == "vote"
        assert len(route.adapters) == 1
    else:
        assert route.reason == "mixture"


def test_votes_are_powers_of_similarity() -> None:
    found = [neighbour("de", 0.8), neighbour("en", 0.4), neighbour("en", 0.4), neighbour("ru", -0.5)]
    route = Router(RoutingConfig(power=2, winner=0.5)).route(found, {"de", "en", "ru"})
    assert route.votes == pytest.approx({"de": 0.64 / 0.96, "en": 0.32 / 0.96})
    assert route.adapters == {"de": 1.0}
    assert route.reason == "vote"


def test_a_split_vote_is_a_mixture_of_the_strongest() -> None:
    found = [neighbour("de", 0.5), neighbour("en", 0.4), neighbour("ru", 0.1)]
    route = Router(RoutingConfig(power=1, winner=0.9, max_adapters=2)).route(found, {"de", "en", "ru"})
    assert route.adapters == pytest.approx({"de": 5 / 9, "en": 4 / 9})
    assert list(route.adapters) == ["de", "en"]
    assert route.votes == pytest.approx({"de": 0.5, "en": 0.4, "ru": 0.1})
    assert route.reason == "mixture"


def test_a_language_without_adapter_has_no_vote() -> None:
    route = Router().route([neighbour("ja", 0.9), neighbour("zh", 0.2)], {"zh", "en"})
    assert route.adapters == {"zh": 1.0}


def test_tiny_similarities_still_vote() -> None:
    route = Router(RoutingConfig(power=64, floor=0)).route(
        [neighbour("de", 1e-9), neighbour("en", 1e-10)], {"de", "en"}
    )
    assert route.adapters == {"de": 1.0}
    assert route.reason == "vote"


def test_below_the_floor_the_votes_still_weigh() -> None:
    config = RoutingConfig(power=1, floor=0.5, max_adapters=2)
    route = Router(config).route([neighbour("ru", 0.3), neighbour("de", 0.1)], {"de", "en", "ru"})
    assert route.adapters == pytest.approx({"ru": 0.75, "de": 0.25})
    assert route.reason == "fallback"


def test_without_neighbours_all_weigh_the_same_or_the_backbone_runs() -> None:
    pool = {"zh", "de", "en", "ru"}
    mixture = Router(RoutingConfig(max_adapters=2)).route([], pool)
    assert mixture.adapters == {"de": 0.5, "en": 0.5}
    assert mixture.reason == "fallback"
    base = Router(RoutingConfig(fallback="base")).route([], pool)
    assert base.adapters == {}
    assert base.language is None
    assert base.reason == "fallback"


def test_the_caller_can_fix_the_language_and_still_sees_the_votes() -> None:
    route = Router().route([neighbour("de", 0.9)], {"de", "en"}, language="en")
    assert route.adapters == {"en": 1.0}
    assert route.votes == {"de": 1.0}
    assert route.reason == "fixed"


def test_an_unknown_language_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LanguageError, match=r"'xx'; choose one of: de, en"):
        Router().route([], {"en", "de"}, language="xx")
