"""`python -m lightning_cnn` is `lightning-cnn`."""

from lightning_cnn.cli import run

if __name__ == "__main__":  # not in the workers of `serve`, which import it
    run()
