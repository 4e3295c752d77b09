"""`python -m lightning_cnn` is `lightning-cnn`."""

from lightning_cnn.cli import run

run()
