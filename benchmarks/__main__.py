"""`scripts/benchmark`: parse the arguments, run the sections, print a table for each.

Imports neither torch nor Lightning: every measurement runs in a process of its own.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.options import Options, write_uncompressed
from benchmarks.process import call
from benchmarks.sections import SECTIONS
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
from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write


def main(argv: list[str]) -> int:
    """Run the sections that the arguments name and return the exit status.

    Raises:
        UserError: If an argument is invalid, a dataset is not available, or a measurement fails.
    """
    arguments = _parse(argv)
    sections = [one_of(SECTIONS, name, "section") for name in arguments.sections] or list(SECTIONS)
    systems = [one_of(SYSTEMS, name, "system") for name in arguments.systems]
    # All checks come before the first measurement: a section takes minutes.
    if arguments.output is not None:
        require_writable("--output", arguments.output)
        require_new("--output", arguments.output, arguments.overwrite)
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as scratch:
        options = Options(
            repeats=arguments.repeats,
            systems=systems,
            data_dir=arguments.data_dir,
            allow_sample=arguments.allow_sample,
            torchvision_dir=Path(scratch),
            reference=arguments.reference,
            limit_batches=arguments.limit_batches,
            processes=arguments.processes,
            models=arguments.models,
            seeds=arguments.seeds,
        )
        write_uncompressed(options)
        run(sections, options, arguments.output)
    return 0


def run(sections: list[str], options: Options, output: Path | None) -> None:
    """Run sections and print the table of each; the output file is rewritten after each."""
    record: dict[str, Any] = {
        "machine": call("machine.describe"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "repeats": options.repeats,
        "limit_batches": options.limit_batches,
        "sections": {},
    }
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


def _headline(record: dict[str, Any]) -> str:
    machine = record["machine"]
    device = f"{machine['cpu']}, {machine['threads']} threads" + (f", {machine['gpu']}" if machine["gpu"] else "")
    versions = f"Python {machine['python']}, torch {machine['torch']}, lightning {machine['lightning']}"
    repeats = f"{record['repeats']} repeat" + ("s" if record["repeats"] > 1 else "")
    limit = record["limit_batches"]
    warning = "" if limit is None else f"; ONLY {limit} BATCHES of each loop, not comparable with a full run"
    return f"{device}; {versions}; {repeats}; {record['date']}{warning}"


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="scripts/benchmark",
        description="Measure the speed of `fit` on this machine: against the loop of a notebook, against a bare loop "
        "that computes the same, against the peak rate of the machine, and in several processes. Each measurement runs "
        "in a process of its own; all sections together take an hour or more on two cores.",
        epilog="sections: " + "; ".join(f"{name}: {section.title}" for name, section in SECTIONS.items()),
    )
    add = parser.add_argument
    add("sections", nargs="*", metavar="SECTION", help=f"what to measure: {', '.join(SECTIONS)} (default: all)")
    add("--repeats", type=positive, default=3, metavar="N", help="repeats of each measurement (default: %(default)s)")
    add(
        "--seeds", type=positive, default=10, metavar="N", help="seeds of `accuracy`, 0 to N − 1 (default: %(default)s)"
    )
    add("--output", type=Path, metavar="FILE", help="a JSON file for the single measurements")
    add_overwrite(parser)
    names = ", ".join(SYSTEMS)
    add("--systems", nargs="+", default=list(SYSTEMS), metavar="NAME", help=f"some of {names} (default: all)")
    add_data_dir(parser)
    add(
        *("--allow_sample", "--data.allow_sample"),
        type=_boolean,
        metavar="true|false",
        default=False,
        help="whether to use the small sample that ships with this package if a dataset is missing (default: false)",
    )
    add(
        "--reference",
        type=_boolean,
        metavar="true|false",
        default=True,
        help="whether `accuracy` also runs PyTorch's MNIST example, which takes minutes (default: true)",
    )
    add(
        "--processes",
        nargs="+",
        type=_world_size,
        default=[2],
        metavar="N",
        help=f"numbers of processes that `scale` compares with one process, divisors of {BATCH_SIZE}; they run on GPUs "
        "if there is one for each process, otherwise on the CPU, whose cores they share (default: 2)",
    )
    add(
        "--models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="checkpoints and exported files that `serve` compares (default: a `CNN` that was trained for one step)",
    )
    add("--limit_batches", type=positive, metavar="N", help="stop every loop after N batches, for a quick test")
    return parser.parse(argv)


def _world_size(value: str) -> int:
    number = positive(value)
    if number == 1 or BATCH_SIZE % number:
        raise argparse.ArgumentTypeError(f"must be at least 2 and divide a batch of {BATCH_SIZE} images, got {value!r}")
    return number


def _boolean(value: str) -> bool:
    if value not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, got {value!r}")
    return value == "true"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"scripts/benchmark: error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
