"""Requests and responses. Entities, routes and knowledge are the types of ``retrieveall.types`` themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from retrieveall.config.faults import Place, first_fault
from retrieveall.types import LEVELS, Entity, Knowledge, Level, Prediction, Route

__all__ = [
    "EXAMPLE",
    "EXAMPLE_ANSWER",
    "Changed",
    "Detail",
    "ExtractRequest",
    "ExtractResponse",
    "Health",
    "Label",
    "Language",
    "Languages",
    "Limits",
    "ModelInfo",
    "Result",
    "StreamRequest",
    "StreamResult",
    "fault",
    "fields_of",
]

EXAMPLE: dict[str, Any] = {
    "texts": ["Angela Merkel wurde in Hamburg geboren.", "徳川家康は江戸に幕府を開いた。"],
    "labels": ["PER", "LOC"],
    "threshold": 0.5,
}
EXAMPLE_ANSWER: dict[str, Any] = {
    "results": [
        {
            "entities": [
                {"start": 0, "end": 13, "label": "PER", "text": "Angela Merkel", "score": 0.998},
                {"start": 23, "end": 30, "label": "LOC", "text": "Hamburg", "score": 0.957},
            ],
            "language": "de",
            "route": {"adapters": {"de": 1.0}, "votes": {"de": 0.99, "en": 0.01}, "reason": "vote"},
        },
        {
            "entities": [{"start": 0, "end": 4, "label": "PER", "text": "徳川家康", "score": 0.83}],
            "language": "ja",
            "route": {"adapters": {"ja": 1.0}, "votes": {"ja": 1.0}, "reason": "vote"},
        },
    ]
}
_Name = Annotated[str, Field(min_length=1, max_length=64)]


class ExtractRequest(BaseModel):
    """Texts and how to read them. Offsets in the answer count Unicode code points, end exclusive.

    Strict: ``"0.5"`` is no number and ``"yes"`` no truth value, as in ``RetrieveAll.predict``.
    """

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    texts: str | list[str] = Field(description="one text, or a list")
    language: _Name | list[_Name | None] | None = Field(
        default=None, description="one for all texts, or one (or null) per text; null: chosen by retrieval"
    )
    labels: list[_Name] | None = Field(
        default=None, max_length=512, description="return only entities with these labels; null: all"
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="return only entities with at least this probability; null: the model's own thresholds",
    )
    explain: bool = Field(default=False, description="also return what was retrieved, and the prompts")
    levels: list[Level] = Field(
        default=list(LEVELS), max_length=2, description="levels of knowledge in the prompt; leave one out to compare"
    )

    def listed(self) -> list[str]:
        return [self.texts] if isinstance(self.texts, str) else self.texts


class StreamRequest(ExtractRequest):
    """As ``ExtractRequest``; an item of the list that is no text is refused in its own line of the answer."""

    texts: str | list[Any] = Field(description="one text, or a list")


class Result(BaseModel):
    """One text. ``knowledge`` and ``prompts`` are returned with ``explain``."""

    entities: tuple[Entity, ...] = ()
    language: str | None = Field(
        description="the language with the largest adapter weight; null: no adapter ran, or the text is in no known one"
    )
    route: Route = Field(default_factory=Route)
    knowledge: Knowledge | None = None
    prompts: tuple[str, ...] | None = None

    @classmethod
    def of(cls, prediction: Prediction, explain: bool = False) -> Result:
        return cls.model_construct(**fields_of(prediction, explain))

    def written(self) -> dict[str, Any]:
        """The result in values of JSON: what has no value is left out, but for the language."""
        return {"language": self.language} | self.model_dump(mode="json", exclude_none=True)

    def to_prediction(self, text: str) -> Prediction:
        """The same as what ``RetrieveAll.predict`` returns; without ``explain``, its knowledge is empty."""
        return Prediction(text, self.entities, self.route, self.knowledge or Knowledge(), prompts=self.prompts or ())


class StreamResult(Result):
    """One line of a stream: ``index`` is the number of the text. A text without a result has an ``error``."""

    index: int
    error: str | None = None


class ExtractResponse(BaseModel):
    """One result per text, in order."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ANSWER]})

    results: list[Result]


class Detail(BaseModel):
    """An error: what was expected, what came, what to do."""

    detail: str


class Health(BaseModel):
    status: str


class Label(BaseModel):
    name: str
    definition: str = ""


class Limits(BaseModel):
    """What a request may contain."""

    texts: int
    stream_texts: int
    characters: int
    body_bytes: int
    seconds: float


class ModelInfo(BaseModel):
    name: str
    version: str = Field(description="of the package")
    decoder: str
    labels: list[Label]
    languages: list[str]
    threshold: float = Field(description="probability below which entities are left out, unless a request has its own")
    sentence_threshold: float = Field(
        description="a sentence whose surest entity has a lower probability has none, unless a request has a threshold"
    )
    limits: Limits


class Language(BaseModel):
    language: str
    adapter: bool = Field(description="whether it has an adapter")
    sentences: int = Field(description="sentences that can be retrieved")


class Languages(BaseModel):
    languages: list[Language]


class Changed(BaseModel):
    """A language was added or removed."""

    language: str
    languages: list[str] = Field(description="languages that the model now has")


def fields_of(prediction: Prediction, explain: bool) -> dict[str, Any]:
    """The fields of a result, without validation: they come from the model."""
    return {
        "entities": prediction.entities,
        "language": prediction.route.language,
        "route": prediction.route,
        "knowledge": prediction.knowledge if explain else None,
        "prompts": prediction.prompts if explain else None,
    }


def fault(errors: Sequence[ErrorDetails]) -> str:
    """The first fault of a body in one line, such as ``texts.0: expected a string, got an integer``.

    Values are not repeated, since they may hold what was to stay secret.
    """
    place, said = first_fault(errors, _place, show=False)
    where = ".".join(map(str, place))[:80]
    return f"{where}: {said}" if where else said


def _place(error: ErrorDetails) -> Place:
    # After the field, only numbers of items are of the body; names are those of pydantic for the types of a union.
    return (*error["loc"][:1], *(part for part in error["loc"][1:] if isinstance(part, int)))
