"""The section on the server: one image, many images, and load, over HTTP on this machine."""

import asyncio
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

from benchmarks.options import Options
from benchmarks.process import ROOT, WorkerError, call, command, environment, progress
from benchmarks.report import Table, by, spread
from benchmarks.section import Measurements

#: Clients at a time, each with a connection of its own.
CLIENTS = 100
#: Seconds of each load, and requests of one client after the other.
SECONDS, REQUESTS = 60.0, 300
#: Images per request that are tried.
BATCHES = (1, 4, 16, 32)
#: Requests per second of each client in the open loop: of somebody who draws, and sees the answer change.
RATE = 1.0


class Load(NamedTuple):
    """The seconds of the requests that were answered, the number of those that failed, and the seconds of it all."""

    times: list[float]
    failed: int
    seconds: float

    def summary(self) -> dict[str, float]:
        """Return medians, 99th percentiles in milliseconds, and the rate."""
        cuts = quantiles(self.times, n=100, method="inclusive") if len(self.times) > 1 else [*self.times] * 99
        rate = len(self.times) / self.seconds
        return {"p50": 1000 * cuts[49], "p99": 1000 * cuts[98], "rate": rate, "failed": self.failed}


def measure_serve(options: Options) -> Measurements:
    """Serve each model and send requests: one by one, in batches, and from many clients."""
    measurements: Measurements = []
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as folder:
        for model in options.models or [_train(options, folder)]:
            for repeat in range(options.repeats):
                with _served(model) as port:
                    result = call("serve.load", port=port, **_amount(options))
                progress(f"{model}: {result['one']['p50']:.1f} ms, {result['closed']['rate']:,.0f} requests/s")
                name = Path(model).name if options.models else "CNN, eager"
                measurements.append({"model": name, "repeat": repeat, **result})
    return measurements


def serve_table(measurements: Measurements) -> Table:
    """One row per model."""
    rows = []
    for name, runs in by(measurements, "model").items():
        values = [(load, value) for load in ("one", "closed", "open") for value in ("p50", "p99")]
        columns = [spread([run[load][value] for run in runs], 1) for load, value in values]
        best = max(runs[0]["batches"], key=lambda size: float(runs[0]["batches"][size]))
        images = spread([run["batches"][best] for run in runs], 0)
        rates = spread([run["closed"]["rate"] for run in runs], 0)
        failed = sum(int(run[load]["failed"]) for run in runs for load in ("closed", "open"))
        rows.append([name, *columns[:2], f"{images} (in batches of {best})", rates, *columns[2:], str(failed)])
    closed = f"{CLIENTS} clients, closed loop"
    loads = ("one client", closed, f"{CLIENTS} clients, open loop")
    times = [f"{load}: {value} ms" for load in loads for value in ("p50", "p99")]
    return Table(
        ["model", *times[:2], "images/s", f"{closed}: requests/s", *times[2:], "failed"],
        rows,
        "PNG files of 28×28 pixels as forms, from clients on the same machine, which share its cores with the server.\n"
        "Closed loop: each client sends when it is answered, as fast as the machine can. Open loop: each client sends "
        f"{RATE:g}\na second at random times, answered or not; its time begins when it should have been sent.",
    )


def _train(options: Options, folder: str) -> str:
    """Return the run of a network that was trained for a step: its weights do not change its speed."""
    flags = {
        "--config": Path(ROOT) / "configs" / "mnist" / "cnn.yaml",
        "--data.data_dir": options.data_dir,
        "--data.allow_sample": str(options.allow_sample).lower(),
        "--data.val_size": 100,
        "--trainer.max_steps": 1,
        "--trainer.precision": "32-true",
        "--trainer.default_root_dir": folder,
        "--plots.enabled": "false",
        "--dashboard.enabled": "false",
    }
    command("fit", *(str(part) for flag in flags.items() for part in flag))
    return str(next(Path(folder).glob("*/version_0")))


def _amount(options: Options) -> dict[str, float]:
    if options.limit_batches is None:
        return {"seconds": SECONDS, "requests": REQUESTS}
    return {"seconds": min(SECONDS, 0.1 * options.limit_batches), "requests": options.limit_batches}


@contextmanager
def _served(model: str) -> Iterator[int]:
    """Serve a model in a process of its own and yield the port."""
    arguments = ["-P", "-m", "lightning_cnn", "serve", model, "--port", "0"]
    command = [sys.executable, *arguments]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment())
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    yield int(found[1])
                    break
            else:
                log.seek(0)
                raise WorkerError(f"lightning-cnn serve {model}: {log.read().strip()}")
        finally:
            process.terminate()
            process.communicate()


def load(port: int, seconds: float, requests: int) -> dict[str, Any]:
    """Send requests to a server on this machine and return how long the answers take.

    Args:
        port: Its port.
        seconds: Those of the closed and of the open loop.
        requests: How many one client sends, in each size of batch.
    """
    one = _request([_digit()])
    result: dict[str, Any] = {"batches": {}}
    for size in BATCHES:
        run = asyncio.run(_closed(port, _request([_digit()] * size), 1, requests=max(1, requests // size)))
        result["batches"][size] = size * run.summary()["rate"]
        result.setdefault("one", run.summary())
    result["closed"] = asyncio.run(_closed(port, one, CLIENTS, seconds=seconds)).summary()
    result["open"] = asyncio.run(_open(port, one, CLIENTS * RATE, seconds)).summary()
    return result


def _digit() -> bytes:
    """Return a test image of MNIST as a PNG file."""
    from PIL import Image

    from lightning_cnn.data import sources
    from lightning_cnn.data.mnist import MNIST

    file = io.BytesIO()
    Image.fromarray(sources.load_sample(MNIST).test_images[0]).save(file, "PNG")
    return file.getvalue()


def _request(files: list[bytes]) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
    body = b"".join(part + file + b"\r\n" for file in files) + b"--x--\r\n"
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Client:
    """A connection that is kept, and opened again when the server closes it."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> bool:
        """Send the request and return whether it was answered with predictions."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            return head.startswith(b"HTTP/1.1 200 ") and bool(json.loads(body)["predictions"])
        except (OSError, EOFError):
            await self.close()
            return False

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _closed(port: int, request: bytes, clients: int, seconds: float = 0.0, requests: int = 0) -> Load:
    """Let each client send a request when its last one is answered."""
    times: list[float] = []
    failed = 0
    started = time.perf_counter()

    async def run() -> None:
        nonlocal failed
        client, sent = _Client(port, request), 0
        while sent < requests or time.perf_counter() - started < seconds:
            before = time.perf_counter()
            if await client.ask():
                times.append(time.perf_counter() - before)
            else:
                failed += 1
            sent += 1
        await client.close()

    await asyncio.gather(*(run() for _ in range(clients)))
    return Load(times, failed, time.perf_counter() - started)


async def _open(port: int, request: bytes, rate: float, seconds: float) -> Load:
    """Send requests at random times, whether or not earlier ones are answered; of `CLIENTS` connections, a free one."""
    rng = random.Random(0)
    times: list[float] = []
    failed = 0
    free: asyncio.Queue[_Client] = asyncio.Queue()
    for _ in range(CLIENTS):
        free.put_nowait(_Client(port, request))
    started = time.perf_counter()

    async def ask(due: float) -> None:
        nonlocal failed
        client = await free.get()
        if await client.ask():
            times.append(time.perf_counter() - due)
        else:
            failed += 1
        free.put_nowait(client)

    tasks = []
    due = started
    while (due := due + rng.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*tasks)
    taken = time.perf_counter() - started
    while not free.empty():
        await free.get_nowait().close()
    return Load(times, failed, taken)
