"""The sections of the benchmark: each measures, and makes a table of its measurements."""

import time
from dataclasses import replace

from benchmarks.folder import folder_table, measure_folder
from benchmarks.load import load_table, measure_load, measure_precision, precision_table
from benchmarks.one_image import measure_one_image, one_image_table
from benchmarks.options import Options
from benchmarks.process import call, command, progress
from benchmarks.report import Table, by, column, pairwise, percent, spread
from benchmarks.runs import fit_and_test, fit_steps, fit_system
from benchmarks.section import Measurements, Section, repeats
from benchmarks.serve import measure_serve, serve_table
from benchmarks.systems import BATCH_SIZE

#: Targets for the test accuracy, and what was chosen on the validation images to reach each in little time: a config,
#: and how many epochs, or None for its own. Those of `mnist/small` reach 99.50 and 99.64 % there with seed 0, that of
#: `fashion_mnist/tiny` 92.58 %.
TARGETS: tuple[tuple[float, str, int | None], ...] = (
    (0.990, "mnist/fast.yaml", None),
    (0.994, "mnist/small.yaml", 3),
    (0.995, "mnist/small.yaml", 6),
    (0.90, "fashion_mnist/fast.yaml", None),
    (0.92, "fashion_mnist/tiny.yaml", 6),
)
#: The one on the dataset of PyTorch's example.
REFERENCE, REFERENCE_TARGET = "mnist/fast.yaml", 0.99
#: Training steps and matrix products to time.
STEPS = 50
#: The smallest share of a step for which an operator has a row.
SMALLEST_SHARE = 0.03
#: Training steps of `fit` to time, for each number of processes.
STEPS_OF_FIT = 150


def measure_systems(options: Options) -> Measurements:
    """Train each system for an epoch: in the plain loop, with `fit`, and in the bare loop, alternating."""
    measurements = []
    for system, seed, text in repeats(options):
        plain = call("plain.train", system=system, seed=seed, **options.of_torchvision)
        fit = fit_system(options, system, seed)
        bare = call("bare.train", system=system, precision=fit["precision"], seed=seed, **options.of_data_module)
        runs = {"plain": plain, "fit": fit, "bare": bare}
        progress(f"{text}: " + ", ".join(f"{name} {run['seconds']:.2f} s" for name, run in runs.items()))
        measurements.append({"system": system, "repeat": seed, **runs})
    return measurements


def systems_table(measurements: Measurements) -> Table:
    """One row per system."""
    rows = []
    for system, runs in by(measurements, "system").items():
        plain, fit, bare = (column(runs, name, "seconds") for name in ("plain", "fit", "bare"))
        rows.append(
            [
                system,
                ", ".join(sorted({run["fit"]["precision"] for run in runs})),
                *(spread(seconds, 2) for seconds in (plain, fit, bare)),
                spread(pairwise(plain, fit), 2, " ×"),
                spread(pairwise(fit, bare), 3, " ×"),
                f"{max(column(runs, 'fit', 'peak_memory_bytes')) / 2**20:,.0f} MiB",
                *(percent(column(runs, name, "val_acc")) for name in ("plain", "fit", "bare")),
            ]
        )
    ratios = ["plain/fit", "fit/bare"]
    accuracies = ["val acc plain", "val acc fit", "val acc bare"]
    return Table(
        ["system", "precision", "plain s", "fit s", "bare s", *ratios, "peak memory of fit", *accuracies],
        rows,
        "Median (min–max) of one epoch and its validation, without the start of the process; ratios are those within "
        "each repeat.\nplain: the float32 loop of a notebook with torchvision and PIL. bare: the computation of `fit` "
        "in a loop without Lightning, metrics and files.",
    )


def measure_pipeline(options: Options) -> Measurements:
    """Read all training images through torchvision's pipeline and through that of `fit`, alternating."""
    measurements = []
    for system, seed, text in repeats(options):
        plain = call("plain.read_images", system=system, seed=seed, **options.of_torchvision)
        fit = call("bare.read_images", system=system, seed=seed, **options.of_data_module)
        progress(f"input pipeline of {text}")
        measurements.append({"system": system, "repeat": seed, "plain": plain, "fit": fit})
    return measurements


def pipeline_table(measurements: Measurements) -> Table:
    """One row per system."""
    rows = []
    for system, runs in by(measurements, "system").items():
        plain, fit = (
            pairwise(column(runs, name, "train_images"), column(runs, name, "seconds")) for name in ("plain", "fit")
        )
        rows.append([system, spread(plain, 0), spread(fit, 0), spread(pairwise(fit, plain), 1, " ×")])
    return Table(
        ["system", "plain images/s", "fit images/s", "fit/plain"],
        rows,
        "From the dataset in memory to normalised batches of 64, with the augmentation of DeepCNN, without a network.",
    )


def measure_accuracy(options: Options) -> Measurements:
    """Time what is for each target from the start of its process to the test result, and the reference to its own."""
    measurements: Measurements = []
    for target, config, epochs in TARGETS:
        recipe = config if epochs is None else f"{config}, {epochs} epochs"
        for seed in range(options.seeds):
            run = fit_and_test(options, config, seed, epochs)
            progress(
                f"{recipe}, seed {seed}: {run['seconds']:.1f} s, {run['cpu_seconds']:.1f} CPU s, test accuracy "
                f"{100 * run['test_acc']:.2f} %"
            )
            measurements.append({"recipe": recipe, "target": target, "seed": seed, **run})
    if options.reference:
        progress("PyTorch's MNIST example, until it reaches its target: this takes minutes")
        run = call("reference.train", target=REFERENCE_TARGET, started_at=time.time(), **options.of_torchvision)
        measurements.append({"recipe": "reference", "seed": 1, "test_acc": run["epochs"][-1]["test_acc"], **run})
    return measurements


def accuracy_table(measurements: Measurements) -> Table:
    """One row per target, and one for the reference."""
    rows = []
    recipes = by(measurements, "recipe")
    for recipe, runs in recipes.items():
        target, accuracies = runs[0]["target"], column(runs, "test_acc")
        reached = sum(accuracy >= target for accuracy in accuracies)
        name = "PyTorch's MNIST example" if recipe == "reference" else recipe
        row = [name, f"{100 * target:.1f} %", f"{reached} of {len(runs)}", percent(accuracies)]
        if recipe != "reference":
            rows.append([*row, spread(column(runs, "seconds"), 1), spread(column(runs, "cpu_seconds"), 1), ""])
        elif (seconds := runs[0]["seconds"]) is None:
            rows.append([*row, f"not in {len(runs[0]['epochs'])} epochs", "", ""])
        else:
            rows.append(
                [*row, f"{seconds:,.1f}", "", spread([seconds / run["seconds"] for run in recipes[REFERENCE]], 1, " ×")]
            )
    return Table(
        ["recipe", "target", "reached by", "test accuracy", "s", "CPU s", "example/fit"],
        rows,
        "From the start of the process: `fit` to the test result, accuracy as mean ± standard deviation over the seeds;"
        "\nthe example, once, to the end of the first epoch after which its test accuracy reaches the target.\nCPU s: "
        "seconds of all cores, which other processes hardly change; of the example they are not measured.",
    )


def measure_startup(options: Options) -> Measurements:
    """Time commands from the start of their process to their first result."""
    measurements = []
    one_step = replace(options, limit_batches=1)
    for repeat in range(options.repeats):
        seconds = {
            "--version": command("--version"),
            "--help": command("--help"),
            "an unknown command": command("fti", status=2),
            "first training step": fit_system(one_step, "MLP", repeat)["first_step_seconds"],
        }
        progress(f"start-up, repeat {repeat + 1} of {options.repeats}")
        measurements += [{"until": until, "repeat": repeat, "seconds": s} for until, s in seconds.items()]
    return measurements


def startup_table(measurements: Measurements) -> Table:
    """One row per command."""
    rows = [[until, spread(column(runs, "seconds"), 2)] for until, runs in by(measurements, "until").items()]
    return Table(["from the start of the process to", "s"], rows, "The training step is that of MLP on Fashion-MNIST.")


def measure_machine(options: Options) -> Measurements:
    """Measure the peak rate of the machine, and the rate of training steps in the precision that `fit` chooses."""
    steps = options.limit_batches or STEPS
    peak = call("machine.matmul_rates", repeats=steps)
    measurements: Measurements = [{"matmul_gflops_per_second": peak}]
    for system in options.systems:
        precision = fit_system(replace(options, limit_batches=1), system, 0)["precision"]
        rate = call("machine.step_rate", system=system, precision=precision, repeats=steps)
        progress(f"{system}: {rate['gflops_per_second']:,.0f} GFLOP/s")
        measurements.append({"system": system, "precision": precision, **rate})
    return measurements


def machine_table(measurements: Measurements) -> Table:
    """One row per precision of the matrix product, and one per system."""
    peak = measurements[0]["matmul_gflops_per_second"]
    rows = [["matrix product", precision, "", "", f"{rate:,.0f}", "100 %"] for precision, rate in peak.items()]
    for step in measurements[1:]:
        rate = step["gflops_per_second"]
        work = [f"{step['flops'] / 1e9:.3f}", f"{1000 * step['seconds']:.2f}", f"{rate:,.0f}"]
        rows.append([step["system"], step["precision"], *work, f"{100 * rate / peak[step['precision']]:.0f} %"])
    columns = ["what", "precision", "GFLOP/step", "ms/step", "GFLOP/s", "of the matrix product's rate"]
    return Table(columns, rows, "Steps of 64 images: forward, backward and optimizer, without reading the data.")


def measure_operators(options: Options) -> Measurements:
    """Measure each operator of training steps in the precision that `fit` chooses."""
    measurements = []
    for system in options.systems:
        precision = fit_system(replace(options, limit_batches=1), system, 0)["precision"]
        operators = call(
            "operators.of_step", system=system, precision=precision, repeats=options.limit_batches or STEPS
        )
        progress(f"operators of {system}")
        measurements.append({"system": system, "precision": precision, "operators": operators})
    return measurements


def operators_table(measurements: Measurements) -> Table:
    """One row per operator that takes a share of the step worth naming, and one for all others."""
    rows = []
    for measured in measurements:
        system, precision = measured["system"], measured["precision"]
        step = sum(cost["seconds"] for cost in measured["operators"])
        named = [cost for cost in measured["operators"] if cost["seconds"] >= SMALLEST_SHARE * step]
        for cost in named:
            seconds, flops = cost["seconds"], cost["flops"]
            memory = [f"{cost['bytes'] / 1e6:.1f}", f"{cost['bytes'] / seconds / 1e9:,.0f}"]
            rates = [f"{flops / 1e9:.3f}", f"{flops / seconds / 1e9:,.0f}"] if flops else ["", ""]
            times = [f"{1000 * seconds:.2f}", f"{100 * seconds / step:.0f} %"]
            rows.append([system, precision, cost["name"], *times, *memory, *rates])
        others = step - sum(cost["seconds"] for cost in named)
        times = [f"{1000 * others:.2f}", f"{100 * others / step:.0f} %"]
        rows.append([system, precision, "all others", *times, "", "", "", ""])
    return Table(
        ["system", "precision", "operator", "ms/step", "of the step", "MB", "GB/s", "GFLOP", "GFLOP/s"],
        rows,
        "Steps of 64 images: forward, backward and optimizer, without reading the data. The step is the time in its "
        "operators.\nMB: size of the tensors that an operator takes and returns. GFLOP: of "
        "convolutions and matrix products.",
    )


def measure_scale(options: Options) -> Measurements:
    """Time steps of `fit` in one process, and in several that share its batch or have such a batch each."""
    accelerator = "gpu" if call("machine.describe")["gpus"] >= max(options.processes) else "cpu"
    options = replace(options, limit_batches=options.limit_batches or STEPS_OF_FIT)
    measurements: Measurements = []
    for system, seed, text in repeats(options):
        one = fit_steps(options, system, seed, 1, BATCH_SIZE, "auto", accelerator)
        for processes in options.processes:
            same = (one["precision"], accelerator)
            shared = fit_steps(options, system, seed, processes, BATCH_SIZE // processes, *same)
            each = fit_steps(options, system, seed, processes, BATCH_SIZE, *same)
            runs = {"one": one, "shared": shared, "each": each}
            times = ", ".join(f"{1000 * run['step_seconds']:.2f} ms" for run in runs.values())
            progress(f"{text}, {processes} processes: {times}")
            measurements.append({"system": system, "processes": processes, "repeat": seed, "on": accelerator, **runs})
    return measurements


def scale_table(measurements: Measurements) -> Table:
    """One row per system and number of processes."""
    rows = []
    for system, all_runs in by(measurements, "system").items():
        for processes, runs in by(all_runs, "processes").items():
            one, shared, each = (column(runs, name, "step_seconds") for name in ("one", "shared", "each"))
            last = runs[-1]["shared"]
            rows.append(
                [
                    system,
                    f"{last['precision']} on {runs[0]['on'].upper()}",
                    f"{processes} × {last['threads']}, against 1 × {runs[-1]['one']['threads']}",
                    *(spread([1000 * second for second in seconds], 2) for seconds in (one, shared, each)),
                    spread(pairwise(one, shared), 2, " ×"),
                    spread([processes * ratio for ratio in pairwise(one, each)], 2, " ×"),
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
        "Whole steps of `fit` with DDP; ratios are those within each repeat.\nBytes are those that each process sends "
        "in a step, counted; those of gradients are 4 for each parameter.",
    )


#: The sections, in the order in which they run.
SECTIONS = {
    "systems": Section("One epoch of each system: plain loop, fit, bare loop", measure_systems, systems_table),
    "pipeline": Section("Input pipelines alone", measure_pipeline, pipeline_table),
    "accuracy": Section("Time to accuracy", measure_accuracy, accuracy_table),
    "startup": Section("Start-up", measure_startup, startup_table),
    "machine": Section("Peak rate of the machine, and share of a training step", measure_machine, machine_table),
    "operators": Section("Operators of a training step", measure_operators, operators_table),
    "load": Section("One short epoch beside busy processes: plain loop, fit, one thread", measure_load, load_table),
    "precision": Section("Precision beside busy processes", measure_precision, precision_table),
    "folder": Section("A folder of images: decoding, cache, epochs", measure_folder, folder_table),
    "scale": Section("Steps in several processes", measure_scale, scale_table),
    "one_image": Section("One image: PyTorch, torch.export and ONNX Runtime", measure_one_image, one_image_table),
    "serve": Section("Answers over HTTP: one image, batches, and many clients", measure_serve, serve_table),
}
