"""The sections beside other processes that keep cores busy: epochs, and the choice of the precision."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from benchmarks.options import Options
from benchmarks.process import call, progress
from benchmarks.report import Table, by, column, pairwise, spread
from benchmarks.runs import fit_system
from benchmarks.section import Measurements, repeats
from lightning_cnn.threads import available_cores

#: Computes until its parent ends, however that ends: its stdin is closed then. A line says that it has begun.
_BUSY = """\
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(flush=True)
while True: pass
"""


@dataclass(frozen=True)
class Load:
    """Processes that run beside a measurement.

    Attributes:
        processes: Their number; each keeps one core busy.
        nice: Their niceness, 0 to 19.
        new_session: Whether they are of another session, as those of another terminal are. Linux divides the cores
            among sessions first, and heeds niceness only within one, where `kernel.sched_autogroup_enabled` is 1.
    """

    processes: int
    nice: int = 0
    new_session: bool = False

    def __str__(self) -> str:
        nice = f", nice {self.nice}" if self.nice else ""
        return f"{self.processes}{nice}{', other session' if self.new_session else ''}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the processes within the block."""
        command = ["nice", "-n", str(self.nice), sys.executable, "-c", _BUSY]
        pipe = subprocess.PIPE
        started = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=self.new_session)
            for _ in range(self.processes)
        ]
        try:
            for process in started:
                assert process.stdout is not None
                process.stdout.readline()
            yield
        finally:
            for process in started:
                process.kill()
                process.communicate()


#: Batches of an epoch beside other processes.
BATCHES = 200
#: The other processes, in the order of the measurements.
LOADS = (Load(0), Load(1), Load(2), Load(1, nice=19), Load(2, nice=19), Load(1, nice=19, new_session=True))
#: How often the precision of a system is chosen beside other processes.
TRIES = 20


def measure_load(options: Options) -> Measurements:
    """Train each system for a short epoch beside other processes, in the plain loop and with `fit`.

    `fit` has as many threads as it chooses, one, and one for each core, as if the other processes began later.
    """
    options = replace(options, limit_batches=options.limit_batches or BATCHES)
    measurements = []
    for system, seed, text in repeats(options):
        for load in LOADS:
            with load.running():
                plain = call("plain.train", system=system, seed=seed, **options.of_torchvision)
                fit = fit_system(options, system, seed)
                one = fit_system(options, system, seed, {"OMP_NUM_THREADS": "1"})
                all_threads = fit_system(options, system, seed, {"OMP_NUM_THREADS": str(available_cores())})
            runs = {"plain": plain, "fit": fit, "one": one, "all": all_threads}
            times = ", ".join(f"{name} {run['seconds']:.2f} s" for name, run in runs.items())
            progress(f"{text}, busy processes {load}: {times}")
            measurements.append({"system": system, "load": str(load), "repeat": seed, **runs})
    return measurements


def load_table(measurements: Measurements) -> Table:
    """One row per system and load."""
    rows = []
    for system, all_runs in by(measurements, "system").items():
        for load, runs in by(all_runs, "load").items():
            plain, fit, one, every = (column(runs, name, "seconds") for name in ("plain", "fit", "one", "all"))
            threads = ", ".join(sorted({str(run["fit"]["threads"]) for run in runs}))
            seconds = [spread(values, 2) for values in (plain, fit, one, every)]
            ratios = [(plain, fit, 1), (fit, one, 2), (plain, every, 1)]
            texts = [spread(pairwise(above, below), digits, " ×") for above, below, digits in ratios]
            rows.append([system, load, threads, *seconds, *texts])
    times = ["plain s", "fit s", "one thread s", "all threads s"]
    return Table(
        ["system", "busy", "threads of fit", *times, "plain/fit", "fit/one thread", "plain/all threads"],
        rows,
        "Median (min–max) of a short epoch and its validation beside processes that each keep a core busy; ratios are "
        "those within each repeat.\none thread: `fit` with OMP_NUM_THREADS=1, beside the same processes. all threads: "
        "with one for each core,\nas `fit` has them if the other processes begin later.",
    )


def measure_precision(options: Options) -> Measurements:
    """Choose the precision of each system once on the machine as it is, and often beside two busy processes."""
    measurements = []
    for system in options.systems:
        (quiet,) = call("load.precisions", system=system, tries=1)
        with Load(2).running():
            loaded = call("load.precisions", system=system, tries=TRIES)
        progress(f"precision of {system}: {quiet}")
        measurements.append({"system": system, "quiet": quiet, "loaded": loaded})
    return measurements


def precision_table(measurements: Measurements) -> Table:
    """One row per system."""
    rows = []
    for found in measurements:
        same = found["loaded"].count(found["quiet"])
        rows.append([found["system"], found["quiet"], f"{same} of {len(found['loaded'])}"])
    return Table(["system", "precision", "the same beside two busy processes"], rows)


def precisions(system: str, tries: int) -> list[str]:
    """Return the precision that `fit` chooses for a system, as often as asked, each time without a remembered verdict.

    Args:
        system: One of `SYSTEMS`.
        tries: How often to choose.
    """
    from benchmarks.systems import BATCH_SIZE, build
    from lightning_cnn.training.setup import choose_precision

    classifier, _ = build(system, "", allow_sample=False)
    options = {"precision": "auto", "accelerator": "auto", "plugins": None}
    found = []
    for _ in range(tries):
        with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as cache:
            os.environ["LIGHTNING_CNN_CACHE_DIR"] = cache
            found.append(choose_precision(options, classifier, BATCH_SIZE))
    return found
