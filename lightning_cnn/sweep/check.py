"""``python -m lightning_cnn.sweep.check``: checks whether `fit` accepts commands.

`lightning-cnn sweep` runs it as a process, so that the worker imports neither torch nor Lightning. It reads a list of
commands, each a list of arguments, as JSON from stdin, and prints all settings of the first one as JSON.
"""

import json
import os
import sys

from lightning_cnn.errors import UserError
from lightning_cnn.training.parsing import settings_of


def main() -> int:
    """Check the commands on stdin and return the exit status."""
    try:
        settings = settings_of(*json.load(sys.stdin))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    json.dump(settings, sys.stdout)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without deallocating modules, like `lightning-cnn`
