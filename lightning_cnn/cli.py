"""The command line: finds the command, without importing torch, and hands over to it."""

import atexit
import errno
import gc
import os
import signal
import sys
import threading
from importlib import import_module
from types import FrameType, ModuleType
from typing import NoReturn

from lightning_cnn import __version__
from lightning_cnn.environment import is_rank_zero
from lightning_cnn.errors import Interrupted, UserError, did_you_mean
from lightning_cnn.startup import quick_imports

#: Each verb, which is a module in `lightning_cnn.commands`, and what it does.
COMMANDS = {
    "fit": "Train a classifier and keep its best and last checkpoint.",
    "validate": "Measure a checkpoint on the validation images.",
    "test": "Measure a checkpoint on the official test images.",
    "sweep": "Search for settings, or repeat a run over seeds or folds, with any number of workers.",
    "predict": "Say what is on images of your own, with a checkpoint.",
    "export": "Write a checkpoint as safetensors, to give to others.",
    "report": "Write a page about a run, or one that compares several.",
    "data": "Fetch a dataset, or verify the files of one.",
}

#: What ends a command.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: What the disk or its owner may refuse at any time.
_OUT_OF_OUR_HANDS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

_EXAMPLES = """\
examples:
  lightning-cnn fit --config configs/mnist/cnn.yaml
  lightning-cnn fit --config configs/mnist/cnn.yaml --trainer.max_epochs 1 --model.optimizer.lr 0.01
  lightning-cnn fit --ckpt_path last
  lightning-cnn test --ckpt_path best
  lightning-cnn sweep --config configs/mnist/cnn.yaml --space configs/sweeps/cnn.yaml --n-trials 20
  lightning-cnn predict logs/mnist-cnn/version_0 digits/ --output predictions.csv
  lightning-cnn export best --output digits.safetensors
  lightning-cnn report logs/mnist-cnn/version_0 logs/mnist-cnn/version_1
  lightning-cnn data verify mnist

`lightning-cnn COMMAND --help` lists the options of a command.
"""


def run() -> NoReturn:
    """Run the command of this process and leave, as Python does, but without clearing up a memory that goes away.

    Python would look for garbage among all that torch and Lightning made while they were imported, and free it piece by
    piece: 1.2 s on a core of an AMD EPYC.
    """
    for signum in _SIGNALS:
        signal.signal(signum, _interrupt)
    # When one process of several dies, torch shows where in C++ the others notice, page after page.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    status = main()
    _ignore_signals()  # the work is done
    threading._shutdown()  # type: ignore[attr-defined]  # waits for what still works; both are Python's own way out
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _interrupt(signum: int, _: FrameType | None) -> NoReturn:
    """Leave by the way that errors take, so that nothing half-written stays behind."""
    _ignore_signals()  # the way out is short, and must not be left
    raise Interrupted(
        signal.Signals(signum), already_reported=not is_rank_zero()
    )  # of several processes, the first tells


def _ignore_signals() -> None:
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments after the program's name; None takes those of the process.

    Returns:
        The exit status: 0, 1 if the work failed, 2 if the command was wrong, 130 or 143 if Ctrl-C or SIGTERM ended it.
    """
    try:
        status = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"lightning-cnn: error: {error}", file=sys.stderr)
        return error.exit_status
    except Interrupted as interrupted:
        if not interrupted.already_reported:
            print(f"lightning-cnn: {interrupted}", file=sys.stderr)
        return interrupted.exit_status
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _OUT_OF_OUR_HANDS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"lightning-cnn: error: {where}{error.strerror}; free or choose another place", file=sys.stderr)
        return 1


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"lightning-cnn {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        raise UserError(f"there is no command {argv[0]!r}{did_you_mean(argv[0], COMMANDS)}; see lightning-cnn --help")
    module = _load(argv[0])
    try:
        status: int = module.main(argv)
    finally:
        gc.unfreeze()  # what is never freed is taken for a leak by some libraries
    return status


def _load(command: str) -> ModuleType:
    if (name := f"lightning_cnn.commands.{command}") in sys.modules:
        return sys.modules[name]
    with quick_imports():
        return import_module(f"lightning_cnn.commands.{command}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    return (
        "usage: lightning-cnn COMMAND [options]\n\n"
        "Train, test and compare five published image classifiers on MNIST and Fashion-MNIST.\n\n"
        f"commands:\n{commands}\n\n"
        f"options:\n  -h, --help  Show this.\n  --version   Show the version.\n\n{_EXAMPLES}"
    )
