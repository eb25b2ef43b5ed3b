"""What Prometheus is told: counts and durations, never what is in a video or a caption."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import require_extra

if TYPE_CHECKING:
    from egoinstructor.web.service import Service

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one server, in a registry of their own.

    Args:
        service: whose queue, uploads, decoders and narrations are told.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """

    def __init__(self, service: Service) -> None:
        require_extra("prometheus_client", "web", "The metrics")
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "egoinstructor_requests", "Requests that were answered.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "egoinstructor_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._received = Counter("egoinstructor_received_bytes", "Bytes of requests' bodies.", registry=registry)
        batches = Histogram("egoinstructor_batch_size", "Clips captioned at once.", buckets=SIZES, registry=registry)
        service.batch_sizes.append(batches.observe)
        present = Gauge("egoinstructor_requests_present", "Requests that wait or are at work.", registry=registry)
        present.set_function(lambda: service.present)
        waiting = Gauge("egoinstructor_queue_length", "Requests that wait for the model.", registry=registry)
        waiting.set_function(lambda: service.waiting)
        registry.register(_Counts(service))

    def answered(self, route: str, status: int, seconds: float, received: int) -> None:
        """Count a request.

        Args:
            route: as it is declared, so that there are few.
            status: HTTP's.
            seconds: it took.
            received: bytes of its body.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._received.inc(received)

    def text(self) -> tuple[bytes, str]:
        """All of them, and the type of that text."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Counts:
    """What others count themselves."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Any]:
        """As Prometheus asks for it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        decoded = CounterMetricFamily(
            "egoinstructor_decodes", "What the decoding processes answered, or how they ended.", labels=["result"]
        )
        for result, count in self._service.sandbox.stats().items():
            decoded.add_metric([result], count)
        yield decoded
        kept = self._service.uploads.stats()
        yield GaugeMetricFamily("egoinstructor_uploads", "Videos that are kept.", value=kept["videos"])
        yield GaugeMetricFamily("egoinstructor_uploads_bytes", "Of the videos that are kept.", value=kept["bytes"])
        jobs = GaugeMetricFamily("egoinstructor_narrations", "Narrations by their state.", labels=["state"])
        for state, count in self._service.job_counts().items():
            jobs.add_metric([state], count)
        yield jobs
