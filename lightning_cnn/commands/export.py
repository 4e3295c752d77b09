"""``lightning-cnn export``: a checkpoint as a safetensors file, to share."""

import argparse
from pathlib import Path

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.config.options import (
    Parser,
    add_checkpoint,
    add_overwrite,
    checkpoint_argument,
    local,
    require_new,
    require_writable,
)
from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write
from lightning_cnn.run import DEFAULT_ROOT, find_runs, resolve_checkpoint
from lightning_cnn.startup import quick_imports

_DESCRIPTION = """\
Write the weights of a checkpoint and its description as a safetensors file, which
cannot contain code. It has no training state, and a checksum of its content.
`predict`, `validate` and `test` accept it in place of the checkpoint.
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
        raise UserError(
            f"{path} cannot be exported: hyperparameters of its model are not plain values ({error})"
        ) from error
    with atomic_write(output) as temporary:
        temporary.write_bytes(data)
    print(f"Written: {output}")
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("lightning-cnn export", _DESCRIPTION, _EXAMPLES)
    add_checkpoint(parser)
    parser.add_argument(
        "--output",
        type=local,
        metavar="FILE",
        help="the .safetensors file to write (default: beside the checkpoint, with its name)",
    )
    add_overwrite(parser)
    arguments = parser.parse(argv)
    arguments.checkpoint = checkpoint_argument(parser, arguments)
    return arguments
