"""The routes. What they do with texts is in ``service.py``; keys and limits of bodies are in ``gate.py``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from retrieveall.config import check_language
from retrieveall.errors import InputError, LanguageError, RetrieveAllError
from retrieveall.serving.batching import Closing, Overloaded
from retrieveall.serving.changes import Exists, Missing
from retrieveall.serving.gate import Gate, bearer, same_secret
from retrieveall.serving.metrics import CONTENT_TYPE, Metrics
from retrieveall.serving.schema import (
    Changed,
    Detail,
    ExtractRequest,
    ExtractResponse,
    Health,
    Languages,
    ModelInfo,
    StreamRequest,
    StreamResult,
    fault,
)
from retrieveall.serving.service import ClientLeft, EngineDown, Service, TimedOut, TooMuch
from retrieveall.serving.settings import ADMIN_VARIABLE, ServiceSettings

__all__ = ["create_app"]

B = TypeVar("B", bound=BaseModel)
_NDJSON = "application/x-ndjson"
_ERRORS = {
    400: "not JSON, or an unknown host",
    401: "no API key, or a wrong one",
    403: "changes are off",
    404: "the model lacks this language",
    408: "the request was not sent in time",
    409: "the model has this language",
    413: "too large, too many texts, or a text that is too long",
    415: "another content type",
    422: "a missing or unknown field, a wrong type, an unknown language or label",
    429: "the queue is full; Retry-After says when to repeat",
    502: "the engine failed",
    503: "shutting down, or not done in time; repeat",
}
_PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "app.js": ("app.js", "text/javascript; charset=utf-8"),
    "render.js": ("render.js", "text/javascript; charset=utf-8"),
}
_EXPLAIN = "Named entities of texts in the languages of the model. Offsets count Unicode code points, end exclusive."


def create_app(model: Any, settings: ServiceSettings | None = None) -> FastAPI:
    """The application for a loaded model: a ``RetrieveAll``, or what has its methods."""
    settings = settings or ServiceSettings()
    service = Service(model, settings, Metrics())

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        logging.getLogger("uvicorn.access").disabled = True  # it writes query strings
        service.start()
        yield
        service.stop()

    from retrieveall import __version__

    app = FastAPI(
        title="RetrieveAll",
        version=__version__,
        description=_EXPLAIN,
        lifespan=running,
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    _add_routes(app)
    _add_handlers(app)
    app.add_middleware(_Outermost, service=service)
    return app


class _Outermost(Gate):
    """The gate, which counts the open requests of its service."""

    def __init__(self, app: Any, service: Service) -> None:
        super().__init__(app, service.settings, service.metrics, lambda: service.closing)
        service.active_requests = lambda: self.active


async def _service(request: Request) -> Service:
    # Not a plain function, which FastAPI would call in a pool of up to 40 threads, each with memory of its own.
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(_service)]


async def _read(request: Request, kind: type[B]) -> B:
    """The body as ``kind``; its values are not repeated in errors.

    Raises:
        HTTPException: not JSON, another content type, not as the schema says, or the client left.
    """
    content = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content != "application/json":
        raise HTTPException(415, "expected Content-Type: application/json")
    try:
        return kind.model_validate_json(await request.body())
    except ClientDisconnect:
        raise HTTPException(400, "expected the whole body, the client left") from None
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise HTTPException(400 if errors[0]["type"] == "json_invalid" else 422, fault(errors)) from None


async def extract_request(request: Request, service: Served) -> ExtractRequest:
    service.batcher.check()  # before anything is read
    return await _read(request, StreamRequest if _is_streamed(request) else ExtractRequest)


def _is_streamed(request: Request) -> bool:
    return request.url.path.endswith("/stream") or _NDJSON in request.headers.get("accept", "")


Asked = Annotated[ExtractRequest, Depends(extract_request)]
_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": ExtractRequest.model_json_schema()}}}
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": Detail, "description": _ERRORS[status]} for status in (400, 401, *statuses)
    }
    if 429 in found:
        found[429]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return found


def _admin(request: Request, service: Served) -> None:
    token = service.settings.admin_token
    if token is None:
        raise HTTPException(403, f"changes are off; start the server with {ADMIN_VARIABLE} in its environment")
    given = request.headers.get("authorization", "").encode("latin-1", "replace")
    if not same_secret(bearer(given), token.get_secret_value()):
        raise HTTPException(401, "expected the admin token as 'Authorization: Bearer TOKEN'")


def _add_routes(app: FastAPI) -> None:
    texts = _errors(408, 413, 415, 422, 429, 502, 503)
    app.add_api_route(
        "/v1/extract",
        extract,
        methods=["POST"],
        response_model=ExtractResponse,
        responses=texts,
        openapi_extra=_BODY,
        tags=["texts"],
    )
    line = {_NDJSON: {"schema": StreamResult.model_json_schema(ref_template="#/components/schemas/{model}")}}
    texts_streamed = texts | {200: {"content": line, "description": "one line a text"}}
    app.add_api_route(
        "/v1/extract/stream",
        extract_stream,
        methods=["POST"],
        response_class=StreamingResponse,
        responses=texts_streamed,
        openapi_extra=_BODY,
        tags=["texts"],
    )
    app.add_api_route("/v1/model", model_info, response_model=ModelInfo, responses=_errors(503), tags=["model"])
    app.add_api_route("/v1/languages", languages, response_model=Languages, responses=_errors(503), tags=["model"])
    changes = _errors(403, 404, 408, 409, 413, 422, 503)
    app.add_api_route(
        "/v1/languages/{language}",
        put_language,
        methods=["PUT"],
        response_model=Changed,
        responses=changes,
        openapi_extra={"requestBody": {"required": True, "content": {"application/x-tar": {"schema": {}}}}},
        tags=["model"],
    )
    app.add_api_route(
        "/v1/languages/{language}",
        delete_language,
        methods=["DELETE"],
        response_model=Changed,
        responses=changes,
        tags=["model"],
    )
    app.add_api_route("/healthz", health, response_model=Health, responses=_errors(), tags=["operation"])
    app.add_api_route("/readyz", ready, response_model=Health, responses=_errors(503), tags=["operation"])
    app.add_api_route("/metrics", metrics, response_class=Response, responses=_errors(), tags=["operation"])
    for name in _PAGE:
        app.add_api_route(f"/{name}", page, methods=["GET"], include_in_schema=False)


# -- texts --------------------------------------------------------------------------------------------------------


async def extract(request: Request, asked: Asked, service: Served) -> Response:
    """The entities of one or many texts. With ``Accept: application/x-ndjson``, as a stream."""
    if _is_streamed(request):
        return await extract_stream(request, asked, service)
    results = await service.extract(asked, request.receive)
    return Response(to_json({"results": [each.written() for each in results]}), media_type="application/json")


async def extract_stream(request: Request, asked: Asked, service: Served) -> Response:
    """The same for long lists: one line of JSON per text, in order, as soon as it is computed.

    A text that is too long, an item of the list that is no text, or a text on which the engine failed has an ``error``
    in its line; the others are answered. A body that is not as described otherwise is refused as a whole, before any is
    computed.
    """
    return StreamingResponse(await service.stream(asked), media_type=_NDJSON)


# -- model --------------------------------------------------------------------------------------------------------


async def model_info(service: Served) -> ModelInfo:
    """Name, labels, languages and limits."""
    return service.info()


async def languages(service: Served) -> Languages:
    """The languages that the model has now."""
    return service.languages()


async def put_language(language: str, request: Request, service: Served) -> Changed:
    """Add a language while requests run.

    The body is a tar archive, plain or gzipped, with ``adapters/LANGUAGE/`` and ``knowledge/LANGUAGE/`` as in a model
    folder; the knowledge may be left out. Needs the admin token.
    """
    _admin(request, service)
    try:
        return await service.add_language(check_language(language), request.stream())
    except ClientDisconnect:
        raise HTTPException(400, "expected the whole archive, the client left") from None


async def delete_language(language: str, request: Request, service: Served) -> Changed:
    """Remove a language while requests run. Needs the admin token."""
    _admin(request, service)
    return await service.remove_language(check_language(language))


# -- operation ----------------------------------------------------------------------------------------------------


async def health() -> Health:
    """The process runs."""
    return Health(status="ok")


async def ready(service: Served) -> Any:
    """The service takes requests."""
    if service.closing or not service.batcher.alive:
        return _detail(503, "shutting down" if service.closing else "the worker stopped; start the server again")
    return Health(status="ok")


async def metrics(service: Served) -> Response:
    """Counters for Prometheus."""
    return Response(service.metrics.render(), media_type=CONTENT_TYPE)


async def page(request: Request) -> Response:
    """A file of the playground."""
    name, kind = _PAGE[request.url.path.removeprefix("/")]
    return Response((resources.files("retrieveall.serving") / "page" / name).read_bytes(), media_type=kind)


# -- errors -------------------------------------------------------------------------------------------------------


def _add_handlers(app: FastAPI) -> None:
    def handler(status: int) -> Any:
        async def answer(request: Request, error: Exception) -> Response:
            return _detail(status, str(error))

        return answer

    async def overloaded(request: Request, error: Exception) -> Response:
        assert isinstance(error, Overloaded)
        return _detail(429, str(error), retry_after=error.retry_after)

    async def again(request: Request, error: Exception) -> Response:
        text = "the server is shutting down; repeat the request elsewhere"
        return _detail(503, str(error) if isinstance(error, TimedOut) else text, retry_after=2)

    async def left(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it

    kinds: list[tuple[type[Exception], Any]] = [
        (TooMuch, handler(413)),
        (Exists, handler(409)),
        (Missing, handler(404)),
        (InputError, handler(422)),
        (LanguageError, handler(422)),
        (EngineDown, handler(502)),
        (RetrieveAllError, handler(422)),
        (Overloaded, overloaded),
        (Closing, again),
        (TimedOut, again),
        (ClientLeft, left),
    ]
    for kind, answer in kinds:
        app.add_exception_handler(kind, answer)


def _detail(status: int, text: str, retry_after: int | None = None) -> Response:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return JSONResponse({"detail": " ".join(text.split())}, status, headers)
