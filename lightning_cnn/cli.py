"""The command line: finds the command, without importing torch, and hands over to it."""

import atexit
import errno
import gc
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from lightning_cnn import __version__, everyday, signals
from lightning_cnn.environment import require_valid
from lightning_cnn.errors import DataError, Interrupted, UserError, did_you_mean
from lightning_cnn.startup import end_with_parent, quick_imports, set_environment
from lightning_cnn.text import READABLE, printable, shorten_words

#: Each command, which is a module in `lightning_cnn.commands`, and what it does.
COMMANDS = {
    "fit": "Train a classifier and keep its best and last checkpoint.",
    "validate": "Evaluate a checkpoint on the validation images.",
    "test": "Evaluate a checkpoint on the official test images.",
    "sweep": "Search for settings, or repeat a run over seeds or folds, with any number of workers.",
    "predict": "Classify image files of your own with a checkpoint.",
    "serve": "Answer requests over HTTP with the predictions of models.",
    "demo": "Serve a page to draw on, which shows what models see and predict.",
    "export": "Write a checkpoint as a file for others: safetensors, ONNX, torch.export, a web page.",
    "report": "Write a page about a run, or one that compares several.",
    "data": "Fetch a dataset, verify its files, or remove decoded images.",
}
#: Commands that compute with a network, in as many threads as there are free cores.
_COMPUTES = ("fit", "validate", "test", "predict", "serve", "demo")
#: The names that commands have in other projects, and our command.
_ALIASES = {
    **dict.fromkeys(("train", "training", "resume"), "fit"),
    **dict.fromkeys(("val", "valid", "validation"), "validate"),
    **dict.fromkeys(("eval", "evaluate", "evaluation"), "test"),
    **dict.fromkeys(("tune", "search", "hpo", "optimize"), "sweep"),
    **dict.fromkeys(("infer", "inference", "classify", "detect"), "predict"),
    **dict.fromkeys(("server", "deploy", "api"), "serve"),
    **dict.fromkeys(("gui", "draw", "webui"), "demo"),
    **dict.fromkeys(("convert", "onnx", "save"), "export"),
    **dict.fromkeys(("compare", "plot", "summary"), "report"),
    **dict.fromkeys(("download", "fetch", "prepare", "datasets"), "data"),
}
#: What to do about some system errors; about others, free space or choose another folder.
_WAYS_OUT = {
    errno.ENAMETOOLONG: "give a shorter path",
    errno.EMFILE: "allow this process more open files, with `ulimit -n`",
    errno.ENFILE: "end other programs: too many files are open",
}
#: System errors that any command can raise which reads and writes files.
_FILE_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EFBIG, errno.EIO),
    *_WAYS_OUT,
)

_EXAMPLES = """\
examples:
  lightning-cnn fit --config configs/mnist/cnn.yaml
  lightning-cnn fit --config configs/mnist/cnn.yaml --trainer.max_epochs 1 --model.optimizer.lr 0.01
  lightning-cnn fit last
  lightning-cnn test best
  lightning-cnn test logs/mnist-cnn/version_0 logs/mnist-cnn/version_1
  lightning-cnn sweep --config configs/mnist/cnn.yaml --space configs/sweeps/cnn.yaml --n_trials 20
  lightning-cnn predict logs/mnist-cnn/version_0 digits/ --output predictions.csv
  lightning-cnn demo best
  lightning-cnn report logs/mnist-cnn/version_0 logs/mnist-cnn/version_1
  lightning-cnn data verify mnist

`lightning-cnn COMMAND --help` lists the options of a command.
"""


def run() -> NoReturn:
    """Run the command of this process and exit without deallocating modules.

    Python would free all objects of torch and Lightning one by one: 1.2 s on a core of an AMD EPYC.
    """
    signals.handle()
    end_with_parent()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the user, for example with `>&-`
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=READABLE)  # for output in ASCII, and for undecodable file names
    set_environment()
    status = main()
    signals.ignore()  # the work is done
    threading._shutdown()  # type: ignore[attr-defined]  # waits for other threads; both as Python does itself
    atexit._run_exitfuncs()
    signals.leave_closed_output()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments after the program's name; None for those of the process.

    Returns:
        The exit status: 0; 1 if the work failed; 2 if the command was wrong; 130, 143 or 129 if Ctrl-C, SIGTERM or
        SIGHUP ended it; 141 if training ended because nobody reads its output any more.
    """
    try:
        status = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except SystemExit as error:  # of a parser that has printed its help
        return int(error.code or 0)
    except UserError as error:
        _print_error(f"error: {error}", lines=isinstance(error, DataError))  # of data: a line for each source
        return error.exit_status
    except Interrupted as interrupted:
        if not interrupted.already_reported:
            _print_error(str(interrupted))
        return interrupted.exit_status
    except BrokenPipeError:
        if not signals.leave_closed_output():
            raise
        return 1  # silently, as other programs before a pipe
    except OSError as error:
        if error.errno not in _FILE_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        way_out = _WAYS_OUT.get(error.errno or 0, "free space, or choose another folder")
        _print_error(f"error: {where}{error.strerror}; {way_out}")
        return 2 if error.errno == errno.ENAMETOOLONG else 1


def _print_error(message: str, lines: bool = False) -> None:
    """Print a message whose names may come from anywhere: no control sequence, and one line unless it has `lines`."""
    parts = message.split("\n") if lines else [message]
    with suppress(BrokenPipeError):  # `2>&1 | tee`, which Ctrl-C has ended as well
        print("lightning-cnn:", shorten_words("\n".join(map(printable, parts))), file=sys.stderr)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"lightning-cnn {__version__}")
        return 0
    if argv[0] == "--print_shtab":
        from lightning_cnn.completion import script  # imports shtab

        print(script(argv[1] if argv[1:] else "SHELL", COMMANDS))
        return 0
    if (command := argv[0]) not in COMMANDS:
        meant = f"; did you mean {_ALIASES[command]!r}?" if command in _ALIASES else did_you_mean(command, COMMANDS)
        raise UserError(f"there is no command {command!r} (see `lightning-cnn --help`){meant}")
    if everyday.is_asked_for(argv):
        print(everyday.short_help(command), end="")
        return 0
    _require_working_process()
    if command in _COMPUTES:
        import_module("lightning_cnn.threads").watch()
    with quick_imports():
        module = import_module(f"lightning_cnn.commands.{command}")
    try:
        status: int = module.main(argv)
    finally:
        gc.unfreeze()  # some libraries report objects that are never freed as leaks
    return status


def _require_working_process() -> None:
    """Refuse a process that nothing can run in.

    Raises:
        UserError: If its folder has been deleted, or its environment is that of no launcher.
    """
    try:
        os.getcwd()  # noqa: PTH109  # as other packages do
    except FileNotFoundError as error:
        raise UserError("the current folder has been deleted; change to another one") from error
    require_valid()


def _help() -> str:
    commands = "\n".join(f"  {name:<8}  {summary}" for name, summary in COMMANDS.items())
    return (
        "usage: lightning-cnn COMMAND [options]\n\n"
        "Train, test and compare five published image classifiers on MNIST and Fashion-MNIST.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n  -h, --help           Show this.\n  --version            Show the version.\n"
        "  --print_shtab SHELL  Print a script for bash, zsh or fish that completes commands and options.\n\n"
        f"{_EXAMPLES}"
    )
