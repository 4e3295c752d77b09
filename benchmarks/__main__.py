"""``scripts/benchmark``: measure the speed of everything against plain PyTorch, on this machine."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.process import call
from benchmarks.sections import SECTIONS, Options
from benchmarks.systems import BATCH_SIZE, SYSTEMS
from lightning_cnn.config.options import (
    Parser,
    add_data_dir,
    add_overwrite,
    one_of,
    positive,
    require_new,
    require_writable,
)
from lightning_cnn.data.facts import FILES
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.sources import load
from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write


def main(argv: list[str]) -> int:
    """Run ``benchmark`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, the data cannot be had, or a measurement fails.
    """
    arguments = _parse(argv[1:])
    sections = [one_of(SECTIONS, name, "section") for name in arguments.sections] or list(SECTIONS)
    systems = [one_of(SYSTEMS, name, "system") for name in arguments.systems]
    # Whatever is wrong is better known now than after an hour.
    if arguments.output is not None:
        require_writable("--output", arguments.output)
        require_new("--output", arguments.output, arguments.overwrite)
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as scratch:
        unpack(arguments.data_dir, arguments.allow_sample, Path(scratch))
        options = Options(
            repeats=arguments.repeats,
            systems=systems,
            data_dir=arguments.data_dir,
            allow_sample=arguments.allow_sample,
            torchvision_dir=Path(scratch),
            reference=arguments.reference,
            limit_batches=arguments.limit_batches,
            processes=arguments.processes,
        )
        _run(sections, options, arguments.output)
    return 0


def _run(sections: list[str], options: Options, output: Path | None) -> None:
    """Run sections, print the table of each, and write what is known after each."""
    record: dict[str, Any] = {**_header(options), "sections": {}}
    print(_headline(record), flush=True)
    for name in sections:
        section = SECTIONS[name]
        measurements = section.measure(options)
        table = section.table(measurements)
        print(f"\n## {section.title}\n\n{table}", flush=True)
        record["sections"][name] = {"title": section.title, "measurements": measurements, "table": asdict(table)}
        if output is not None:
            with atomic_write(output) as path:
                path.write_text(json.dumps(record, indent=2) + "\n")


def _header(options: Options) -> dict[str, Any]:
    """Return on what, with what and when the figures were measured."""
    return {
        "machine": call("machine.describe"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "repeats": options.repeats,
        "limit_batches": options.limit_batches,
    }


def _headline(record: dict[str, Any]) -> str:
    machine = record["machine"]
    device = f"{machine['cpu']}, {machine['threads']} threads" + (f", {machine['gpu']}" if machine["gpu"] else "")
    versions = f"Python {machine['python']}, torch {machine['torch']}, lightning {machine['lightning']}"
    repeats = f"{record['repeats']} repeat" + ("s" if record["repeats"] > 1 else "")
    limit = record["limit_batches"]
    warning = f"; ONLY {limit} BATCHES of each loop, a trial" if limit is not None else ""
    return f"{device}; {versions}; {repeats}; {record['date']}{warning}"


def unpack(data_dir: Path, allow_sample: bool, folder: Path) -> None:
    """Write both datasets into a folder as torchvision reads them: verified, and not compressed.

    Args:
        data_dir: The folder of the datasets; they are fetched into it if they are nowhere on this machine.
        allow_sample: Whether the small sample will do.
        folder: Where to write.

    Raises:
        DataError: If a dataset cannot be had.
    """
    for facts in (MNIST, FASHION_MNIST):
        raw = load(facts, data_dir, allow_sample)
        arrays = (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels)
        target = folder / facts.folder / "raw"
        target.mkdir(parents=True)
        for file, array in zip(FILES, arrays, strict=True):
            (target / file).write_bytes(_idx(array))


def _idx(array: NDArray[np.uint8]) -> bytes:
    """Return the bytes of an IDX file: the type (8: uint8), the number of axes, their lengths, the content."""
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="scripts/benchmark",
        description="Measure speed on this machine: against the loop of a notebook, against a bare loop that computes "
        "the same, against what the machine can do, and in several processes. Every measurement has processes of its "
        "own; all sections take an hour or more on two cores.",
        epilog="sections: " + "; ".join(f"{name}: {section.title}" for name, section in SECTIONS.items()),
        allow_abbrev=False,
    )
    names = "|".join(SECTIONS)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"what to measure: {names} (default: all)")
    parser.add_argument(
        "--repeats", type=positive, default=3, metavar="N", help="times to measure everything (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="a JSON file for every single measurement")
    add_overwrite(parser)
    parser.add_argument(
        "--systems",
        nargs="+",
        default=list(SYSTEMS),
        metavar="NAME",
        help=f"the systems to measure, of {', '.join(SYSTEMS)} (default: all)",
    )
    add_data_dir(parser)
    parser.add_argument(
        *("--allow_sample", "--data.allow_sample"),
        type=_boolean,
        default=False,
        metavar="true|false",
        help="whether the small sample that ships with this package will do (default: false)",
    )
    parser.add_argument(
        "--reference",
        type=_boolean,
        default=True,
        metavar="true|false",
        help="whether `accuracy` runs PyTorch's MNIST example as well, which takes minutes (default: true)",
    )
    parser.add_argument(
        "--processes",
        nargs="+",
        type=_several,
        default=[2],
        metavar="N",
        help=f"numbers of processes that `scale` compares with one, each a divisor of {BATCH_SIZE}; on GPUs if there is"
        " one for each process, otherwise on the processor, whose cores they share (default: 2)",
    )
    parser.add_argument(
        "--limit_batches", type=positive, metavar="N", help="stop every loop after N batches, to try the benchmark out"
    )
    return parser.parse(argv)


def _several(word: str) -> int:
    number = positive(word)
    if number == 1 or BATCH_SIZE % number:
        raise argparse.ArgumentTypeError(f"must be at least 2 and divide a batch of {BATCH_SIZE} images, got {word!r}")
    return number


def _boolean(word: str) -> bool:
    if word not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, got {word!r}")
    return word == "true"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv))
    except UserError as error:
        print(f"benchmark: error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
