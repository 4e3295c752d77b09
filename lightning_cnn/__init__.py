"""Five published image classifiers on MNIST and Fashion-MNIST, trained and compared from one command line."""

__version__ = "0.1.0"
