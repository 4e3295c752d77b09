"""`python -m lightning_cnn` is `lightning-cnn`."""

import sys

from lightning_cnn.cli import main

sys.exit(main())
