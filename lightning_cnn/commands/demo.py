"""``lightning-cnn demo``: a page to draw on, or to drop pictures on, that shows what models see and predict."""

from lightning_cnn.commands.serve import add_options, run
from lightning_cnn.config.options import Parser

_DESCRIPTION = """\
Serve a page in which you draw a digit, or drop, paste or choose a picture, and see what
the network sees and how it decides while you draw; several models are side by side.
It works offline, on a phone as well. It is the server of `lightning-cnn serve`, with the
same options.
"""

_EXAMPLES = """\
examples:
  lightning-cnn demo
  lightning-cnn demo logs/mnist-cnn/version_0 digits.onnx
"""


def main(argv: list[str]) -> int:
    """Run ``demo`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, a model cannot be used, or a package is missing.
        Interrupted: When a signal has ended the server.
    """
    run(build_parser().parse(argv[1:]), page=True)
    return 0


def build_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser("lightning-cnn demo", _DESCRIPTION, _EXAMPLES)
    add_options(parser, models="*")
    return parser
