import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

import benchmarks.load
from benchmarks.load import LOADS, Load, precisions
from benchmarks.sections import SECTIONS
from lightning_cnn.threads import available_cores
from lightning_cnn.training import precision


def children() -> dict[int, int]:
    """The processes that this one has started, with their niceness."""
    found = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for file in found for pid in file.read_text().split()]
    return {pid: os.getpriority(os.PRIO_PROCESS, pid) for pid in pids}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
@pytest.mark.parametrize("load", [Load(0), Load(2), Load(1, nice=19, new_session=True)], ids=str)
def test_a_load_runs_within_its_block(load):
    before = children().keys()
    own = os.getpriority(os.PRIO_PROCESS, 0)

    with load.running():
        during = {pid: nice for pid, nice in children().items() if pid not in before}
        sessions = {os.getsid(pid) for pid in during}

    assert (os.getsid(0) in sessions) == (load.processes > 0 and not load.new_session)
    assert list(during.values()) == [min(19, own + load.nice)] * load.processes
    assert children().keys() == before


def test_the_precision_is_chosen_anew_each_time(monkeypatch):
    probed = []

    def probe(*arguments):
        probed.append(arguments)
        return precision.Verdict(2.0, 3.0, 0.0)

    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(precision, "probe", probe)

    assert precisions("MLP", 3) == ["bf16-mixed"] * 3
    assert len(probed) == 3


def test_loops_alternate_beside_each_load(options, monkeypatch):
    calls, running = [], []

    @contextmanager
    def run(load):
        running.append(load)
        yield
        running.append(None)

    def call(name, **arguments):
        calls.append((name, arguments))
        return {"seconds": 2.0}

    def fit_system(options, system, seed, variables=None):
        return call("fit_system", limit_batches=options.limit_batches, variables=variables)

    monkeypatch.setattr(Load, "running", run)
    monkeypatch.setattr(benchmarks.load, "call", call)
    monkeypatch.setattr(benchmarks.load, "fit_system", fit_system)

    measurements = SECTIONS["load"].measure(replace(options, systems=["CNN"], repeats=1))

    assert running == [item for load in LOADS for item in (load, None)]
    loads = ["0", "1", "2", "1, nice 19", "2, nice 19", "1, nice 19, other session"]
    assert [run["load"] for run in measurements] == loads
    assert [name for name, _ in calls] == ["plain.train", "fit_system", "fit_system", "fit_system"] * len(loads)
    threads = [{"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": str(available_cores())}]
    assert [arguments.get("variables") for _, arguments in calls[:4]] == [None, None, *threads]
    assert {arguments["limit_batches"] for _, arguments in calls} == {200}


def test_the_table_of_loads():
    measurements = [
        {
            "system": "CNN",
            "load": load,
            "plain": {"seconds": plain},
            "fit": {"seconds": fit, "threads": threads},
            "one": {"seconds": one},
            "all": {"seconds": 2 * fit},
        }
        for load, plain, fit, one, threads in [("0", 8, 2, 4, 2), ("1", 9, 3, 3, 1), ("1", 18, 3, 2, 2)]
    ]

    assert SECTIONS["load"].table(measurements).rows == [
        ["CNN", "0", "2", "8.00", "2.00", "4.00", "4.00", "4.0 ×", "0.50 ×", "2.0 ×"],
        [
            "CNN",
            "1",
            "1, 2",
            "13.50 (9.00–18.00)",
            "3.00 (3.00–3.00)",
            "2.50 (2.00–3.00)",
            "6.00 (6.00–6.00)",
            "4.5 × (3.0–6.0)",
            "1.25 × (1.00–1.50)",
            "2.2 × (1.5–3.0)",
        ],
    ]


def test_the_precision_beside_busy_processes_is_compared_with_that_on_the_machine_as_it_is(options, monkeypatch):
    tried = []
    found = iter([["bf16-mixed"], ["bf16-mixed"] * 19 + ["32-true"], ["32-true"], ["32-true"] * 20])

    def call(function, system, tries):
        tried.append((function, system, tries))
        return next(found)

    monkeypatch.setattr(benchmarks.load, "call", call)

    table = SECTIONS["precision"].table(SECTIONS["precision"].measure(options))

    assert tried == [("load.precisions", system, tries) for system in ("CNN", "MLP") for tries in (1, 20)]
    assert table.rows == [["CNN", "bf16-mixed", "19 of 20"], ["MLP", "32-true", "20 of 20"]]


_KILLED = """\
import os, signal
from benchmarks.load import Load
from pathlib import Path
with Load(1).running():
    print(*Path("/proc/self/task", str(os.getpid()), "children").read_text().split(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
def test_a_load_ends_with_its_process_even_if_that_is_killed():
    killed = subprocess.run([sys.executable, "-c", _KILLED], capture_output=True, text=True)
    (busy,) = map(int, killed.stdout.split())

    assert killed.returncode == -signal.SIGKILL
    assert ended_within(20, busy)


def ended_within(seconds: float, pid: int) -> bool:
    """Whether a process ends within some seconds; one that nobody waits for is a zombie."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.05)
                continue
        return True
    return False
