"""``lightning-cnn sweep``: a search for settings, or a run repeated over seeds or folds, by any number of workers.

Imports neither torch nor Optuna until the arguments are known to be right.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning_cnn.config import yaml as configs
from lightning_cnn.config.flags import SWITCHES
from lightning_cnn.config.options import Parser, integer, local, positive
from lightning_cnn.errors import Interrupted, UserError, did_you_mean, install_extra, reason
from lightning_cnn.sweep.records import Records, config_name, decides_result
from lightning_cnn.sweep.trial_process import RESERVED, Value, command, short_name
from lightning_cnn.text import printable

#: Checks whether `fit` accepts commands.
CHECK = (sys.executable, "-m", "lightning_cnn.sweep.check")
#: Flags that may differ between the workers of a sweep: each machine has its own folders.
_OF_THE_MACHINE = ("data.data_dir", "data.mirrors")
_DATABASE = "study.db"
_N_TRIALS = 20
_MAX_RUNS = 1000
_NAME = re.compile(r"[\w+-][\w.+-]{0,99}")
#: Options of a sweep, as suggestions for unknown ones.
_OPTIONS = ("--config", "--space", "--n_trials", "--seed", "--seeds", "--folds", "--results", "--name", "--storage")

_EPILOG = """\
a space:
  model.optimizer: [Adam, SGD]                            # a choice
  model.optimizer.lr: {from: 1e-4, to: 1e-1, log: true}   # logarithmic
  model.optimizer.momentum: {from: 0.0, to: 0.99, if: {model.optimizer: SGD}}
  data.batch_size: {from: 32, to: 256, step: 32}          # integers

Each setting is a flag of `fit` without its dashes. Each trial is a run of `fit` in its own process and folder, and its
value is the best of the metric checkpoints.monitor, by default val/acc; a search never uses the test images.
The same command again starts another worker, or resumes the sweep. A trial takes the cores that are free when it
starts; OMP_NUM_THREADS overrides that.

examples:
  lightning-cnn sweep --config configs/mnist/cnn.yaml --space configs/sweeps/cnn.yaml --n_trials 20
  lightning-cnn sweep --config configs/mnist/cnn.yaml --seeds 5 --test true
  lightning-cnn sweep --config configs/mnist/cnn.yaml --seeds 10 --test true --results results
  lightning-cnn sweep --config configs/mnist/cnn.yaml --folds 5
  lightning-cnn sweep --config configs/mnist/cnn.yaml --space configs/sweeps/cnn.yaml --storage postgresql://me@host/db
"""


def main(argv: list[str]) -> int:
    """Run ``sweep`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, the storage cannot be used, or too many trials fail.
    """
    arguments, flags = _parse(argv[1:])
    try:
        from lightning_cnn.sweep import results
        from lightning_cnn.sweep.space import build_space
        from lightning_cnn.sweep.storage import Storage, StorageError
        from lightning_cnn.sweep.study import open_study
        from lightning_cnn.sweep.tasks import Repetition, Search, repetitions
        from lightning_cnn.sweep.worker import Worker
    except ModuleNotFoundError as error:
        raise UserError(f"sweep needs {error.name}; {install_extra('sweep')}") from error
    content = None if arguments.space is None else configs.read_config(arguments.space)
    space = None if content is None else build_space(content, str(arguments.space))
    plan = repetitions(arguments.seeds, arguments.folds)
    _require_free(flags, [*plan[0]] if space is None else [*space.settings])
    purpose = {  # all that defines this sweep except its size, in plain types
        "another task of --space, --seeds and --folds": _tasks(arguments),
        "another --folds": arguments.folds,
        "another --config": configs.read_config(arguments.config),
        "another --space": content,
        "other flags for `fit`": [flag for flag in flags if _name(flag) not in _OF_THE_MACHINE],
    }
    storage = None if arguments.storage is None else Storage(arguments.storage)
    fit_config = _check(arguments, flags, [plan[0], plan[-1]] if space is None else space.examples())
    metric = fit_config["checkpoints"]
    if space is not None and fit_config["test"]:
        raise UserError("the test images are not for choosing settings: with --space, add --test false")
    records = None
    if arguments.results is not None:
        if not fit_config["test"]:
            raise UserError("--results records the test as well; add --test true")
        records = Records.of(arguments.results, arguments.config, fit_config)
        purpose["other settings of --results"] = records.hash
        if not (missing := records.missing(range(arguments.seeds))):
            print(f"All seeds are recorded.\n{results.records_line(records)}")
            return 0
        plan = [{"seed_everything": seed} for seed in missing]
    folder = Path(fit_config["trainer"]["default_root_dir"] or ".", arguments.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder of the sweep, {folder}, cannot be created ({reason(error)}); give another --name or "
            "--trainer.default_root_dir"
        ) from error
    if storage is None:
        storage = Storage(f"sqlite:///{folder.absolute() / _DATABASE}")
    task = Repetition(plan) if space is None else Search(space, arguments.n_trials, arguments.seed)
    study, backend = open_study(storage, arguments.name, task, metric["monitor"], metric["mode"], purpose)
    worker = Worker(storage, study, backend, folder, task, arguments.config, flags, fit_config, records)
    print(f"Sweep folder: {printable(str(folder))}", flush=True)
    try:
        worker.run()
    except StorageError:  # the results after the last trial are there
        raise
    except UserError:
        results.write(study, folder, fit_config)
        raise
    except Interrupted as interrupted:
        storage.patience = 0
        with suppress(StorageError), storage.failing_clearly():
            results.write(study, folder, fit_config)
        note = f"{interrupted.note}; resume with: {results.program()} {shlex.join(argv)}"
        raise Interrupted(interrupted.received, note) from interrupted
    with storage.failing_clearly():
        worker.write_records()
        print("\n" + results.write(study, folder, fit_config))
        if records is not None:
            print(results.records_line(records))
        worker.require_complete()
    return 0


def _require_free(flags: Sequence[str], varied: Sequence[str]) -> None:
    """Check that no flag sets what the sweep itself sets for its trials."""
    varied = [short_name(name) for name in varied]
    for name in map(_name, flags):
        if name in RESERVED and name != "test":
            raise UserError(f"--{name} cannot be given to a sweep, which sets it for each trial; leave it out")
        if name in varied:
            raise UserError(f"--{name} is varied by this sweep; leave it out, or remove it from the space")


def _require_recordable(arguments: argparse.Namespace, flags: Sequence[str]) -> None:
    """Check that the rows of `--results` are those of the config alone."""
    if arguments.seeds is None or arguments.folds is not None:
        raise UserError("--results records seeds; give --seeds K, and neither --folds nor --space")
    for name in map(_name, flags):
        if name != "test" and decides_result(name):
            raise UserError(
                f"--{name} changes the result, and --results records that of the config alone; write it into a config, "
                "or leave --results out"
            )


def _check(arguments: argparse.Namespace, flags: Sequence[str], examples: Sequence[dict[str, Value]]) -> dict[str, Any]:
    """Return all settings of `fit` without those of trials, if `fit` accepts them, also with each example."""
    root = [] if arguments.root is None else [f"--trainer.default_root_dir={arguments.root}"]
    commands = [["fit", "--config", str(arguments.config), *root, *flags]]
    commands += [command(arguments.config, flags, settings) for settings in examples]
    return _checked(commands)


def _checked(commands: list[list[str]]) -> dict[str, Any]:
    """Return all settings of the first command if `fit` accepts all of them; a process with torch checks it."""
    done = subprocess.run(CHECK, input=json.dumps(commands), capture_output=True, text=True, check=False)
    if done.returncode:
        message = (done.stderr.strip().splitlines() or ["`fit` cannot be checked"])[-1]
        option = message.removeprefix("there is no option ").partition(";")[0]
        if own := did_you_mean(option, _OPTIONS):  # `fit` cannot suggest these
            raise UserError(f"there is no option {option}{own}")
        raise UserError(message)
    config: dict[str, Any] = json.loads(done.stdout)
    return config


def _name(flag: str) -> str:
    """Return the setting of a flag `--name=value`; `--name+=value` adds to it."""
    return short_name(flag.removeprefix("--").partition("=")[0].removesuffix("+"))


def _join(rest: Sequence[str]) -> list[str]:
    """Return the flags of `fit`, each with its value as `--name=value`; that of a switch may be left out.

    Raises:
        UserError: If there is a value without a flag, or a flag without a value.
    """
    flags: list[str] = []
    for argument in rest:
        if argument.startswith("--"):
            flags.append(argument)
        elif flags and "=" not in flags[-1]:
            flags[-1] += f"={argument}"
        else:
            raise UserError(f"{argument!r} is not an option; flags of `fit` start with --, and have one value each")
    flags = [f"{flag}=true" if flag in SWITCHES else flag for flag in flags]
    for flag in flags:
        if "=" not in flag:
            raise UserError(f"{flag} is not an option of sweep, and a flag of `fit` needs a value: {flag} VALUE")
    return flags


def _tasks(arguments: argparse.Namespace) -> list[str]:
    return [name for name in ("space", "seeds", "folds") if getattr(arguments, name) is not None]


def build_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        prog="lightning-cnn sweep",
        usage="lightning-cnn sweep --config FILE (--space FILE | --seeds K | --folds K) [options] [flags of fit]",
        description="Search for the settings of `fit` with the best validation metric; or repeat a run over seeds or\n"
        "folds, for a mean and its confidence interval. Any number of workers share the trials.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add(
        *("-c", "--config"),
        type=lambda text: configs.find_config(local(text)),
        required=True,
        metavar="FILE",
        help="the config of all trials: a file, or a name such as mnist/cnn",
    )
    add("--space", type=local, metavar="FILE", help="the settings to search, in YAML, as below")
    trials = f"number of trials that end, complete, pruned or diverged, over all workers (default: {_N_TRIALS})"
    add("--n_trials", "--n-trials", type=positive, metavar="N", help=trials)
    add("--seed", type=integer(0), default=0, metavar="N", help="seed of the search (default: %(default)s)")
    several = integer(2, _MAX_RUNS)
    add("--seeds", type=several, metavar="K", help="repeat the run with --seed_everything 0 to K − 1; K at least 2")
    add(
        "--folds",
        type=several,
        metavar="K",
        help="cross-validation: validate on each of K parts of the training data; with --seeds, once for each seed",
    )
    add(
        "--results",
        type=local,
        metavar="DIR",
        help="with --seeds and --test true: record each seed in a row of DIR/CONFIG.csv, and run only the seeds that "
        "have none; the settings of the config must be those of the rows",
    )
    add("--name", help="name of the sweep and its folder (default: sweep-, seeds-, folds- or results-CONFIG)")
    storage = (
        "database that the workers share (default: an SQLite file in the folder of the sweep, for one machine); "
        "for several machines postgresql://USER@HOST/DATABASE, with the password in ~/.pgpass or $PGPASSWORD"
    )
    add("--storage", metavar="URL", help=storage)
    add("--trainer.default_root_dir", dest="root", metavar="DIR", help="parent of the sweep's folder (default: logs)")
    return parser


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the arguments of the sweep, and the flags of `fit`."""
    arguments, rest = build_parser().parse_known_args(argv)
    tasks = _tasks(arguments)
    if not tasks:
        raise UserError("sweep needs --space FILE, --seeds K or --folds K (see `lightning-cnn sweep --help`)")
    if arguments.space is not None and len(tasks) > 1:
        raise UserError("--space cannot be combined with --seeds or --folds; search first, then repeat the best")
    if arguments.space is None and arguments.n_trials is not None:
        raise UserError("--n_trials is for --space; --seeds and --folds set the number of trials themselves")
    arguments.n_trials = arguments.n_trials or _N_TRIALS
    flags = _join(rest)
    if arguments.results is not None:
        _require_recordable(arguments, flags)
        arguments.name = arguments.name or f"results-{config_name(arguments.config).replace('/', '-')}"
    if arguments.name is None:
        arguments.name = f"{'-'.join(tasks).replace('space', 'sweep')}-{arguments.config.stem}"
    if not _NAME.fullmatch(arguments.name):
        raise UserError(
            f"--name {configs.describe(arguments.name)} must be the name of a folder: at most 100 letters, digits "
            "and _ - . +, and no leading dot"
        )
    return arguments, flags
