"""Going on with a run: from where, in whose folder, and what must not be lost by it."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from filelock import FileLock, Timeout

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.run_folder import ENVIRONMENT
from lightning_cnn.config import yaml as configs
from lightning_cnn.environment import job
from lightning_cnn.errors import UserError

#: Settings of the trainer that say where a run is, not what it is.
_WHERE = ("accelerator", "devices", "num_nodes", "strategy", "default_root_dir")
#: What is a word to the command, not about the run.
NOT_OF_THE_RUN = ("test", "overwrite", "deterministic", "resume", "ckpt_path")


def run_to_resume(root: Path, config: dict[str, Any], this_job_only: bool = False) -> Path | None:
    """Return the last checkpoint of the newest run with these settings that goes on; None if there is none.

    That is one that this job of SLURM or torchrun has begun, or else one that has not come to its end.

    Args:
        root: Where runs are.
        config: The settings, as plain types.
        this_job_only: Leave out those that this job has not begun.

    Raises:
        UserError: If a checkpoint or a config that may be the one is damaged.
    """
    ignored = (*_WHERE, "precision") if config["trainer"]["precision"] == "auto" else _WHERE  # the run has found it out
    wanted = _settings(config, ignored)
    known = [run for run in checkpoints.run_folders(root) if _last(run).is_file() and (run / "config.yaml").is_file()]
    same = [run for run in known if _settings(configs.read(run / "config.yaml"), ignored) == wanted]
    of_this_job = [run for run in same if job() and _environment(run).get("job") == job()]
    unfinished = (run for run in same if not this_job_only and not _is_finished(run, config["trainer"]))
    run = next(iter(of_this_job), None) or next(unfinished, None)
    return None if run is None else _last(run)


def _last(run: Path) -> Path:
    return run / checkpoints.FOLDER / "last.ckpt"


def _settings(config: dict[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    """What a config says of the run, without those settings of the trainer that are ignored."""
    trainer = {name: value for name, value in config["trainer"].items() if name not in ignored}
    return {name: value for name, value in config.items() if name not in NOT_OF_THE_RUN} | {"trainer": trainer}


def _is_finished(run: Path, trainer: dict[str, Any]) -> bool:
    content = checkpoints.read(_last(run))
    epochs, steps = trainer["max_epochs"], trainer["max_steps"]
    stops = content["loops"]["fit_loop"]["state_dict"]["should_stop"]
    return bool(stops or content["epoch"] == epochs or content["global_step"] == steps)


def require_resumable(path: Path, content: dict[str, Any], config: dict[str, Any], overwrite: bool) -> None:
    """Refuse a checkpoint from which a run cannot go on as asked, or would throw away what it has beyond it.

    Args:
        path: The file.
        content: What `checkpoint.read` returns for it.
        config: What the run shall go on with, as plain types.
        overwrite: Whether the user wants to throw that away.

    Raises:
        UserError: If one of this is so.
    """
    loops = content.get("loops", {}).get("fit_loop", {})
    if "processes" not in loops.get("state_dict", {}) or not content.get("optimizer_states"):
        raise UserError(
            f"{path} does not say all that it takes to go on exactly: it holds weights to share, or is of an earlier "
            "version; `test` and `predict` can use it, `fit` has to begin anew"
        )
    _require_same_settings(content[checkpoints.KEY]["config"], config)
    epochs = config["trainer"]["max_epochs"]
    if epochs is not None and 0 < epochs < content["epoch"]:
        raise UserError(
            f"--trainer.max_epochs {epochs}: the run has had {content['epoch']} already; give at least that"
        )
    last = path.with_name("last.ckpt")
    if overwrite or path.parent.name != checkpoints.FOLDER or path == last or not last.is_file():
        return
    try:
        reached = checkpoints.read(last)["global_step"]
    except UserError:  # a damaged one is why there are others
        return
    if reached > content["global_step"]:
        run = quote(str(checkpoints.run_folder(path)))
        raise UserError(
            f"{path} is of step {content['global_step']}, but the run has reached step {reached}, which would be lost: "
            f"go on from there with `--ckpt_path {run}`, or add `--overwrite true`"
        )


def _require_same_settings(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse what a run cannot change on its way: its checkpoint would overrule it, or not fit, or mean another run."""
    if (changed := _first_difference(_kept(before), _kept(now))) is not None:
        flag, (old, new) = changed
        raise UserError(
            f"--{flag} {new}: the run has {old}, and can only go on with that; leave it out, or train a new run"
        )


def _kept(config: dict[str, Any]) -> dict[str, Any]:
    """What a run keeps from its beginning to its end: the seed, all of the model, and which data it is."""
    data = config.get("data")
    kind = data.get("class_path") if isinstance(data, dict) else data
    return {"seed_everything": config.get("seed_everything"), "model": config.get("model"), "data": kind}


def _first_difference(before: object, now: object) -> tuple[str, tuple[object, object]] | None:
    """The first setting that is not the same, named as its flag, with both values."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return None if before == now else ("", (before, now))
    for name in dict.fromkeys([*before, *now]):
        if (changed := _first_difference(before.get(name), now.get(name))) is not None:
            place = [] if name in ("class_path", "init_args") else [name]
            return ".".join([*place, *filter(None, [changed[0]])]), changed[1]
    return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run folder: whoever trains in it is alone. A process that is killed lets go as well.

    Raises:
        UserError: If another process trains in it.
    """
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{folder} is being trained by another process; wait for its end, or stop it") from error
    with lock:
        yield


def _environment(run: Path) -> dict[str, Any]:
    path = run / ENVIRONMENT
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return record
