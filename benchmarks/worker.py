"""The process of one measurement: `python -m benchmarks.worker plain.train '{"system": "CNN", …}'`.

Calls a function of a module in this package with keyword arguments in JSON and prints the result in JSON, as the last
line of its output.
"""

import json
import os
import sys
from importlib import import_module


def main(function: str, arguments: str) -> None:
    """Call `MODULE.FUNCTION`."""
    module, _, name = function.partition(".")
    measure = getattr(import_module(f"benchmarks.{module}"), name)
    # Lightning sets it when it is imported, and it slows every step; a notebook's loop does not import Lightning.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    print(json.dumps(measure(**json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
