"""What a server counts, for Prometheus; right for all of its processes together, whichever of them is asked."""

import os
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightning_cnn.serve.messages import Prediction
from lightning_cnn.serve.settings import METRICS_VARIABLE

#: The paths that are told apart: others are any text.
_PATHS = ("/", "/predict", "/health", "/info", "/metrics", "/docs", "/openapi.json")
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The metrics of a process.

    Attributes:
        requests: Requests by method, path and status.
        seconds: Seconds of requests by path.
        in_progress: Requests that are not answered.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        name = "lightning_cnn_{}".format
        self.requests = Counter(name("requests"), "Requests", ["method", "path", "status"], registry=self._registry)
        self.seconds = Histogram(
            name("request_seconds"), "Seconds per request", ["path"], buckets=_SECONDS, registry=self._registry
        )
        self.in_progress = Gauge(
            name("requests_in_progress"),
            "Requests that are not answered",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._predictions = Counter(
            name("predictions"), "Images by model and class", ["model", "label"], registry=self._registry
        )
        self._unclear = Counter(
            name("unclear"), "Images whose answer may be wrong", ["model", "reason"], registry=self._registry
        )
        forget_ended_processes()

    def predicted(self, model: str, predictions: list[Prediction]) -> None:
        """Count predictions."""
        for prediction in predictions:
            self._predictions.labels(model, prediction.label).inc()
            if prediction.unclear:
                self._unclear.labels(model, prediction.unclear).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        registry = self._registry
        if METRICS_VARIABLE in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget_ended_processes() -> None:
    """Forget the requests in progress of processes that were killed; one is started in the place of each."""
    for file in Path(os.environ.get(METRICS_VARIABLE, os.devnull)).glob("gauge_live*_*.db"):
        number = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{number}").exists() and Path("/proc/self").exists():
            with suppress(FileNotFoundError):  # another process was faster
                multiprocess.mark_process_dead(number)  # type: ignore[no-untyped-call]


class CountRequests:
    """Counts all requests of an application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # of an exception

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        path = scope["path"] if scope["path"] in _PATHS else "other"
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        with self._metrics.in_progress.track_inprogress(), self._metrics.seconds.labels(path).time():
            try:
                await self._app(scope, receive, counting)
            finally:
                self._metrics.requests.labels(method, path, str(status)).inc()
