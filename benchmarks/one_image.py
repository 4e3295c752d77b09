"""The section on one image: each system in PyTorch and in ONNX Runtime, as `serve` computes them."""

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


def measure_one_image(options: Options) -> Measurements:
    """Time both for each system, with weights as they are at the start: they do not change the speed."""
    measurements: Measurements = []
    for system, repeat, text in repeats(options):
        times = call("one_image.times", system=system, images=options.limit_batches or IMAGES)
        progress(f"{text}: {1e6 * times['eager']:.0f} µs, {1e6 * times['onnx']:.0f} µs")
        measurements.append({"system": system, "repeat": repeat, **times})
    return measurements


def one_image_table(measurements: Measurements) -> Table:
    """One row per system."""
    rows = []
    for system, runs in by(measurements, "system").items():
        eager, onnx = (column(runs, name) for name in ("eager", "onnx"))
        microseconds = [spread([1e6 * second for second in seconds], 0) for seconds in (eager, onnx)]
        threads = ", ".join(sorted({str(run["threads"]) for run in runs}))
        rows.append([system, threads, *microseconds, spread(pairwise(onnx, eager), 2)])
    return Table(
        ["system", "threads", "PyTorch: µs", "ONNX Runtime: µs", "ONNX Runtime / PyTorch"],
        rows,
        "One image of 28×28 pixels, from bytes to probabilities, in float32: medians of a process each.",
    )


def times(system: str, images: int) -> dict[str, Any]:
    """Return the seconds that an image takes in PyTorch and in ONNX Runtime, and the number of threads."""
    from lightning_cnn.startup import filter_warnings, set_environment

    set_environment()  # before torch is imported
    import numpy as np
    import onnxruntime
    import torch

    from lightning_cnn.export.onnx import to_onnx
    from lightning_cnn.export.program import Program
    from lightning_cnn.threads import num_threads

    filter_warnings()
    threads, _ = num_threads()
    torch.set_num_threads(threads)
    classifier = build(system, "", allow_sample=True)[0].eval()
    program, pixels = Program(classifier).eval(), np.zeros((1, 1, 28, 28), np.uint8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(to_onnx(classifier), options)

    def eager() -> None:
        with torch.inference_mode():
            program(torch.from_numpy(pixels))

    seconds = {
        "eager": _seconds(eager, images),
        "onnx": _seconds(lambda: session.run(None, {"images": pixels}), images),
    }
    return {**seconds, "threads": threads}


def _seconds(compute: Callable[[], object], images: int) -> float:
    for _ in range(WARM_UP):
        compute()
    seconds = []
    for _ in range(images):
        began = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - began)
    return median(seconds)
