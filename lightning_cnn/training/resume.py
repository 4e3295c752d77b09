"""Resuming a run: which one, and what it must keep."""

import re
from pathlib import Path
from shlex import quote
from typing import Any

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import weights as shipped
from lightning_cnn.classifiers.network import PRETRAINED
from lightning_cnn.config.class_settings import is_class
from lightning_cnn.config.places import PLACES, SIZES
from lightning_cnn.config.yaml import MAX_BYTES, dump
from lightning_cnn.data import ImageDataModule
from lightning_cnn.environment import job_id
from lightning_cnn.errors import UserError
from lightning_cnn.files import sha256
from lightning_cnn.run import Run, find_runs

#: Settings of the trainer that say where a run is trained, not what it is.
_WHERE = ("accelerator", "devices", "num_nodes", "strategy", "default_root_dir")
#: Settings of the data that a resumed run may change, or that are compared in another way.
_FREE = (*PLACES, *SIZES, "allow_sample")
#: What weights may be named, such as `DEFAULT`, `ResNet18_Weights.IMAGENET1K_V1` or `True`.
_NAME = re.compile(r"\w+(\.\w+)*\Z")
#: Options of the command that are not settings of the run.
RUN_OPTIONS = ("test", "overwrite", "deterministic", "resume")


def run_to_resume(root: Path, config: dict[str, Any], this_job_only: bool = False) -> Path | None:
    """Return the last checkpoint of the newest run with these settings that can be resumed; None if there is none.

    That is a run that this SLURM or torchrun job has started, or else one that is not finished: not trained to its end,
    or not tested although `config` asks for a test.

    Args:
        root: Where runs are.
        config: The settings, as plain values.
        this_job_only: Leave out runs that this job has not started.

    Raises:
        UserError: If the checkpoint or the config of a run that may be the one is damaged.
    """
    ignored = {*_WHERE, "precision"} if config["trainer"]["precision"] == "auto" else {*_WHERE}  # runs record a choice

    def compared(settings: dict[str, Any]) -> dict[str, Any]:
        trainer = {name: value for name, value in settings["trainer"].items() if name not in ignored}
        kept = {name: value for name, value in settings.items() if name not in RUN_OPTIONS} | {"trainer": trainer}
        return _without_batch_sizes(kept) if finds_batch_size(config) else kept

    wanted = compared(config)
    partly = ("trainer", "data") if finds_batch_size(config) else ("trainer",)
    parts = [dump({name: value}).encode() for name, value in wanted.items() if name not in partly]
    of_trainer = wanted["trainer"].items()
    parts += [dump({"trainer": {name: value}}).removeprefix("trainer:\n").encode() for name, value in of_trainer]
    verdicts: dict[bytes, bool] = {}  # many runs may have the same settings

    def is_wanted(run: Run) -> bool:
        if run.config_file.stat().st_size > MAX_BYTES:
            return False
        recorded = run.config_file.read_bytes()
        if recorded not in verdicts:
            # The same settings have these parts, as `dump` writes them; parsing takes a hundred times as long.
            is_possible = all(part in recorded for part in parts)
            settings = run.read_config() if is_possible else {}
            has_parts = all(isinstance(settings.get(name), dict) for name in ("trainer", "data"))
            verdicts[recorded] = has_parts and compared(settings) == wanted
        return verdicts[recorded]

    known = [run for run in find_runs(root) if run.checkpoint("last").is_file() and run.config_file.is_file()]
    same = [run for run in known if is_wanted(run)]
    job = job_id()
    of_this_job = (run for run in same if job and run.read_environment().get("job") == job)
    trainer = config["trainer"]
    unfinished = (run for run in same if not _is_trained(run, trainer) or (config["test"] and not _is_tested(run)))
    run = next(of_this_job, None) or (None if this_job_only else next(unfinished, None))
    return None if run is None else run.checkpoint("last")


def finds_batch_size(config: dict[str, Any]) -> bool:
    """Whether a callback of a run looks for its batch size; the run records the one that was found."""
    callbacks = config["trainer"].get("callbacks") or []
    return any(callback["class_path"].endswith(".BatchSizeFinder") for callback in callbacks)


def _without_batch_sizes(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings of which the batch sizes are left out."""
    arguments = checkpoints.init_args(settings["data"])
    kept = {name: value for name, value in arguments.items() if name not in ("batch_size", "eval_batch_size")}
    return {**settings, "data": {**settings["data"], "init_args": kept}}


def _is_trained(run: Run, trainer: dict[str, Any]) -> bool:
    """Whether a run has reached its last epoch or step, which is quick to read, or a callback has stopped it."""
    last = run.checkpoint("last")
    epoch, step = checkpoints.read_progress(last)
    if epoch == trainer["max_epochs"] or step == trainer["max_steps"]:
        return True
    return bool(checkpoints.read(last).get("loops", {}).get(checkpoints.RESUME_KEY, {}).get("has_stopped"))


def _is_tested(run: Run) -> bool:
    """Whether the best weights have been tested; a test from before the run was resumed does not count."""
    if not (best := run.checkpoint("best")).is_file():  # deleted: there is nothing to test
        return True
    if (results := run.read_test_metrics()) is None:
        return False
    is_newer = run.test_metrics_file.stat().st_mtime >= best.stat().st_mtime  # unless the folder was copied
    return is_newer or results.get("checkpoint_sha256") == sha256(best)


def require_resumable(path: Path, content: dict[str, Any], config: dict[str, Any], overwrite: bool) -> None:
    """Refuse a checkpoint from which the run cannot be resumed as asked, or only by discarding later steps.

    Args:
        path: The file.
        content: What `checkpoint.read` returns for it.
        config: The settings to resume with, as plain values.
        overwrite: Whether the user wants to discard them.

    Raises:
        UserError: If it cannot, or if it would discard later steps and `overwrite` is false.
    """
    if not content.get("loops", {}).get("fit_loop") or not content.get("optimizer_states"):
        if name := shipped.name_of(path):
            raise UserError(
                f"{name} has weights, and no training state to resume; `fit --config {name}` trains with its config, "
                f"--model.weights {name} starts from its weights"
            )
        raise UserError(
            f"{path} has no training state to resume; `test` and `predict` can use it, for `fit` start a new run"
        )
    before = content[checkpoints.KEY]["config"]
    if _has_teachers(before) and not _has_teachers(config):
        raise UserError(
            f"{path} was trained with teachers, whose files a checkpoint does not name; add --distillation.teachers "
            "[TEACHER, …]"
        )
    changed = _first_difference(_kept(before, before), _kept(config, before))
    if changed is not None:
        flag, (old, new) = changed
        raise UserError(
            f"--{flag} {new}: the run has {old}, which it keeps when it is resumed; leave it out, or train a new run"
        )
    epochs = config["trainer"]["max_epochs"]
    if epochs is not None and 0 < epochs < content["epoch"]:
        raise UserError(
            f"--trainer.max_epochs {epochs}: the run has trained {content['epoch']} epochs already; give at least that"
        )
    run = Run.of_checkpoint(path)
    last = run.checkpoint("last")
    if overwrite or not run.has_checkpoint(path) or path == last or not last.is_file():
        return
    try:
        reached = checkpoints.read(last)["global_step"]
    except UserError:  # if it is damaged, an earlier checkpoint replaces it
        return
    if reached > content["global_step"]:
        raise UserError(
            f"{path} is of step {content['global_step']}, but the run has reached step {reached}; resume from there "
            f"with `fit {quote(str(run.folder))}`, or add `--overwrite true` to discard those steps"
        )


def require_same_batches(content: dict[str, Any], datamodule: ImageDataModule, processes: int) -> None:
    """Refuse another number of images per step: images would be left out or repeated, and schedules would not fit.

    Args:
        content: What `checkpoint.read` returns for the checkpoint.
        datamodule: The data to resume with.
        processes: The number of processes to resume with.

    Raises:
        UserError: If the number differs.
    """
    before = checkpoints.init_args(content[checkpoints.KEY]["config"].get("data"))
    ranks = content["loops"].get(checkpoints.RESUME_KEY, {}).get("ranks", [])
    if not ranks or "batch_size" not in before:  # a checkpoint of Lightning's Trainer
        return
    old = before.get("global_batch_size") or before["batch_size"] * len(ranks)
    new = datamodule.global_batch_size or datamodule.batch_size * processes
    if new != old:
        raise UserError(
            f"the run has {old} images per step, which it keeps when it is resumed, not {new}; give "
            f"--data.global_batch_size {old} and no --data.batch_size, or train a new run"
        )


def _kept(config: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that a resumed run cannot change, as far as they are `stored` in its checkpoint.

    The checkpoint would override those of the model. Other training images, in another order, would be another run;
    the number of images per step is compared elsewhere, as it depends on the number of processes.
    """
    if "trainer" not in stored:  # Lightning's Trainer stores the classes and their numbers only
        return {name: (config.get(name) or {}).get("class_path") for name in ("model", "data") if name in stored}
    kept = {name: config.get(name) for name in ("seed_everything", "model", "data")}
    if _has_teachers(config):
        kept["distillation"] = {**config["distillation"], "teachers": len(config["distillation"]["teachers"])}
    kept["model"] = _without_pretrained(kept["model"])
    if isinstance(kept["data"], dict) and isinstance(kept["data"].get("init_args"), dict):
        kept["data"] = {**kept["data"], "init_args": kept["data"]["init_args"] | dict.fromkeys(_FREE)}
    return kept


def _has_teachers(config: dict[str, Any]) -> bool:
    distillation = config.get("distillation")
    teachers = distillation.get("teachers") if isinstance(distillation, dict) else None
    return isinstance(teachers, list) and bool(teachers)


def _without_pretrained(model: Any) -> Any:
    """Return the settings of a model without those that load weights into its network: a checkpoint has its own."""
    if is_class(model):
        model = {**model, "init_args": {k: v for k, v in (model.get("init_args") or {}).items() if k != "weights"}}
    if (network := _network_of(model)) is None:
        return model
    given = {name: value for name, value in (network.get("init_args") or {}).items() if name not in PRETRAINED}
    return {**model, "init_args": {**model["init_args"], "network": {**network, "init_args": given}}}


def _network_of(model: Any) -> dict[str, Any] | None:
    """Return the class of the network in the settings of a model, with its arguments; None if there is none."""
    network: Any = (model.get("init_args") or {}).get("network") if is_class(model) else None
    return network if is_class(network) else None


def with_pretrained(model: Any, before: Any, own: Any) -> Any:
    """Return the settings of a resumed model with what its network was pretrained with, as a record.

    The network is built without, because the checkpoint has its weights. Of a checkpoint, only names are kept, no paths
    or addresses.

    Args:
        model: The settings of the model.
        before: Those in the checkpoint.
        own: Those in the `config.yaml` of the run that is resumed; None for a checkpoint from elsewhere.
    """
    if is_class(model) and "weights" in (given := model.get("init_args") or {}):
        start = name if (name := _weights_of(before)) in shipped.read_manifest() else None
        model = {**model, "init_args": {**given, "weights": _weights_of(own) or start}}
    old, new = (_network_of(before), _network_of(model))
    if old is None or new is None:
        return model
    given = {name: v for name, v in (old.get("init_args") or {}).items() if name in PRETRAINED and _NAME.match(str(v))}
    network = {**new, "init_args": given | (new.get("init_args") or {})}
    return {**model, "init_args": {**model["init_args"], "network": network}}


def _weights_of(model: Any) -> Any:
    """Return what a model starts from, by its settings."""
    return (model.get("init_args") or {}).get("weights") if is_class(model) else None


def _first_difference(before: object, now: object) -> tuple[str, tuple[object, object]] | None:
    """Return the flag of the first setting that differs, with both values; None if none does."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return None if before == now else ("", (before, now))
    for name in dict.fromkeys([*before, *now]):
        if (changed := _first_difference(before.get(name), now.get(name))) is not None:
            place = [] if name in ("class_path", "init_args") else [name]
            return ".".join([*place, *filter(None, [changed[0]])]), changed[1]
    return None
