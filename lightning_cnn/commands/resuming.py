"""Going on with a run: from where, in whose folder, and what must not be lost by it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from filelock import FileLock, Timeout

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.run_folder import ENVIRONMENT, slurm_job
from lightning_cnn.commands.arguments import requeued_run
from lightning_cnn.errors import UserError


def with_requeued_run(argv: list[str]) -> list[str]:
    """Let a job that SLURM has put into its queue again go on with the run that it has begun; argv otherwise."""
    if argv[0] != "fit" or os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        return argv

    def is_of_this_job(run: Path) -> bool:
        return (run / checkpoints.FOLDER / "last.ckpt").is_file() and _environment(run).get("slurm_job") == slurm_job()

    run = requeued_run(argv[1:], is_of_this_job)
    return argv if run is None else [*argv, "--ckpt_path", str(run)]  # none: it was stopped before its first step


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
