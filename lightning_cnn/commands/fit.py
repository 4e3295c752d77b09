"""``lightning-cnn fit``: train a classifier."""

from functools import partial

from lightning_cnn.training.commands import main, parser_of

__all__ = ["build_parser", "main"]

build_parser = partial(parser_of, "fit")
