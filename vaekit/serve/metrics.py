"""What a service counts, for Prometheus."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_TOGETHER = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one service.

    Args:
        models: gives the models: name, requests that wait, drift by column.
    """

    def __init__(self, models: Callable[[], Iterable[tuple[str, int, dict[str, float]]]]) -> None:
        self.registry = CollectorRegistry()
        about: dict[str, Any] = {"registry": self.registry}
        which = ("model", "question")
        self.requests = Counter("vaekit_requests", "Requests by status.", (*which, "status"), **about)
        self.seconds = Histogram("vaekit_request_seconds", "From head to answer.", which, buckets=_SECONDS, **about)
        self.rows = Counter("vaekit_rows", "Rows that were answered.", which, **about)
        self.doubtful = Counter("vaekit_doubtful_rows", "Answers without a number to be believed.", which, **about)
        self.together = Histogram(
            "vaekit_pass_requests", "Requests that shared a pass.", ("model",), buckets=_TOGETHER, **about
        )
        self.watched = Counter("vaekit_watched_rows", "Rows held against the training rows.", ("model",), **about)
        self.strange = Counter("vaekit_strange_rows", "Rows strange to the training rows.", ("model",), **about)
        self.reloads = Counter("vaekit_reloads", "Weights read anew.", ("model", "outcome"), **about)
        self.failures = Counter("vaekit_failures", "Errors of the service itself.", ("model",), **about)
        self.start = Gauge("vaekit_start_seconds", "From the start of the process to the first answer.", **about)
        self.registry.register(_OfModels(models))
        ProcessCollector(registry=self.registry)

    def asked(self, model: str, question: str, status: int, started: float) -> None:
        """A request was answered or refused; `started` is by `time.perf_counter`."""
        self.requests.labels(model, question, str(status)).inc()
        self.seconds.labels(model, question).observe(time.perf_counter() - started)

    def answered(self, model: str, question: str, num_rows: int, num_doubtful: int) -> None:
        """Rows were answered."""
        self.rows.labels(model, question).inc(num_rows)
        if num_doubtful:
            self.doubtful.labels(model, question).inc(num_doubtful)

    def text(self) -> bytes:
        """All of it, in the format of Prometheus."""
        return generate_latest(self.registry)


class _OfModels:
    """Gauges that are computed when they are asked for."""

    def __init__(self, models: Callable[[], Iterable[tuple[str, int, dict[str, float]]]]) -> None:
        self._models = models

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        waiting = GaugeMetricFamily("vaekit_waiting_requests", "Requests that wait for a model.", labels=("model",))
        drift = GaugeMetricFamily(
            "vaekit_drift",
            "Largest difference of shares between the last 1,000 rows and the training rows, 0 to 1.",
            labels=("model", "column"),
        )
        for name, num_waiting, columns in self._models():
            waiting.add_metric((name,), num_waiting)
            for column, size in columns.items():
                drift.add_metric((name, column), size)
        yield from (waiting, drift)
