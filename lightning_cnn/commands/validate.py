"""``lightning-cnn validate``: measure a checkpoint on the validation images."""

from functools import partial

from lightning_cnn.training.commands import main, parser_of

__all__ = ["build_parser", "main"]

build_parser = partial(parser_of, "validate")
