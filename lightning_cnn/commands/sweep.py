"""``lightning-cnn sweep``: a search for settings, or a run repeated over seeds or folds, by any number of workers."""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_cnn.config import yaml as configs
from lightning_cnn.config.options import Parser, positive
from lightning_cnn.errors import UserError, did_you_mean
from lightning_cnn.predict.output import printable
from lightning_cnn.sweep.space import RESERVED, Space, Value, build_space, repetitions
from lightning_cnn.sweep.trial_process import command

#: Asks `fit` whether it would accept commands.
CHECK = (sys.executable, "-m", "lightning_cnn.sweep.check")
#: Flags that may differ between the workers of a sweep: each machine has its own folders.
_OF_THE_MACHINE = ("data.data_dir",)
_DATABASE = "study.db"
_N_TRIALS = 20
_MOST_RUNS = 1000
_NAME = re.compile(r"[\w+-][\w.+-]{0,99}")
#: What may be meant where `fit` has no such option.
_OPTIONS = ("--config", "--space", "--n-trials", "--seed", "--seeds", "--folds", "--name", "--storage")

_EPILOG = """\
a space:
  model.optimizer: [Adam, SGD]                            # a choice
  model.optimizer.lr: {from: 1e-4, to: 1e-1, log: true}   # every order of magnitude alike
  model.optimizer.momentum: {from: 0.0, to: 0.99, if: {model.optimizer: SGD}}
  data.batch_size: {from: 32, to: 256, step: 32}          # whole numbers

Each setting is a flag of `fit` without its dashes. A trial is a run of `fit` in a process and a folder of its own, and
its value the highest val/acc; the test images are never looked at by a search. The same command again is another
worker, or goes on where the last one was stopped; each trial uses all cores, so of several workers on one machine give
each its share with OMP_NUM_THREADS.

examples:
  lightning-cnn sweep --config configs/mnist/cnn.yaml --space configs/sweeps/cnn.yaml --trainer.max_epochs 3
  lightning-cnn sweep --config configs/mnist/cnn.yaml --seeds 5 --test true
  lightning-cnn sweep --config configs/mnist/cnn.yaml --folds 5
  lightning-cnn sweep --config configs/mnist/cnn.yaml --space configs/sweeps/cnn.yaml --storage postgresql://me@host/db
"""


def main(argv: list[str]) -> int:
    """Run ``sweep`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, the storage cannot be used, or too many trials fail.
    """
    arguments, flags = _parse(argv[1:])
    space = None if arguments.space is None else read_space(arguments.space)
    plan = repetitions(arguments.seeds, arguments.folds)
    _require_fitting(arguments, flags, space, plan)
    purpose = _purpose(arguments, flags)
    workers, storages, tasks = _import("worker"), _import("storage"), _import("tasks")
    storage = None if arguments.storage is None else storages.Storage(arguments.storage)
    fit_config = _ask_fit(arguments, flags, [plan[0], plan[-1]] if space is None else space.examples())
    folder = Path(fit_config["trainer"]["default_root_dir"] or ".", arguments.name)
    if storage is None:
        folder.mkdir(parents=True, exist_ok=True)
        storage = storages.Storage(f"sqlite:///{folder.absolute() / _DATABASE}")
    task = tasks.Repetition(plan) if space is None else tasks.Search(space, arguments.n_trials, arguments.seed)
    worker = workers.Worker(storage, arguments.name, folder, task, arguments.config, flags, purpose)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Sweep folder: {printable(str(folder))}", flush=True)
    worker.run()
    with storage.failing_clearly():
        print("\n" + _import("results").write(worker.study, folder, fit_config))
        worker.require_complete()
    return 0


def read_space(path: Path) -> Space:
    """Return the space that a YAML file describes.

    Raises:
        UserError: If it is no such file.
    """
    return build_space(configs.read_config(path), str(path))


def _import(module: str) -> Any:
    """Import a part of `lightning_cnn.sweep`, which needs more than is always installed."""
    try:
        return import_module(f"lightning_cnn.sweep.{module}")
    except ModuleNotFoundError as error:
        raise UserError(f"sweep needs {error.name}; install it: pip install 'lightning-cnn[sweep]'") from error


def _require_fitting(
    arguments: argparse.Namespace, flags: Sequence[str], space: Space | None, plan: Sequence[dict[str, Value]]
) -> None:
    """Refuse what cannot go together."""
    is_repetition = arguments.seeds is not None or arguments.folds is not None
    if space is not None and is_repetition:
        raise UserError("--space cannot be combined with --seeds or --folds; search first, then repeat the best")
    if space is None and not is_repetition:
        raise UserError("sweep needs --space FILE, --seeds K or --folds K (see `lightning-cnn sweep --help`)")
    if is_repetition and arguments.n_trials is not None:
        raise UserError("--n-trials is for --space; --seeds and --folds say themselves how many trials there are")
    if arguments.n_trials is None:
        arguments.n_trials = _N_TRIALS
    given = {_name(word) for word in flags}
    if "test" in given and space is not None:
        raise UserError("--test cannot go with --space: the test images are not for choosing settings; leave it out")
    for name in RESERVED:
        if name in given and name != "test":
            raise UserError(f"--{name} cannot be given to a sweep, which sees to it for each trial; leave it out")
    varied = plan[0] if space is None else space.settings
    for name in varied:
        if name in given:
            raise UserError(f"--{name} is what this sweep varies; leave it out, or take it from the space")


def _purpose(arguments: argparse.Namespace, flags: Sequence[str]) -> dict[str, Any]:
    """All that makes this sweep what it is, but for its size: the same in every command that goes on with it."""
    task = [word for word in ("space", "seeds", "folds") if getattr(arguments, word) is not None]
    purpose = {
        "another task of --space, --seeds and --folds": task,
        "another --folds": arguments.folds,
        "another --config": configs.read_config(arguments.config),
        "another --space": None if arguments.space is None else configs.read_config(arguments.space),
        "other flags for `fit`": [word for word in flags if _name(word) not in _OF_THE_MACHINE],
    }
    plain: dict[str, Any] = json.loads(json.dumps(purpose))  # as it comes back from the storage
    return plain


def _ask_fit(
    arguments: argparse.Namespace, flags: Sequence[str], examples: Sequence[dict[str, Value]]
) -> dict[str, Any]:
    """Return the settings of all trials together, if `fit` would accept them with what single trials have besides.

    Raises:
        UserError: If it would not.
    """
    root = [] if arguments.root is None else [f"--trainer.default_root_dir={arguments.root}"]
    commands = [["fit", "--config", str(arguments.config), *root, *flags]]
    commands += [command(arguments.config, flags, settings) for settings in examples]
    return _checked(commands)


def _checked(commands: list[list[str]]) -> dict[str, Any]:
    """Return all settings of the first command, if `fit` accepts all of them; a process that has torch says so."""
    asked = subprocess.run(CHECK, input=json.dumps(commands), capture_output=True, text=True, check=False)
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["`fit` cannot be asked"])[-1]
        option = reason.removeprefix("there is no option ").partition(";")[0]
        if own := did_you_mean(option, _OPTIONS):  # nearer than what `fit` suggests, which does not know them
            raise UserError(f"there is no option {option}{own}")
        raise UserError(reason)
    config: dict[str, Any] = json.loads(asked.stdout)
    return config


def _name(word: str) -> str:
    """Return the setting that a word of the form `--name=value` is for; `--name+=value` adds to it."""
    return word.removeprefix("--").partition("=")[0].removesuffix("+")


def _joined(words: Sequence[str]) -> list[str]:
    """Return flags and their values as one word each, in their order.

    Raises:
        UserError: If there is a value without a flag, or a flag without a value.
    """
    flags: list[str] = []
    waits = False
    for word in words:
        if word.startswith("--"):
            if waits:
                break
            flags.append(word)
            waits = "=" not in word
        elif not waits:
            raise UserError(f"{word!r} is not an option; flags of `fit` start with --, and have one value each")
        else:
            flags[-1] += f"={word}"
            waits = False
    if waits:
        raise UserError(f"{flags[-1]} is not an option of sweep, and a flag of `fit` needs a value: {flags[-1]} VALUE")
    return flags


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return what is for the sweep, and the flags that are for `fit`."""
    parser = Parser(
        prog="lightning-cnn sweep",
        usage="lightning-cnn sweep --config FILE (--space FILE | --seeds K | --folds K) [options] [flags of fit]",
        description="Search for the settings of `fit` with the best validation accuracy; or repeat a run over seeds\n"
        "or folds, for a mean and what it is worth. Any number of workers share the trials.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the config of all trials")
    parser.add_argument("--space", type=Path, metavar="FILE", help="what to search, in YAML, as below")
    parser.add_argument(
        *("--n-trials", "--n_trials"),
        type=positive,
        metavar="N",
        help=f"trials that shall end, complete or pruned, over all workers together (default: {_N_TRIALS})",
    )
    parser.add_argument(
        "--seed", type=_whole, default=0, metavar="N", help="where the choice of settings starts (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=_several, metavar="K", help="repeat the run with --seed_everything 0 to K − 1; K at least 2"
    )
    parser.add_argument(
        "--folds",
        type=_several,
        metavar="K",
        help="cross-validation: validate on each of K parts of the training images",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="name of the sweep and its folder (default: sweep-, seeds- or folds-CONFIG)"
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="what the workers share (default: an SQLite file in the folder of the sweep, for workers on one machine); "
        "for more machines postgresql://USER@HOST/DATABASE, with the password in ~/.pgpass or $PGPASSWORD",
    )
    parser.add_argument(
        "--trainer.default_root_dir",
        dest="root",
        metavar="DIR",
        help="where the folder of the sweep is (default: logs)",
    )
    arguments, words = parser.parse_known_args(argv)
    if arguments.name is None:
        task = "-".join(word for word in ("seeds", "folds") if getattr(arguments, word) is not None) or "sweep"
        arguments.name = f"{task}-{arguments.config.stem}"
    if not _NAME.fullmatch(arguments.name):
        raise UserError(
            f"--name {configs.describe(arguments.name)} must be the name of a folder: at most 100 letters, digits "
            "and _ - . +, with no dot first"
        )
    return arguments, _joined(words)


def _several(word: str) -> int:
    """Read a whole number from 2 to as many runs as somebody may want of the same."""
    if not word.isdecimal() or not 2 <= int(word) <= _MOST_RUNS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 2 to {_MOST_RUNS}, got {word!r}")
    return int(word)


def _whole(word: str) -> int:
    """Read a whole number of at least 0."""
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {word!r}")
    return int(word)
