"""Concurrent processes: some fetch a dataset, and are killed; others create run folders, or replace a file.

The dataset must be complete and be fetched once, each run must have its own folder, the file must always have one of
the written contents, and no temporary file may remain.
"""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random
from select import select

from chaos.common import Outcome
from idx import write_idx_dataset
from web import Server, serve

from lightning_cnn.data.facts import FILES, DatasetFacts
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.sources import raw_folder

Process = subprocess.Popen[str]

#: Processes that create run folders or replace files, and how often each does so in a try.
WORKERS, TIMES = 4, 5

#: `lightning-cnn data fetch mnist`, with other checksums and another mirror, started by a line on stdin.
FETCH = """
import dataclasses, json, sys
from lightning_cnn import cli
from lightning_cnn.commands import data
data.DATASETS["mnist"] = dataclasses.replace(data.MNIST, sha256=json.loads(sys.argv[1]), mirrors=(sys.argv[2],))
print("ready", flush=True)
sys.stdin.readline()
sys.argv[1:] = ["data", "fetch", "mnist", "--data_dir", sys.argv[3]]
cli.run()
"""
#: Forks processes, to import torch once; each creates run folders in a root, or replaces a file.
WORK = """
import json, sys
from multiprocessing import get_context
from pathlib import Path
from lightning_cnn.files import atomic_write
from lightning_cnn.startup import quick_imports
with quick_imports():
    from lightning_cnn.run import Run

def work(job):
    barrier.wait()
    made = []
    for _ in range(job["times"]):
        if "root" in job:
            made.append(str(Run.create(Path(job["root"]), "a-run").folder))
        else:
            with atomic_write(Path(job["path"])) as part:
                part.write_text(job["content"])
    return made

workers = int(sys.argv[1])
barrier = get_context("fork").Barrier(workers)
with get_context("fork").Pool(workers) as pool:
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(pool.map(work, json.loads(line), chunksize=1)), flush=True)
"""


@dataclass(frozen=True)
class Dataset:
    """A tiny dataset on a server: its facts, and the content of its files."""

    facts: DatasetFacts
    files: dict[str, bytes]
    server: Server


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Let processes fetch, create folders and replace a file concurrently, in turn."""
    rng = Random(seed)
    facts = write_idx_dataset(folder / "served", MNIST)
    files = {file: (raw_folder(facts, folder / "served") / file).read_bytes() for file in FILES}
    lost = []
    with serve(_slowly(files)) as server, _workers() as workers:
        dataset = Dataset(facts, files, server)
        for number in range(tries):
            place = folder / str(number)
            place.mkdir()
            match number % 3:
                case 0:
                    what, wrong = _fetch(dataset, place, rng)
                case 1:
                    what, wrong = "run folders", _make_runs(workers, place)
                case _:
                    what, wrong = "one file replaced", _replace(workers, place, rng)
            if wrong:
                lost.append(f"seed {seed}, try {number}, {what}: {wrong}")
    return Outcome("concurrent processes", tries, lost)


# Fetching


def _slowly(files: dict[str, bytes]) -> Callable[[BaseHTTPRequestHandler, Server], None]:
    """Serve files gzipped, each in pieces and with pauses, so that signals arrive at any stage."""
    packed = {f"/{file}.gz": gzip.compress(content, 1) for file, content in files.items()}

    def behave(handler: BaseHTTPRequestHandler, server: Server) -> None:
        content = packed[handler.path]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        step = -(-len(content) // 4)
        for start in range(0, len(content), step):
            handler.wfile.write(content[start : start + step])
            time.sleep(0.01)

    return behave


def _fetch(dataset: Dataset, place: Path, rng: Random) -> tuple[str, str]:
    """Fetch with some processes, and kill up to all but one; return what was done, and what is wrong."""
    dataset.server.requests.clear()
    arguments = (json.dumps(dataset.facts.sha256), dataset.server.address, str(place))
    processes = _started([_start(FETCH, *arguments) for _ in range(rng.randint(2, 4))])
    kills = [rng.choice([signal.SIGKILL, signal.SIGTERM]) for _ in range(rng.choice([0, 1, len(processes) - 1]))]
    moments = sorted(rng.uniform(0, 0.3) for _ in kills)
    for process in processes:
        _tell(process, "go")
    start = time.monotonic()
    for process, moment, kill in zip(processes, moments, kills, strict=False):
        time.sleep(max(0.0, start + moment - time.monotonic()))
        process.send_signal(kill)
    outputs = [process.communicate(timeout=60) for process in processes]
    ends = zip(processes, [*kills, *[None] * (len(processes) - len(kills))], outputs, strict=True)
    wrong = [*(_wrong_end(*end) for end in ends), _wrong_files(dataset, place), _wrong_requests(dataset, len(kills))]
    signals = [f"{kill.name} after {moment:.3f} s" for kill, moment in zip(kills, moments, strict=True)]
    return f"{len(processes)} fetch, {', '.join(signals) or 'none killed'}", "; ".join(filter(None, wrong))


def _wrong_end(process: Process, kill: signal.Signals | None, output: tuple[str, str]) -> str:
    """Return what is wrong with the end of a process."""
    status, (out, err) = process.returncode, output
    if status == 0 and "200 training and 100 test images, verified" in out:
        return ""
    if kill is not None and (status == -kill or (status == 128 + kill and err.splitlines()[-1].endswith(kill.name))):
        return ""
    return f"a process with {'no signal' if kill is None else kill.name} ended with {status}: {out}{err}"


def _wrong_files(dataset: Dataset, place: Path) -> str:
    """Return what is wrong with the files."""
    there = {path.name: path.read_bytes() for path in raw_folder(dataset.facts, place).iterdir()}
    there.pop(".lock", None)
    if there == dataset.files:
        return ""
    return f"there are {', '.join(f'{name} ({len(content):,} bytes)' for name, content in there.items())}"


def _wrong_requests(dataset: Dataset, killed: int) -> str:
    """Return the files that were fetched more often than once, plus once for each killed process."""
    counts = {file: dataset.server.requests.count(f"/{file}.gz") for file in FILES}
    often = {file: count for file, count in counts.items() if not 1 <= count <= 1 + killed}
    return f"fetched so often: {often}" if often else ""


# Run folders and files


@contextmanager
def _workers() -> Iterator[Process]:
    (process,) = _started([_start(WORK, str(WORKERS))])
    try:
        yield process
    finally:
        process.communicate()


def _make_runs(workers: Process, place: Path) -> str:
    """Create run folders, and return what is wrong with them."""
    _tell(workers, json.dumps([{"root": str(place), "times": TIMES}] * WORKERS))
    made = sorted(folder for answer in json.loads(_line(workers)) for folder in answer)
    expected = sorted(str(place / "a-run" / f"version_{number}") for number in range(WORKERS * TIMES))
    there = sorted(str(folder) for folder in (place / "a-run").iterdir())
    return "" if made == expected == there else f"made {made}, there are {there}"


def _replace(workers: Process, place: Path, rng: Random) -> str:
    """Replace a file repeatedly, and return what is wrong with its content meanwhile and afterwards."""
    path = place / "page.html"
    contents = [str(number) * rng.randrange(1, 300_000) for number in range(WORKERS)]
    path.write_text(contents[0])
    _tell(workers, json.dumps([{"path": str(path), "content": content, "times": TIMES} for content in contents]))
    partial = set()
    done = False
    while not done:
        done = bool(select([workers.stdout], [], [], 0)[0])  # before the last read, which sees the final content
        content = path.read_text()
        partial |= set() if content in contents else {len(content)}
    _line(workers)
    left = [other.name for other in place.iterdir() if other != path]
    return f"partly written, with so many characters: {partial}; left: {left}" if partial or left else ""


# Processes


def _start(code: str, *arguments: str) -> Process:
    return Process(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "no_proxy": "*", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def _started(processes: list[Process]) -> list[Process]:
    """Wait until all are ready."""
    for process in processes:
        _line(process)
    return processes


def _tell(process: Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _line(process: Process) -> str:
    """Return the next line that a process prints."""
    assert process.stdout is not None
    if line := process.stdout.readline():
        return line
    raise RuntimeError(f"a process ended: {process.communicate()}")
