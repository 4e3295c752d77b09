"""The process of one measurement: `python -m benchmarks.worker plain.train '{"system": "CNN", …}'`.

Calls a function of a module in this package with keyword arguments in JSON and prints the result in JSON, as the last
line of its output.
"""

import json
import sys
from importlib import import_module


def main(function: str, arguments: str) -> None:
    """Call `MODULE.FUNCTION`."""
    module, _, name = function.partition(".")
    print(json.dumps(getattr(import_module(f"benchmarks.{module}"), name)(**json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
