"""Going on with a run: from where, in whose folder, and what must not be lost by it."""

import json
import os
from pathlib import Path
from shlex import quote
from typing import Any

from filelock import FileLock, Timeout

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.run_folder import ENVIRONMENT, slurm_job
from lightning_cnn.errors import UserError


def with_requeued_run(argv: list[str]) -> list[str]:
    """Let a job that SLURM has put into its queue again go on with the run that it has begun; argv otherwise."""
    if argv[0] != "fit" or int(os.environ.get("SLURM_RESTART_COUNT", 0)) == 0:
        return argv
    if any(word.partition("=")[0] == "--ckpt_path" for word in argv):
        return argv
    root = Path(next((argv[i + 1] for i, word in enumerate(argv[:-1]) if word == "--trainer.default_root_dir"), "logs"))
    for run in checkpoints.run_folders(root):
        if (run / checkpoints.FOLDER / "last.ckpt").is_file() and _environment(run).get("slurm_job") == slurm_job():
            return [*argv, "--ckpt_path", str(run)]
    return argv  # it was stopped before its first step


def require_resumable(path: Path, content: dict[str, Any], overwrite: bool) -> None:
    """Refuse a checkpoint from which a run cannot go on, or would throw away what it has beyond it.

    Args:
        path: The file.
        content: What `checkpoint.read` returns for it.
        overwrite: Whether the user wants to throw that away.

    Raises:
        UserError: If one of this is so.
    """
    loops = content.get("loops", {}).get("fit_loop", {})
    if "processes" not in loops.get("state_dict", {}):
        raise UserError(
            f"{path} does not say all that it takes to go on exactly: it holds weights to share, or is of an earlier "
            "version; `test` and `predict` can use it, `fit` has to begin anew"
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


def lock(folder: Path) -> FileLock:
    """Return the lock of a run folder, held: whoever trains in it is alone. It is let go with the process.

    Raises:
        UserError: If another process trains in it.
    """
    held = FileLock(folder / ".lock")
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{folder} is being trained by another process; wait for its end, or stop it") from error
    return held


def _environment(run: Path) -> dict[str, Any]:
    path = run / ENVIRONMENT
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return record
