"""``python -m lightning_cnn.sweep.check``: does `fit` accept these flags?

A process of its own, so that a sweep, which only waits for its trials, does without torch and Lightning. It reads a
list of commands, each a list of arguments, as JSON from stdin, and prints the settings of the first one as JSON.
"""

import json
import os
import sys

from lightning_cnn.errors import UserError
from lightning_cnn.training.cli import settings_of


def main() -> int:
    """Check the commands on stdin; return the exit status."""
    try:
        settings = [settings_of(command) for command in json.load(sys.stdin)]
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    json.dump(settings[0], sys.stdout)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without tearing torch down, like `lightning-cnn`
