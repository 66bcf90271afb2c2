"""The OpenAPI document: complete, valid, and what it says is what comes back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from serving_fakes import FakeModel, live

from retrieveall.config import parse_config
from retrieveall.serving.app import create_app
from retrieveall.serving.schema import EXAMPLE, EXAMPLE_ANSWER, ExtractRequest, ExtractResponse
from retrieveall.serving.settings import ServiceSettings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis writes the requests of this test")

TOKEN = "admin-of-the-test"
SETTINGS = parse_config(ServiceSettings, {"admin_token": TOKEN}, "test")
APP = create_app(FakeModel(), SETTINGS)


def test_the_examples_are_valid() -> None:
    ExtractRequest.model_validate(EXAMPLE)
    for text, result in zip(EXAMPLE["texts"], ExtractResponse.model_validate(EXAMPLE_ANSWER).results, strict=True):
        for entity in result.entities:
            assert text[entity.start : entity.end] == entity.text


def test_the_language_of_a_result_is_always_there() -> None:
    schemas = APP.openapi()["components"]["schemas"]
    assert "language" in schemas["Result"]["required"]


def test_every_route_is_described() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        document = APP.openapi()
    routes = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert len(routes) == 9
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert route["description"], (path, method)
            assert "401" in route["responses"], (path, method)


def test_it_is_served_and_loads_nothing_from_elsewhere(http: httpx.Client) -> None:
    assert http.get("/openapi.json").json()["info"]["title"] == "RetrieveAll"
    assert http.get("/docs").status_code == http.get("/redoc").status_code == 404


@schemathesis.serializer("application/x-tar")
def anything(context: Any, value: Any) -> bytes:
    """Whatever was generated, as bytes: no archive."""
    return value if isinstance(value, bytes) else repr(value).encode()


schema: Any = schemathesis.openapi.from_dict(APP.openapi())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a server that has the routes of ``APP``."""
    with live(FakeModel(), SETTINGS) as (url, _):
        yield url


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_generated_request_is_a_server_error(case: Any, address: str) -> None:
    """No 5xx, and answers as described; some of the requests of a route are valid, some break its description."""
    assert set(schema.config.generation.modes) == set(schemathesis.GenerationMode)
    answer = case.call(base_url=address, headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code < 500, answer.text
    case.validate_response(
        answer,
        checks=(
            schemathesis.checks.not_a_server_error,
            schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
        ),
    )
