"""``lightning-cnn report``: a page about each run, and one that compares several."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from lightning_cnn.config.options import Parser, add_overwrite, require_new, require_writable
from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write
from lightning_cnn.predict.output import printable
from lightning_cnn.report.comparison import comparison_page, labels
from lightning_cnn.report.page import run_page
from lightning_cnn.report.summary import Run as RunReport
from lightning_cnn.report.summary import is_run, read_run
from lightning_cnn.run import DEFAULT_ROOT, Run, find_runs, resolve_checkpoint
from lightning_cnn.startup import filter_warnings

PAGE = "report.html"
COMPARISON = Path("comparison.html")


def main(argv: list[str]) -> int:
    """Run ``report`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, or a run cannot be read.
    """
    filter_warnings()
    arguments = _parse(argv[1:])
    runs = _read_runs(arguments.runs)
    output = arguments.output or (COMPARISON if len(runs) > 1 else None)
    if output is not None:
        require_writable("--output", output, ".html")
        require_new("--output", output, arguments.overwrite)
    if len(runs) == 1:
        ((label, run),) = runs.items()
        pages = {output or run.folder / PAGE: run_page(run, label)}
    else:
        pages = _pages(runs, output or COMPARISON)
    for path, page in pages.items():
        with atomic_write(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
        print(f"Written: {printable(str(path))}")
    return 0


def _read_runs(words: list[str]) -> dict[str, RunReport]:
    """Return the runs that are meant, each once and by what it is called."""
    folders = {folder.resolve(): folder for folder in map(_run_folder, words)}
    return dict(zip(labels([*folders]), map(read_run, folders.values()), strict=True))


def _pages(runs: Mapping[str, RunReport], output: Path) -> dict[Path, str]:
    """Return the page of each run, and after them the one that compares them, by their files."""
    files = {label: run.folder / PAGE for label, run in runs.items()}
    if output.resolve() in [file.resolve() for file in files.values()]:
        raise UserError(f"--output {output} is for the comparison, but the page of a run goes there; name another file")
    pages = {files[label]: run_page(run, label) for label, run in runs.items()}
    return {**pages, output: comparison_page(runs, files, output)}


def _run_folder(word: str) -> Path:
    """Return the run folder that is meant: itself, one of its checkpoints, or `best` or `last` of the newest run."""
    if word in ("best", "last"):
        return Run.of_checkpoint(resolve_checkpoint(word, find_runs(DEFAULT_ROOT), folder_means=word)).folder
    path = Path(word)
    if path.is_file() and path.suffix == ".ckpt":
        path = Run.of_checkpoint(path).folder
    if is_run(path):
        return path
    if not path.exists():
        raise UserError(
            f"{word!r} does not exist; give the folder of a run, such as {DEFAULT_ROOT}/mnist-cnn/version_0"
        )
    inside = sorted(str(folder) for folder in path.glob("**/version_*") if is_run(folder)) if path.is_dir() else []
    advice = f"give a run in it, such as {inside[-1]}" if inside else "give a folder that `fit` has written"
    raise UserError(f"{word!r} is not the folder of a run: it has neither config.yaml nor metrics.csv; {advice}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="lightning-cnn report",
        description="Write a page about each run: its figures, curves, confusions, mistakes and settings. Of several "
        "runs, write one more that compares them. A page is a single file that any browser opens, without a network. "
        f"The {PAGE} in the folder of a run is written anew each time; any other file is replaced only if told so.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="the folder of a run, a checkpoint in it, or `best` or `last`"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"the page to write: of one run (default: {PAGE} in its folder), or of the comparison of several "
        f"(default: {COMPARISON}; each run has its {PAGE} besides)",
    )
    add_overwrite(parser)
    return parser.parse(argv)
