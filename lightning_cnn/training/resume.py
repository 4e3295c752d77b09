"""Going on with a run: from where, in whose folder, and what must not be lost by it."""

from collections.abc import Collection
from pathlib import Path
from shlex import quote
from typing import Any

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.environment import job_id
from lightning_cnn.errors import UserError
from lightning_cnn.run import Run, find_runs

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
    known = [run for run in find_runs(root) if run.checkpoint("last").is_file() and run.config_file.is_file()]
    same = [run for run in known if _settings(run.read_config(), ignored) == wanted]
    of_this_job = [run for run in same if job_id() and run.read_environment().get("job") == job_id()]
    unfinished = (run for run in same if not this_job_only and not _is_finished(run, config["trainer"]))
    run = next(iter(of_this_job), None) or next(unfinished, None)
    return None if run is None else run.checkpoint("last")


def _settings(config: dict[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    """What a config says of the run, without those settings of the trainer that are ignored."""
    trainer = {name: value for name, value in config["trainer"].items() if name not in ignored}
    return {name: value for name, value in config.items() if name not in NOT_OF_THE_RUN} | {"trainer": trainer}


def _is_finished(run: Run, trainer: dict[str, Any]) -> bool:
    content = checkpoints.read(run.checkpoint("last"))
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
    if overwrite or path.parent != Run.of_checkpoint(path).checkpoints_folder or path == last or not last.is_file():
        return
    try:
        reached = checkpoints.read(last)["global_step"]
    except UserError:  # a damaged one is why there are others
        return
    if reached > content["global_step"]:
        run = quote(str(Run.of_checkpoint(path).folder))
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
