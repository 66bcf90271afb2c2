"""Values of tables as JSON, which has no number for "not a number" and infinity, and no bytes."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

__all__ = ["PlainValues"]


class PlainValues:
    """Writes values, and counts those that JSON cannot hold: ``numbers`` become null, ``binary`` ones Base64."""

    def __init__(self) -> None:
        self.numbers = 0
        self.binary = 0

    def json(self, value: Any, *, ascii: bool = False) -> str:
        """The JSON text of a value; dates and the like become strings."""
        binary = self.binary
        try:
            return json.dumps(value, ensure_ascii=ascii, allow_nan=False, default=self._other)
        except ValueError:  # a number that is none; the usual case is not walked through
            self.binary = binary
        return json.dumps(self._without_numbers(value), ensure_ascii=ascii, allow_nan=False, default=self._other)

    def cell(self, value: Any) -> Any:
        """A value as the cell of a table: empty for null and for a number that is none."""
        if value is None:
            return ""
        if isinstance(value, float):
            value = self._without_numbers(value)
            return "" if value is None else value
        if isinstance(value, bytes | bytearray | memoryview):
            return self._other(value)
        if isinstance(value, dict | list | tuple | bool):
            value = self.json(value)
        # A lone surrogate, which JSON can hold, cannot be written.
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

    def notes(self) -> list[str]:
        """A line for each kind of value that was changed."""
        found = []
        if self.numbers:
            verb = "is" if self.numbers == 1 else "are"
            found.append(
                f"note: {self.numbers:,} value{'s' * (self.numbers != 1)} of the input that {verb} not a number or "
                f"infinite {verb} written as null in JSON, as an empty cell in a table"
            )
        if self.binary:
            verb = "is" if self.binary == 1 else "are"
            found.append(f"note: {self.binary:,} binary value{'s' * (self.binary != 1)} of the input {verb} in Base64")
        return found

    def state(self) -> dict[str, int]:
        """The counts, for ``restore``."""
        return {"numbers": self.numbers, "binary": self.binary}

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on with the counts of another one; a run of an older version has none."""
        self.numbers, self.binary = state.get("numbers", 0), state.get("binary", 0)

    def _without_numbers(self, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            self.numbers += 1
            return None
        if isinstance(value, dict):
            return {key: self._without_numbers(each) for key, each in value.items()}
        return [self._without_numbers(each) for each in value] if isinstance(value, list | tuple) else value

    def _other(self, value: Any) -> str:
        if isinstance(value, bytes | bytearray | memoryview):
            self.binary += 1
            return b64encode(value).decode("ascii")
        return str(value)
