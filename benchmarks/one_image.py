"""The section on one image: each system in PyTorch, as a program of `torch.export`, and in ONNX Runtime."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.options import Options
from benchmarks.process import call, progress
from benchmarks.report import Table, by, column, pairwise, spread
from benchmarks.section import Measurements, repeats
from benchmarks.systems import build

#: Images that are timed, after those that are not.
IMAGES, WARM_UP = 400, 30
#: What computes them: a module, a program, a file.
RUNTIMES = {"eager": "PyTorch", "exported": "torch.export", "onnx": "ONNX Runtime"}


def measure_one_image(options: Options) -> Measurements:
    """Time all for each system, with weights as they are at the start: they do not change the speed."""
    measurements: Measurements = []
    for system, repeat, text in repeats(options):
        times = call("one_image.times", system=system, images=options.limit_batches or IMAGES)
        progress(f"{text}: " + ", ".join(f"{1e6 * times[name]:.0f} µs" for name in RUNTIMES))
        measurements.append({"system": system, "repeat": repeat, **times})
    return measurements


def one_image_table(measurements: Measurements) -> Table:
    """One row per system."""
    rows = []
    for system, runs in by(measurements, "system").items():
        microseconds = [spread([1e6 * second for second in column(runs, name)], 0) for name in RUNTIMES]
        threads = ", ".join(sorted({str(run["threads"]) for run in runs}))
        ratio = spread(pairwise(column(runs, "onnx"), column(runs, "eager")), 2)
        rows.append([system, threads, *microseconds, ratio])
    return Table(
        ["system", "threads", *(f"{name}: µs" for name in RUNTIMES.values()), "ONNX Runtime / PyTorch"],
        rows,
        "One image of 28×28 pixels, from bytes to probabilities, in float32: medians of a process each.",
    )


def times(system: str, images: int) -> dict[str, Any]:
    """Return the seconds that an image takes in each runtime, and the number of threads."""
    from lightning_cnn.startup import filter_warnings, set_environment

    set_environment()  # before torch is imported
    import numpy as np
    import onnxruntime
    import torch

    from lightning_cnn.export.onnx import to_onnx, traced
    from lightning_cnn.export.program import Program
    from lightning_cnn.threads import num_threads

    filter_warnings()
    threads, _ = num_threads()
    torch.set_num_threads(threads)
    classifier = build(system, "", allow_sample=True)[0].eval()
    program, exported = Program(classifier).eval(), traced(classifier).module()
    pixels = np.zeros((1, 1, 28, 28), np.uint8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(to_onnx(classifier), options)

    def computed_by(module: Callable[..., object]) -> None:
        with torch.inference_mode():
            module(torch.from_numpy(pixels))

    return {
        "eager": _seconds(lambda: computed_by(program), images),
        "exported": _seconds(lambda: computed_by(exported), images),
        "onnx": _seconds(lambda: session.run(None, {"images": pixels}), images),
        "threads": threads,
    }


def _seconds(compute: Callable[[], object], images: int) -> float:
    for _ in range(WARM_UP):
        compute()
    seconds = []
    for _ in range(images):
        began = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - began)
    return median(seconds)
