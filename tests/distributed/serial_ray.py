"""A stand-in for Ray that runs everything in this process, one block after the other: what runs without the library."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class _Dataset:
    """Rows, and functions over batches of one row."""

    def __init__(self, rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
        self._rows = rows
        self.context = SimpleNamespace(execution_options=SimpleNamespace())

    def map_batches(self, function: Any, *, fn_constructor_args: Sequence[Any] = (), **options: Any) -> _Dataset:
        def rows() -> Iterator[dict[str, Any]]:
            call = function(*fn_constructor_args) if isinstance(function, type) else function
            for row in self._rows():
                made = call({key: [value] for key, value in row.items()})
                for batch in [made] if isinstance(made, Mapping) else made:
                    yield from (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))

        return _Dataset(rows)

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        return self._rows()


def use_serial_ray(patch: pytest.MonkeyPatch) -> None:
    """``import ray`` and ``import ray.data`` give the stand-in."""
    ray, data = ModuleType("ray"), ModuleType("ray.data")
    vars(data).update(
        from_items=lambda items: _Dataset(lambda: iter(items)), TaskPoolStrategy=dict, ActorPoolStrategy=dict
    )
    vars(ray).update(
        data=data,
        is_initialized=lambda: True,
        cluster_resources=lambda: {"CPU": 2.0},
        exceptions=SimpleNamespace(RayError=type("RayError", (Exception,), {})),
    )
    patch.setitem(sys.modules, "ray", ray)
    patch.setitem(sys.modules, "ray.data", data)
