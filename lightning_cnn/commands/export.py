"""``lightning-cnn export``: a checkpoint as safetensors, to give to others."""

import argparse
from pathlib import Path

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.config.options import Parser, add_overwrite, require_new, require_writable
from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write
from lightning_cnn.run import DEFAULT_ROOT, find_runs, resolve_checkpoint
from lightning_cnn.startup import quick_imports

_DESCRIPTION = """\
Write the weights of a checkpoint, and what it says of itself, as safetensors: a file
that cannot hold code, without what only training needs, and with a checksum of all
that is in it. `predict`, `validate` and `test` take it like the checkpoint itself.
"""

_EXAMPLES = """\
examples:
  lightning-cnn export logs/mnist-cnn/version_0
  lightning-cnn export best --output digits.safetensors
  lightning-cnn predict digits.safetensors scans/
"""


def main(argv: list[str]) -> int:
    """Run ``export`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, or the checkpoint cannot be read or shared.
    """
    arguments = _parse(argv[1:])
    path = resolve_checkpoint(arguments.checkpoint, find_runs(DEFAULT_ROOT), folder_means="best")
    with quick_imports():
        from lightning_cnn.checkpoint import safetensors as shared
    output: Path = arguments.output or path.with_suffix(shared.SUFFIX)
    require_writable("--output", output, shared.SUFFIX)
    require_new("--output", output, arguments.overwrite)
    try:
        data = shared.dump(checkpoints.read(path))
    except TypeError as error:
        raise UserError(f"{path} cannot be shared: settings of its model are not plain ({error})") from error
    with atomic_write(output) as temporary:
        temporary.write_bytes(data)
    print(f"Written: {output}")
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="lightning-cnn export",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a checkpoint file, a run folder (for its best), or best, last or previous of the newest in logs",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the .safetensors file to write (default: the checkpoint's name with that ending, beside it)",
    )
    add_overwrite(parser)
    return parser.parse(argv)
