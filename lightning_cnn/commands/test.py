"""``lightning-cnn test``: measure a checkpoint on the test images."""

from functools import partial

from lightning_cnn.training.commands import main, parser_of

__all__ = ["build_parser", "main"]

build_parser = partial(parser_of, "test")
