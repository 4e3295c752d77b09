"""``lightning-cnn predict``: what is on image files of the user's own, with a checkpoint."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.config.options import Parser, add_overwrite, one_of, positive, require_new, require_writable
from lightning_cnn.data.facts import Framing
from lightning_cnn.data.image_files import SUFFIXES, ImageFileError, find, read, thumbnail
from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write
from lightning_cnn.predict.framing import frame
from lightning_cnn.predict.output import Prediction, printable, sink
from lightning_cnn.run import DEFAULT_ROOT, find_runs, resolve_checkpoint
from lightning_cnn.startup import filter_warnings, quick_imports

#: Images that `--plot` shows.
_SHOWN = 16
#: Seconds after which what has been read is predicted, though the batch is not full: large photographs take their time.
_PATIENCE = 1.0

_DESCRIPTION = """\
Say what is on images of your own: the class of each, how sure the network is of it
(confidence, the probability that it gives), and which class comes next.

Images of any size and colour are made like those that the network was trained on:
grey, light ink on black, cropped to the ink and placed in 28×28 pixels. Images of
28×28 pixels are taken as they are framed. What cannot be read is named on stderr,
and the rest goes on; the exit status is then 1, and 2 if the command was wrong.
Nothing is written but the files of --output and --plot.
"""

_EXAMPLES = """\
examples:
  lightning-cnn predict logs/mnist-cnn/version_0 digit.png
  lightning-cnn predict best scans/ --output predictions.csv
  lightning-cnn predict best 'scans/**/*.jpg' --plot seen.png
"""

#: Takes images `(N, 28, 28)`, and returns the best class of each, its probability, and the same of the second best.
Classify = Callable[[NDArray[np.uint8]], list[tuple[str, float, str, float]]]


class Seen(NamedTuple):
    """An image file, and what the network sees of it.

    Attributes:
        path: The file.
        pixels: Grey values 0 to 255, `(28, 28)`.
        original: A small picture of it, RGB, `(h, w, 3)`; None if it will not be drawn.
    """

    path: Path
    pixels: NDArray[np.uint8]
    original: NDArray[np.uint8] | None


class Tally:
    """Counts what was predicted and what failed, and tells of failures as they come."""

    def __init__(self) -> None:
        self.predicted = 0
        self.failed = 0

    def fail(self, name: str, error: ImageFileError) -> None:
        """Tell of a file, a folder or a pattern that nothing can be predicted of."""
        self.failed += 1
        print(f"lightning-cnn: error: {printable(name)}: {error}", file=sys.stderr, flush=True)

    def __str__(self) -> str:
        images = f"{self.predicted:,} image{'' if self.predicted == 1 else 's'} predicted"
        return images + (f", {self.failed:,} failed" if self.failed else "")


def main(argv: list[str]) -> int:
    """Run ``predict`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, or the checkpoint cannot be used.
    """
    arguments = _parse(argv[1:])
    _require_place("--output", arguments.output, (".csv", ".json"), arguments)
    _require_place("--plot", arguments.plot, (".png",), arguments)
    path = resolve_checkpoint(arguments.checkpoint, find_runs(DEFAULT_ROOT), folder_means="best")
    if str(path) != arguments.checkpoint:
        print(f"Checkpoint: {path}", file=sys.stderr)
    classify, framing = _load(path, arguments.model)
    tally = Tally()
    shown: list[tuple[Seen, Prediction]] = []
    with sink(arguments.output) as write:
        for batch in _batches(_look(arguments, framing, tally), arguments.batch_size):
            results = classify(np.stack([seen.pixels for seen in batch]))
            predictions = [Prediction(str(seen.path), *result) for seen, result in zip(batch, results, strict=True)]
            write(predictions)
            tally.predicted += len(batch)
            shown += [pair for pair in zip(batch, predictions, strict=True) if pair[0].original is not None]
    summary = str(tally)
    if arguments.output is not None:
        summary += f"; written: {arguments.output}"
    if shown:
        _draw(arguments.plot, shown)
        summary += f"; drawn: {arguments.plot}"
    print(summary, file=sys.stderr)
    return 1 if tally.failed else 0


def _require_place(option: str, path: Path | None, suffixes: tuple[str, ...], arguments: argparse.Namespace) -> None:
    """Refuse a file that cannot or must not be written, before the work rather than after it."""
    if path is None:
        return
    require_writable(option, path, *suffixes)
    if not path.exists():
        return
    images = (image for image in find(arguments.images, lambda *_: None) if os.path.exists(image))  # noqa: PTH110  # never fails
    if any(image.samefile(path) for image in images):
        raise UserError(f"{option} {path}: this is one of the images; give the name of another file")
    require_new(option, path, arguments.overwrite)


def _load(path: Path, model: str | None) -> tuple[Classify, Framing]:
    """Return what classifies images, and how these must be framed; only from here on torch is needed."""
    with quick_imports():
        import torch

        from lightning_cnn.predict.loading import load_classifier
    filter_warnings()
    content = checkpoints.read(path)
    classifier = load_classifier(content, model)
    description: checkpoints.Description = content[checkpoints.KEY]
    names = description["class_names"] or [str(number) for number in range(classifier.num_classes)]
    if len(names) != classifier.num_classes:
        raise UserError(f"{path} names {len(names)} classes, but its model has {classifier.num_classes}; take another")

    def classify(images: NDArray[np.uint8]) -> list[tuple[str, float, str, float]]:
        with torch.inference_mode():
            probabilities = classifier(torch.from_numpy(images).unsqueeze(1)).softmax(dim=1)
        best = probabilities.topk(2)
        return [
            (names[first], confidence, names[second], runner_up_confidence)
            for (first, second), (confidence, runner_up_confidence) in zip(
                best.indices.tolist(), best.values.tolist(), strict=True
            )
        ]

    return classify, _framing(description)


def _framing(description: checkpoints.Description) -> Framing:
    """How the training images were framed, as the checkpoint says."""
    framing = description["framing"] or {}
    try:
        return Framing(**framing)
    except (TypeError, ValueError) as error:
        raise UserError(f"the checkpoint has an unknown framing {framing!r}; take another") from error


def _look(arguments: argparse.Namespace, framing: Framing, tally: Tally) -> Iterator[Seen]:
    """Read one image after the other, as the network shall see it; none is held."""
    to_draw = 0 if arguments.plot is None else _SHOWN
    for path in find(arguments.images, tally.fail):
        try:
            image = read(path)
            pixels = frame(image, framing, arguments.invert, arguments.crop)
        except ImageFileError as error:
            tally.fail(str(path), error)
            continue
        yield Seen(path, pixels, thumbnail(image) if to_draw > 0 else None)
        to_draw -= 1


def _batches(images: Iterator[Seen], size: int) -> Iterator[list[Seen]]:
    batch, start = [], time.monotonic()
    for image in images:
        batch.append(image)
        if len(batch) == size or time.monotonic() - start > _PATIENCE:
            yield batch
            batch, start = [], time.monotonic()
    if batch:
        yield batch


def _draw(path: Path, shown: list[tuple[Seen, Prediction]]) -> None:
    """Draw images beside what the network saw of them."""
    from lightning_cnn.plots import figures as plots  # not before it is needed: it takes a third of a second

    originals = [seen.original for seen, _ in shown if seen.original is not None]
    captions = [
        f"{printable(seen.path.name)}\n{guess.predicted}, {100 * guess.confidence:.1f} %" for seen, guess in shown
    ]
    figure = plots.seen(originals, np.stack([seen.pixels for seen, _ in shown]), captions)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="lightning-cnn predict",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a checkpoint file, a run folder, or best or last of the newest in logs",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a file; a folder, for the images in it and in its folders that end in "
        f"{' '.join(SUFFIXES)}; or a pattern in quotes, in which ** stands for folders",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the table to a .csv or .json file instead; in a .csv, "
        "names that a spreadsheet would compute, such as =1.png, begin with ./",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help=f"draw the first {_SHOWN} images, and what the network saw, as .png"
    )
    add_overwrite(parser)
    parser.add_argument(
        "--invert",
        type=_word("--invert"),
        metavar="auto|true|false",
        help="whether ink is dark on light; auto tells by the corners of each image (default: auto)",
    )
    parser.add_argument(
        "--crop",
        type=_word("--crop"),
        metavar="auto|true|false",
        help="whether to crop to the ink and place it as in the training images; auto does so with all images that are "
        "not 28×28 (default: auto)",
    )
    parser.add_argument(
        "--batch_size", type=positive, default=256, metavar="N", help="images to predict at once (default: 256)"
    )
    parser.add_argument(
        "--model",
        metavar="MODULE.CLASS",
        help="the class of a classifier of your own, such as wide_mlp.WideMLPClassifier; its module is imported",
    )
    return parser.parse(argv)


def _word(option: str) -> Callable[[str], bool | None]:
    """Return what reads auto, true or false."""
    meanings: dict[str, bool | None] = {"auto": None, "true": True, "false": False}
    return lambda word: meanings[one_of(meanings, word, f"value of {option}")]
