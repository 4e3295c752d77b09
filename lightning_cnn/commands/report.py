"""``lightning-cnn report``: write a page about each run, and one that compares several."""

import os
from collections.abc import Mapping
from pathlib import Path

from lightning_cnn.config.options import Parser, add_overwrite, local, require_new, require_writable
from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write
from lightning_cnn.report.comparison import comparison_page, labels
from lightning_cnn.report.page import run_page
from lightning_cnn.report.summary import RunSummary, read_summary
from lightning_cnn.run import CHECKPOINT_NAMES, DEFAULT_ROOT, Run, find_runs, resolve_checkpoint
from lightning_cnn.startup import filter_warnings
from lightning_cnn.text import READABLE, printable

COMPARISON = Path("comparison.html")
#: Suffixes of checkpoints, and of what `test` takes in place of them.
_CHECKPOINTS = (".ckpt", ".safetensors", ".onnx")
#: Patterns of run folders below a folder that is not a run itself, by depth. It is not searched recursively: it may be
#: a whole disk.
_BELOW = ("version_*", "*/version_*", "*/*/version_*")


def main(argv: list[str]) -> int:
    """Run ``report`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, or a run cannot be read.
    """
    filter_warnings()
    arguments = build_parser().parse(argv[1:])
    runs = _read_runs(arguments.runs)
    output = arguments.output or (COMPARISON if len(runs) > 1 else None)
    if output is not None:
        require_writable("--output", output, ".html")
        if output.resolve() not in (Run(run.folder).report_file.resolve() for run in runs.values()):
            require_new("--output", output, arguments.overwrite)
    if len(runs) == 1:
        ((label, summary),) = runs.items()
        pages = {output or Run(summary.folder).report_file: run_page(summary, label)}
    else:
        pages = _pages(runs, output or COMPARISON)
    for run in (Run(summary.folder) for summary in runs.values()):
        if run.report_file in pages:
            run.require_inside(run.report_file)
    for path, page in pages.items():
        with atomic_write(path) as temporary:
            temporary.write_text(page, encoding="utf-8", errors=READABLE)  # file names may not be text
        print(f"Written: {printable(str(path))}")
    return 0


def _read_runs(references: list[str]) -> dict[str, RunSummary]:
    """Return the runs, each once, by their names on the pages."""
    runs = {run.folder.resolve(): run for run in map(_find_run, references)}
    names = labels([run.folder for run in runs.values()])
    return dict(zip(names, map(read_summary, runs.values()), strict=True))


def _pages(runs: Mapping[str, RunSummary], output: Path) -> dict[Path, str]:
    """Return the page of each run and, last, the one that compares them, by their files."""
    files = {label: Run(run.folder).report_file for label, run in runs.items()}
    if output.resolve() in [file.resolve() for file in files.values()]:
        raise UserError(f"--output {output} is the page of a run; name another file for the comparison")
    pages = {files[label]: run_page(run, label) for label, run in runs.items()}
    return {**pages, output: comparison_page(runs, files, output)}


def _find_run(reference: str) -> Run:
    """Return the run of a reference: a folder, a checkpoint, or the name of a checkpoint of the newest run."""
    if reference in CHECKPOINT_NAMES:
        return Run.of_checkpoint(resolve_checkpoint(reference, find_runs(DEFAULT_ROOT), folder_means=reference))
    path = Path(reference)
    run = Run.of_checkpoint(path) if path.is_file() and path.suffix in _CHECKPOINTS else Run(path)
    if run.exists():
        return run
    if not path.exists():
        raise UserError(f"{reference!r} does not exist; give a run folder, such as {DEFAULT_ROOT}/mnist-cnn/version_0")
    inside = (
        sorted(str(folder) for pattern in _BELOW for folder in path.glob(pattern) if Run(folder).exists())
        if path.is_dir()
        else []
    )
    advice = f"give a run in it, such as {inside[-1]}" if inside else "give a folder that `fit` has written"
    raise UserError(f"{reference!r} is not a run folder: it has neither config.yaml nor metrics.csv; {advice}")


def build_parser() -> Parser:
    """Return the parser of this command."""
    page = Run(Path()).report_file
    parser = Parser(
        prog="lightning-cnn report",
        description="Write a page about each run: metrics, curves, confusion matrix, mistakes and settings. Of several "
        "runs, also write a page that compares them. A page is a single HTML file that needs no network. "
        f"{page} in the run folder is always replaced, any other file only with --overwrite.",
    )
    parser.add_argument(
        "runs",
        type=os.path.expanduser,
        nargs="+",
        metavar="RUN",
        help="a run folder, a checkpoint in it, or best, last or previous of the newest run",
    )
    parser.add_argument(
        "--output",
        type=local,
        metavar="FILE",
        help=f"where to write the page of a single run (default: {page} in its folder) or the comparison of several "
        f"(default: {COMPARISON})",
    )
    add_overwrite(parser)
    return parser
