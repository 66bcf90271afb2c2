"""The adapter card: an adapter's language, labels, training data and scores. Plain data, no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retrieveall.errors import AdapterError
from retrieveall.storage import read_json, safe_join

__all__ = ["CARD_NAME", "AdapterCard"]

CARD_NAME = "adapter_card.json"


@dataclass(frozen=True)
class AdapterCard:
    """``adapter_card.json`` beside PEFT's own files.

    ``backbone_fingerprint`` is the fingerprint of the model that the adapter
    was trained on. ``data`` holds counts (sentences, entities) and the checksum of the training data, and those of
    the run and the model that a complete run is known by, ``scores`` what was measured, ``calibration`` the numbers of
    a ``Calibration``, ``created`` an ISO 8601 time.
    """

    language: str
    labels: tuple[str, ...]
    template: str
    backbone_fingerprint: str
    rank: int
    alpha: float
    created: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    calibration: tuple[float, ...] = (1.0, 0.0)

    @classmethod
    def load(cls, folder: Path) -> AdapterCard:
        """Read the card of an adapter folder.

        Raises:
            ModelFolderError: there is none, or it is no JSON.
            AdapterError: a field is missing, unknown or of the wrong type.
        """
        path = safe_join(folder, CARD_NAME)
        raw = read_json(path)
        wrong = [name for name in raw if name not in _KINDS]
        wrong += [name for name, value in raw.items() if not isinstance(value, _KINDS.get(name, object))]
        wrong += [name for name in _REQUIRED if name not in raw]
        if wrong:
            raise AdapterError(f"{path}: field {wrong[0][:80]!r} is missing, unknown or of a wrong type; write it anew")
        calibration = raw.get("calibration", [1.0, 0.0])
        # Slope and intercept; cards of some versions have that of the length, later ones three more.
        if len(calibration) not in (2, 3, 6) or not all(
            isinstance(x, int | float) and abs(x) < 1e3 for x in calibration
        ):
            raise AdapterError(f"{path}: field 'calibration' is not two, three or six numbers; write it anew")
        known = {"labels": tuple(map(str, raw["labels"])), "alpha": float(raw["alpha"])}
        return cls(**{**raw, **known, "calibration": tuple(map(float, calibration))})

    def to_bytes(self) -> bytes:
        """The text of ``adapter_card.json``."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()


_KINDS: dict[str, type | tuple[type, ...]] = {
    "language": str,
    "labels": list,
    "template": str,
    "backbone_fingerprint": str,
    "rank": int,
    "alpha": (float, int),
    "created": str,
    "data": dict,
    "scores": dict,
    "calibration": list,
}
_REQUIRED = ("language", "labels", "template", "backbone_fingerprint", "rank", "alpha")
