"""What ``/metrics`` shows, in Prometheus' text format. No text, no key and no address is among it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from retrieveall.serving.batching import Answer
from retrieveall.types import Prediction

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._histogram("request_seconds", "time to answer", _SECONDS, ["route", "status"])
        self._batches = self._histogram("batch_texts", "texts computed together", _TEXTS)
        self._adapters = self._histogram("batch_adapters", "different adapters in a batch", _TEXTS)
        self._computing = self._histogram("batch_seconds", "time to compute a batch", _SECONDS)
        self._texts = self._counter("texts", "texts computed, by the language of their adapter", ["language"])
        self._failures = self._counter("failed_texts", "texts without a result")
        self._cancelled = self._counter("cancelled_requests", "requests whose client left before the answer")

    def _histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        return Histogram(f"retrieveall_{name}", text, labels, buckets=buckets, registry=self._registry)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"retrieveall_{name}", text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A number that is read when it is asked for."""
        Gauge(f"retrieveall_{name}", text, registry=self._registry).set_function(read)

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).observe(seconds)

    def cancelled(self) -> None:
        self._cancelled.inc()

    def batch(self, answers: Sequence[Answer], seconds: float) -> None:
        if not answers:
            return
        self._batches.observe(len(answers))
        self._computing.observe(seconds)
        found = [answer for answer in answers if isinstance(answer, Prediction)]
        self._adapters.observe(len({name for each in found for name in each.route.adapters}))
        self._failures.inc(len(answers) - len(found))
        for each in found:
            self._texts.labels(each.route.language or "none").inc()

    def render(self) -> bytes:
        return bytes(generate_latest(self._registry))
