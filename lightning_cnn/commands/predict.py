"""``lightning-cnn predict``: the classes of image files, predicted with a checkpoint."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from lightning_cnn.checkpoint.onnx import is_onnx_file
from lightning_cnn.config.options import (
    Parser,
    add_checkpoint,
    add_overwrite,
    checkpoint_argument,
    local,
    one_of,
    positive,
    require_new,
    require_writable,
)
from lightning_cnn.data.image_files import DOCUMENTS, SUFFIXES
from lightning_cnn.data.image_paths import find, require_local
from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.errors import UserError
from lightning_cnn.predict.model import open_model
from lightning_cnn.predict.output import STDOUT, draw, writer
from lightning_cnn.predict.pipeline import Predictor, predict_images, read_files
from lightning_cnn.predict.prediction import Prediction
from lightning_cnn.predict.views import MAX_SHOWN
from lightning_cnn.run import DEFAULT_ROOT, Run, find_runs, resolve_checkpoint
from lightning_cnn.text import printable, shorten_words
from lightning_cnn.threads import num_threads, set_num_threads

_DESCRIPTION = """\
Predict the classes of your own images: print the most likely class of each image,
its confidence (the probability that the network gives it), and the runner-up.

Images of any size and colour are made similar to the training images. For MNIST and
Fashion-MNIST: grey, light foreground on black, cropped to the foreground and placed in
28×28 pixels; images of 28×28 pixels that are like this are used as they are. An answer
that may be wrong is called unclear, and why. For a folder of images: of the same size
and colour as those were made. Of an animation it is the first frame; every page of a
TIFF or PDF is an image, scan.pdf[2] for example. Files that cannot be read are named on
stderr and skipped; the exit status is then 1, and 2 if an argument was wrong. Nothing is
written but the files of --output and --plot.
"""

_EXAMPLES = """\
examples:
  lightning-cnn predict logs/mnist-cnn/version_0 digit.png
  lightning-cnn predict --ckpt_path best scans/ --output predictions.csv
  lightning-cnn predict best 'scans/**/*.jpg' --plot seen.png
  lightning-cnn predict digits.onnx digit.png
  curl https://example.org/digit.png | lightning-cnn predict best - --output - | cut -d, -f2
"""


def main(argv: list[str]) -> int:
    """Run ``predict`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, or the checkpoint cannot be used.
    """
    arguments = _parse(argv[1:])
    require_local(arguments.images)
    if arguments.images.count("-") > 1:
        raise UserError("- is given twice, but stdin can be read once; give it once")
    if "-" in arguments.images and sys.stdin is not None and sys.stdin.isatty():
        raise UserError("- reads an image from stdin, which is a terminal; pipe one into it, or name a file")
    kind = _format(arguments)
    if arguments.output != STDOUT:
        _check_output("--output", arguments.output, (".csv", ".json"), arguments)
    _check_output("--plot", arguments.plot, (".png",), arguments)
    path = resolve_checkpoint(arguments.checkpoint, find_runs(DEFAULT_ROOT), folder_means="best")
    if str(path) != arguments.checkpoint:
        print(f"Checkpoint: {path}", file=sys.stderr)
    threads, message = num_threads() if is_onnx_file(path) else (None, set_num_threads())
    if message:
        print(message, file=sys.stderr)
    predicted = failed = 0

    def on_error(name: str, error: ImageFileError) -> None:
        nonlocal failed
        failed += 1
        print(f"lightning-cnn: error: {shorten_words(printable(name))}: {error}", file=sys.stderr, flush=True)

    plotted: list[Prediction] = []
    predictor = Predictor(open_model(path, arguments.model, threads))
    for option in ("invert", "crop"):
        if getattr(arguments, option) is not None and not predictor.frames_foreground:
            raise UserError(
                f"--{option} is for images that are framed by their foreground, as MNIST's; {path} was trained on "
                "whole images, so leave it out"
            )
    batches = predict_images(
        predictor,
        read_files(arguments.images, on_error, predictor.fill),
        on_error,
        invert=arguments.invert,
        crop=arguments.crop,
        batch_size=arguments.batch_size,
        num_thumbnails=0 if arguments.plot is None else MAX_SHOWN,
    )
    with writer(arguments.output, kind) as write:
        for batch in batches:
            write(batch)
            predicted += len(batch)
            plotted += [prediction for prediction in batch if prediction.original is not None]
    if plotted:
        draw(arguments.plot, plotted)
    summary = f"{predicted:,} image{'' if predicted == 1 else 's'} predicted"
    summary += f", {failed:,} failed" if failed else ""
    summary += f"; written: {arguments.output}" if arguments.output not in (None, STDOUT) else ""
    summary += f"; drawn: {arguments.plot}" if plotted else ""
    print(summary, file=sys.stderr)
    return 1 if failed else 0


def _format(arguments: argparse.Namespace) -> str:
    """Return the format of the output, and let `--format` alone mean stdout."""
    if arguments.format and arguments.output is None:
        arguments.output = STDOUT
    of_name = {".csv": "csv", ".json": "json"}.get(arguments.output.suffix.lower()) if arguments.output else None
    if arguments.format and of_name and arguments.format != of_name:
        raise UserError(f"--output {arguments.output} is not of --format {arguments.format}; leave one of them out")
    return arguments.format or of_name or "csv"


def _check_output(option: str, path: Path | None, suffixes: tuple[str, ...], arguments: argparse.Namespace) -> None:
    """Reject a file that cannot be written or must not be replaced, before any work."""
    if path is None:
        return
    require_writable(option, path, *suffixes)
    images = find(arguments.images, lambda *_: None) if path.exists() else ()
    if any(os.path.exists(image) and image.samefile(path) for image in images):  # noqa: PTH110  # never raises
        raise UserError(f"{option} {path} is one of the images; choose another file")
    require_new(option, path, arguments.overwrite)


def build_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser("lightning-cnn predict", _DESCRIPTION, _EXAMPLES)
    add_checkpoint(parser)
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a file; - for stdin; a folder, for its images and those of its subfolders that end in "
        f"{' '.join(SUFFIXES + DOCUMENTS)}; or a quoted pattern, in which ** stands for subfolders",
    )
    parser.add_argument(
        "--output",
        type=local,
        metavar="FILE",
        help="write the predictions to a .csv or .json file instead of a table to stdout, or with - as CSV to stdout; "
        "in CSV, names that are formulas in a spreadsheet, such as =1.png, begin with ./",
    )
    parser.add_argument(
        "--format",
        type=lambda value: one_of(("csv", "json"), value, "value of --format"),
        metavar="csv|json",
        help="the format that --output - writes (default: csv); without --output it means --output -",
    )
    parser.add_argument(
        "--plot",
        type=local,
        metavar="FILE",
        help=f"draw the first {MAX_SHOWN} images, and what the network sees of them, as .png",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--invert",
        type=_auto_or_bool("--invert"),
        metavar="auto|true|false",
        help="whether the foreground is dark on light; auto decides by its thin marks and its corners (default: auto)",
    )
    parser.add_argument(
        "--crop",
        type=_auto_or_bool("--crop"),
        metavar="auto|true|false",
        help="whether to crop to the foreground and place it as in the training images; auto does so for all images "
        "but those of 28×28 in which it is placed so already (default: auto)",
    )
    parser.add_argument("--batch_size", type=positive, default=256, metavar="N", help="images per batch (default: 256)")
    parser.add_argument(
        "--model",
        metavar="MODULE.CLASS",
        help="your own network or classifier, such as wide_mlp.WideMLP; its module is imported",
    )
    return parser


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = build_parser()
    arguments = parser.parse(argv)
    if arguments.checkpoint is None and arguments.ckpt_path is None:
        parser.error(f"give a checkpoint and at least one image, got only {arguments.images[0]!r}")
    given = arguments.checkpoint
    if arguments.ckpt_path and given and not Run(Path(given)).checkpoints_folder.is_dir():
        arguments.images.insert(0, given)  # all positional arguments are images
        arguments.checkpoint = None
    arguments.checkpoint = checkpoint_argument(parser, arguments)
    arguments.images = [os.path.expanduser(image) for image in arguments.images]  # noqa: PTH111  # of a quoted pattern
    return arguments


def _auto_or_bool(option: str) -> Callable[[str], bool | None]:
    values: dict[str, bool | None] = {"auto": None, "true": True, "false": False}
    return lambda value: values[one_of(values, value, f"value of {option}")]
