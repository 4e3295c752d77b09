"""The process of one measurement: `python -m benchmarks plain.train '{"system": "CNN", …}'`.

The function of the module in this package gets the arguments, and what it returns is printed as the last line.
"""

import json
import sys
from importlib import import_module


def main(function: str, arguments: str) -> None:
    """Call `MODULE.FUNCTION` with arguments in JSON and print in JSON what it returns."""
    module, _, name = function.partition(".")
    result = getattr(import_module(f"benchmarks.{module}"), name)(**json.loads(arguments))
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
