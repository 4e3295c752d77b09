"""``lightning-cnn export``: a checkpoint as a file for others, for another program or for another machine."""

import argparse
import tempfile
from pathlib import Path

from lightning_cnn import weights
from lightning_cnn.config.options import (
    Parser,
    add_checkpoint,
    add_overwrite,
    checkpoint_argument,
    local,
    one_of,
    require_new,
    require_writable,
)
from lightning_cnn.errors import UserError, install_extra
from lightning_cnn.files import atomic_write
from lightning_cnn.run import DEFAULT_ROOT, Run, find_runs, resolve_checkpoint
from lightning_cnn.startup import filter_warnings, quick_imports

#: The suffix of each format, the default first.
SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch_export": ".pt2", "state_dict": ".pth"}
#: A folder for a web host, in which the program is ONNX.
WEB = "web"
#: The formats with a program, which is compared with the checkpoint on the images of its data.
PROGRAMS = ("onnx", "torch_export", WEB)
#: The program in the folder of `WEB`, and the file that says that a folder is one.
_SITE_MODEL, _SITE_FILE = "model.onnx", "site.json"

_DESCRIPTION = """\
Write a checkpoint as a file to share, in one of these formats:

  safetensors   weights and description, in a format that cannot contain code
  onnx          the whole program, uint8 images (B, C, H, W) to logits and probabilities,
                for ONNX Runtime and others; preprocessing, class names and how the images
                were framed are in the file
  torch_export  the same for torch.export.load, without this package
  state_dict    the weights of the network alone, for torch.load
  web           a folder for any static web host: a page that classifies drawings and
                pictures in the browser

`predict` and `test` accept the first two in place of the checkpoint. The file is loaded
again by its own runtime. Of a program, the predictions for all test images of the data
(or all validation images, if there are none) must be those of the checkpoint; otherwise
it is not kept, and the exit status is 1. Beside the file, FILE.md is its model card. For
web, npm fetches ONNX Runtime for browsers, the first time.
"""

#: The percentage points of accuracy that 8-bit integers may cost.
_MAX_DROP = 0.3
#: How the flags begin that are those of `test`: the data to compare on, and classes of the user's own.
_OF_TEST = ("--data.", "--data=", "--model.loss", "--model.metrics.")
_EXAMPLES = """\
examples:
  lightning-cnn export logs/mnist-cnn/version_0
  lightning-cnn export best --output digits.onnx
  lightning-cnn export best --format onnx --data.data_dir /datasets
  lightning-cnn export best --output small.onnx --quantize int8
  lightning-cnn export best --format web --output site
  lightning-cnn predict digits.onnx scans/
"""


def main(argv: list[str]) -> int:
    """Run ``export`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, or the checkpoint cannot be read or exported.
    """
    arguments, flags = _parse(argv[1:])
    path = resolve_checkpoint(arguments.checkpoint, find_runs(DEFAULT_ROOT), folder_means="best")
    kind = _format(arguments, flags)
    beside = path if weights.name_of(path) is None else Path(path.name)  # not into the package
    output: Path = arguments.output or beside.with_suffix(SUFFIXES.get(kind, f".{kind}"))
    card = output / f"{_SITE_MODEL}.md" if kind == WEB else output.with_name(f"{output.name}.md")
    if kind == WEB:
        _require_folder(output)
    else:
        require_writable("--output", output, SUFFIXES[kind])
    for written in (output, card):
        require_new("--output", written, arguments.overwrite)
    filter_warnings()
    try:
        with quick_imports():
            from lightning_cnn.export.writing import Source, write_weights

            if kind in PROGRAMS:
                from lightning_cnn.export.programs import write_program
            if kind == WEB:
                from lightning_cnn.predict.model import open_model
                from lightning_cnn.serve.web import build_site, fetch_runtime
    except ModuleNotFoundError as error:
        raise UserError(f"export needs {error.name}; {install_extra('export')}") from error
    source = Source.read(path, arguments.model)
    images = source.images(flags) if kind in PROGRAMS else None
    given = arguments.max_accuracy_drop
    drop = (_MAX_DROP if given is None else given) if arguments.quantize else None
    try:
        if kind == WEB:
            assert images is not None
            fetch_runtime()  # before all images are compared, and then from the cache
            with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as scratch:
                program = Path(scratch) / _SITE_MODEL
                result = write_program(source, "onnx", program, program.name, images, drop)
                name = weights.name_of(path) or Run.of_checkpoint(path).folder.parent.name or path.stem
                build_site(program, output, open_model(program), name, result.card, arguments.overwrite)
        else:
            with atomic_write(output) as temporary, atomic_write(card) as page:
                if images is None:
                    result = write_weights(source, kind, temporary, output.name)
                else:
                    result = write_program(source, kind, temporary, output.name, images, drop)
                page.write_text(result.card, encoding="utf-8")
    except UserError as error:
        raise type(error)(f"{path} cannot be exported: {error}") from error
    agreement, quantization = result.agreement, result.quantization
    print("Compared: all weights equal to the bit" if agreement is None else f"Compared: {agreement}")
    if agreement is not None and quantization is not None:
        print(f"Quantized: {quantization}")
        print(
            f"Accuracy: {100 * agreement.accuracy:.2f} % of the {agreement.images_name}, that of the checkpoint "
            f"{100 * agreement.checkpoint_accuracy:.2f} %"
        )
    print(f"Written: {output}, {card}")
    return 0


def _format(arguments: argparse.Namespace, flags: list[str]) -> str:
    """Return the format: that given, or else the one that the name of the output says."""
    suffix = arguments.output.suffix.lower() if arguments.output else None
    of_name = next((kind for kind, known in SUFFIXES.items() if known == suffix), None)
    if suffix is not None and of_name is None and arguments.format is None:
        raise UserError(f"--output {arguments.output}: the name must end in {', '.join(SUFFIXES.values())}")
    kind: str = arguments.format or of_name or next(iter(SUFFIXES))
    if arguments.quantize and kind not in ("onnx", WEB):
        raise UserError(f"--quantize {arguments.quantize} is for --format onnx or web, not {kind}; leave one out")
    if arguments.max_accuracy_drop is not None and not arguments.quantize:
        raise UserError("--max_accuracy_drop is for --quantize int8; add that, or leave it out")
    if flags and kind not in PROGRAMS:
        raise UserError(
            f"{flags[0]} is for --format {', '.join(PROGRAMS)}: of {kind}, no images are compared; leave it out"
        )
    return kind


def _require_folder(folder: Path) -> None:
    """Refuse a path at which no page can be written: it would replace the whole folder.

    Raises:
        UserError: If there is a file or a folder of something else, or the folder around it does not exist.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; name a new folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _SITE_FILE).is_file():
        raise UserError(f"--output {folder} is a folder with other files than those of a page; name a new folder")
    if not folder.absolute().parent.is_dir():
        raise UserError(f"--output {folder}: there is no folder {folder.parent}; create it, or choose another")


def build_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser("lightning-cnn export", _DESCRIPTION, _EXAMPLES)
    add_checkpoint(parser)
    parser.add_argument(
        "--format",
        type=lambda value: one_of([*SUFFIXES, WEB], value, "value of --format"),
        metavar="|".join([*SUFFIXES, WEB]),
        help="what to write (default: what the name of --output says, otherwise safetensors)",
    )
    parser.add_argument(
        "--output",
        type=local,
        metavar="FILE",
        help="the file to write, or the folder of web (default: beside the checkpoint, with its name)",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--quantize",
        type=lambda value: one_of(("int8",), value, "value of --quantize"),
        metavar="int8",
        help="compute with 8-bit integers, per channel, calibrated on validation images; for onnx and web",
    )
    parser.add_argument(
        "--max_accuracy_drop",
        type=_points,
        metavar="POINTS",
        help="percentage points of validation accuracy that --quantize may cost; if it costs more, the file is not "
        f"kept (default: {_MAX_DROP})",
    )
    parser.add_argument(
        "--model",
        metavar="MODULE.CLASS",
        help="your own network or classifier, such as wide_mlp.WideMLP; its module is imported",
    )
    parser.add_argument(
        "--data.NAME",
        metavar="VALUE",
        help="a setting of the data to compare on, as of `test`: --data.data_dir, --data.root, or --data for your own "
        "class (default: those of the checkpoint's run)",
    )
    for name in ("--model.loss", "--model.metrics.NAME"):
        parser.add_argument(
            name, metavar="MODULE.CLASS", help="your own class that the checkpoint names, as of `test`; not exported"
        )
    return parser


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the arguments of this command, and the flags of `test` that choose other data."""
    parser = build_parser()
    own, flags = _split(argv)
    arguments = parser.parse(own)
    arguments.checkpoint = checkpoint_argument(parser, arguments)
    return arguments, flags


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 100, got {text!r}")
    return points


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments without the flags of `test` and their values, and these."""
    own: list[str] = []
    flags: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if not argument.startswith(_OF_TEST) and argument != "--data":
            own.append(argument)
            continue
        flags.append(argument)
        if "=" not in argument and (value := next(arguments, None)) is not None:
            flags.append(value)
    return own, flags
