"""The sections of the benchmark: what each measures, and the table that it makes of that."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import call, command, say
from benchmarks.report import Table, by, column, pairwise, percent, spread
from benchmarks.runs import fit_and_test, fit_steps, fit_system
from benchmarks.systems import BATCH_SIZE

Measurements = list[dict[str, Any]]

#: The recipes whose time to accuracy is measured, each with the test accuracy that it aims at.
FAST = {"mnist/fast.yaml": 0.99, "fashion_mnist/fast.yaml": 0.90}
#: The one of them that trains on the dataset of the reference.
REFERENCE = "mnist/fast.yaml"
#: Training steps and matrix products to time.
STEPS = 50
#: Training steps of `fit` to time, for each number of processes.
STEPS_OF_FIT = 150


@dataclass(frozen=True)
class Options:
    """What to measure on.

    Attributes:
        repeats: How often to measure; at least 1.
        systems: Names of systems, of `systems.SYSTEMS`.
        data_dir: The folder of the datasets.
        allow_sample: Whether the small sample will do where a dataset is missing.
        torchvision_dir: A folder with the same datasets, unpacked, as torchvision reads them.
        reference: Whether to run PyTorch's example as well.
        limit_batches: Every loop stops after so many batches; None takes all.
        processes: How many processes to compare with one; each divides 64.
    """

    repeats: int
    systems: list[str]
    data_dir: Path
    allow_sample: bool
    torchvision_dir: Path
    reference: bool
    limit_batches: int | None
    processes: list[int]

    @property
    def ours(self) -> dict[str, Any]:
        """What all that reads the data as `fit` does has to know."""
        return {"data_dir": str(self.data_dir), "allow_sample": self.allow_sample, "limit_batches": self.limit_batches}

    @property
    def theirs(self) -> dict[str, Any]:
        """What all that reads the data as notebooks do has to know."""
        return {"folder": str(self.torchvision_dir), "limit_batches": self.limit_batches}


@dataclass(frozen=True)
class Section:
    """A part of the benchmark.

    Attributes:
        title: What is compared.
        measure: Returns every single measurement.
        table: Returns the table of these measurements.
    """

    title: str
    measure: Callable[[Options], Measurements]
    table: Callable[[Measurements], Table]


def measure_systems(options: Options) -> Measurements:
    """Train every system for an epoch, by turns in a plain loop, with `fit`, and in a bare loop like that of `fit`."""
    measurements = []
    for system in options.systems:
        for repeat in range(options.repeats):
            plain = call("plain.train", system=system, seed=repeat, **options.theirs)
            ours = fit_system(system, seed=repeat, **options.ours)
            precision = ours["precision"]
            bare = call("bare.train", system=system, precision=precision, seed=repeat, **options.ours)
            times = ", ".join(
                f"{name} {run['seconds']:.2f} s" for name, run in (("plain", plain), ("ours", ours), ("bare", bare))
            )
            say(f"{system}, repeat {repeat + 1} of {options.repeats}: {times}")
            measurements.append({"system": system, "repeat": repeat, "plain": plain, "ours": ours, "bare": bare})
    return measurements


def systems_table(measurements: Measurements) -> Table:
    """One row for each system."""
    rows = []
    for system, runs in by(measurements, "system").items():
        plain, ours, bare = (column(runs, contestant, "seconds") for contestant in ("plain", "ours", "bare"))
        memory = max(column(runs, "ours", "peak_memory_bytes"))
        rows.append(
            [
                system,
                ", ".join(sorted({run["ours"]["precision"] for run in runs})),
                spread(plain, 2),
                spread(ours, 2),
                spread(bare, 2),
                spread(pairwise(plain, ours), 2, " ×"),
                spread(pairwise(ours, bare), 3, " ×"),
                f"{memory / 2**20:,.0f} MiB",
                percent(column(runs, "plain", "val_acc")),
                percent(column(runs, "ours", "val_acc")),
                percent(column(runs, "bare", "val_acc")),
            ]
        )
    seconds = ["plain s", "ours s", "bare s"]
    accuracies = ["val acc plain", "val acc ours", "val acc bare"]
    columns = ["system", "precision", *seconds, "plain/ours", "ours/bare", "peak memory of ours", *accuracies]
    return Table(
        columns,
        rows,
        "Median (min–max) of one epoch and its evaluation, without the start of the process; ratios are those within "
        "each repeat.\nplain: the fp32 loop of a notebook over torchvision and PIL. ours: `fit`. bare: a loop that "
        "computes what `fit` does and keeps nothing.",
    )


def measure_pipeline(options: Options) -> Measurements:
    """Read all training images, by turns through our pipeline and through torchvision's."""
    measurements = []
    for system in options.systems:
        for repeat in range(options.repeats):
            plain = call("pipeline.plain", system=system, seed=repeat, **options.theirs)
            ours = call("pipeline.ours", system=system, seed=repeat, **options.ours)
            say(f"pipeline of {system}, repeat {repeat + 1} of {options.repeats}")
            measurements.append({"system": system, "repeat": repeat, "plain": plain, "ours": ours})
    return measurements


def pipeline_table(measurements: Measurements) -> Table:
    """One row for each system."""
    rows = []
    for system, runs in by(measurements, "system").items():
        plain, ours = (
            pairwise(column(runs, contestant, "train_images"), column(runs, contestant, "seconds"))
            for contestant in ("plain", "ours")
        )
        rows.append([system, spread(plain, 0), spread(ours, 0), spread(pairwise(ours, plain), 1, " ×")])
    return Table(
        ["system", "plain images/s", "ours images/s", "ours/plain"],
        rows,
        "From the dataset in memory to normalised batches of 64, augmentation (DeepCNN) included, without a network.",
    )


def measure_accuracy(options: Options) -> Measurements:
    """Train the fast recipes from the start of the process to the test result, and the reference to its target."""
    measurements: Measurements = []
    for config, target in FAST.items():
        for seed in range(options.repeats):
            run = fit_and_test(config, seed=seed, **options.ours)
            say(f"{config}, seed {seed}: {run['seconds']:.1f} s, test accuracy {100 * run['test_acc']:.2f} %")
            measurements.append({"recipe": config, "seed": seed, "target": target, **run})
    if options.reference:
        say("PyTorch's MNIST example, until it reaches the target: this takes minutes")
        target = FAST[REFERENCE]
        run = call("reference.train", target=target, started_at=time.time(), **options.theirs)
        measurements.append({"recipe": "reference", "seed": 1, "test_acc": run["epochs"][-1]["test_acc"], **run})
    return measurements


def accuracy_table(measurements: Measurements) -> Table:
    """One row for each recipe, and one for the reference."""
    rows = []
    recipes = by(measurements, "recipe")
    for recipe, runs in recipes.items():
        name = "PyTorch's MNIST example" if recipe == "reference" else recipe
        row = [name, f"{100 * runs[0]['target']:.1f} %", percent(column(runs, "test_acc"))]
        if recipe != "reference":
            rows.append([*row, spread(column(runs, "seconds"), 1), ""])
        elif (seconds := runs[0]["seconds"]) is None:
            rows.append([*row, f"not in {len(runs[0]['epochs'])} epochs", ""])
        else:
            ratios = [seconds / ours for ours in column(recipes[REFERENCE], "seconds")]
            rows.append([*row, f"{seconds:,.1f}", spread(ratios, 1, " ×")])
    return Table(
        ["recipe", "target", "test accuracy", "s", "example/ours"],
        rows,
        "From the start of the process: ours to the test result, mean ± deviation of the seeds; the example, once, to "
        "the end of the\nfirst epoch after which its test accuracy reaches the target.",
    )


def measure_startup(options: Options) -> Measurements:
    """Time what one waits for before anything happens."""
    measurements = []
    for repeat in range(options.repeats):
        waits = {
            "--version": command("--version"),
            "--help": command("--help"),
            "an unknown command": command("fti", status=2),
            "first training step": fit_system("MLP", seed=repeat, **{**options.ours, "limit_batches": 1})[
                "first_step_seconds"
            ],
        }
        say(f"start, repeat {repeat + 1} of {options.repeats}")
        measurements += [{"until": until, "repeat": repeat, "seconds": s} for until, s in waits.items()]
    return measurements


def startup_table(measurements: Measurements) -> Table:
    """One row for each thing that one waits for."""
    rows = [[until, spread(column(runs, "seconds"), 2)] for until, runs in by(measurements, "until").items()]
    return Table(["from the start of the process to", "s"], rows, "The training step is that of MLP on Fashion-MNIST.")


def measure_machine(options: Options) -> Measurements:
    """Measure what the machine can do, and what training steps make of it, in the precision that `fit` chooses."""
    repeats = STEPS if options.limit_batches is None else options.limit_batches
    peak = call("machine.matmul_rates", repeats=repeats)
    measurements: Measurements = [{"matmul_gflops_per_second": peak}]
    for system in options.systems:
        precision = fit_system(system, seed=0, **{**options.ours, "limit_batches": 1})["precision"]
        rate = call("machine.step_rate", system=system, precision=precision, repeats=repeats)
        say(f"{system}: {rate['gflops_per_second']:,.0f} GFLOP/s")
        measurements.append({"system": system, "precision": precision, **rate})
    return measurements


def machine_table(measurements: Measurements) -> Table:
    """One row for each precision's matrix product, and one for each system's training step."""
    peak = measurements[0]["matmul_gflops_per_second"]
    rows = [["matrix product", precision, "", "", f"{rate:,.0f}", "100 %"] for precision, rate in peak.items()]
    for step in measurements[1:]:
        rate = step["gflops_per_second"]
        work = [f"{step['flops'] / 1e9:.3f}", f"{1000 * step['seconds']:.2f}", f"{rate:,.0f}"]
        rows.append([step["system"], step["precision"], *work, f"{100 * rate / peak[step['precision']]:.0f} %"])
    columns = ["what", "precision", "GFLOP/step", "ms/step", "GFLOP/s", "of the matrix product's rate"]
    return Table(columns, rows, "Steps of 64 images: forward, backward and optimizer, without reading the data.")


def measure_scale(options: Options) -> Measurements:
    """Time steps of `fit` by turns in one process and in several, which share the batch or have one each."""
    accelerator = "gpu" if call("machine.gpus") >= max(options.processes) else "cpu"
    ours = {**options.ours, "accelerator": accelerator, "limit_batches": options.limit_batches or STEPS_OF_FIT}
    measurements: Measurements = []
    for system in options.systems:
        for repeat in range(options.repeats):
            one = fit_steps(system, 1, BATCH_SIZE, "auto", seed=repeat, **ours)
            for processes in options.processes:
                how = {"precision": one["precision"], "seed": repeat, **ours}
                shared = fit_steps(system, processes, BATCH_SIZE // processes, **how)
                each = fit_steps(system, processes, BATCH_SIZE, **how)
                times = ", ".join(f"{1000 * run['step_seconds']:.2f} ms" for run in (one, shared, each))
                say(f"{system}, {processes} processes, repeat {repeat + 1} of {options.repeats}: {times}")
                runs = {"one": one, "shared": shared, "each": each}
                measurements.append(
                    {"system": system, "processes": processes, "repeat": repeat, "on": accelerator, **runs}
                )
    return measurements


def scale_table(measurements: Measurements) -> Table:
    """One row for each number of processes of each system."""
    rows = []
    for system, all_runs in by(measurements, "system").items():
        for runs in by(all_runs, "processes").values():
            processes = runs[0]["processes"]
            one, shared, each = (column(runs, name, "step_seconds") for name in ("one", "shared", "each"))
            more_images = [processes * ratio for ratio in pairwise(one, each)]
            last = runs[-1]["shared"]
            rows.append(
                [
                    system,
                    f"{last['precision']} on {runs[0]['on'].upper()}",
                    f"{processes} × {last['threads']}, against 1 × {runs[-1]['one']['threads']}",
                    *(spread([1000 * second for second in seconds], 2) for seconds in (one, shared, each)),
                    spread(pairwise(one, shared), 2, " ×"),
                    spread(more_images, 2, " ×"),
                    f"{last['sent']['allreduce_']:,}",
                    f"{4 * last['parameters']:,}",
                ]
            )
    times = ["one: ms/step", "64 images shared: ms/step", "64 images each: ms/step"]
    ratios = ["shared: times as fast", "each: times the images/s"]
    columns = ["system", "precision", "processes × threads", *times, *ratios, "all-reduced bytes/step", "of gradients"]
    return Table(
        columns,
        rows,
        "Steps of `fit` with DDP, with all that it does at every step; ratios are those within each repeat.\nBytes are "
        "what each process hands over in a step, counted; those of gradients are 4 for each parameter.",
    )


#: Every section, in the order in which they run.
SECTIONS = {
    "systems": Section("An epoch of each system: plain loop, ours, bare loop", measure_systems, systems_table),
    "pipeline": Section("Input pipelines alone", measure_pipeline, pipeline_table),
    "accuracy": Section("Time to accuracy", measure_accuracy, accuracy_table),
    "startup": Section("Start", measure_startup, startup_table),
    "machine": Section("What the machine can do, and what is made of it", measure_machine, machine_table),
    "scale": Section("Steps in several processes", measure_scale, scale_table),
}
