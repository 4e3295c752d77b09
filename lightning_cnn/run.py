"""Where checkpoints lie."""

from pathlib import Path

from lightning_cnn.errors import UserError

#: Where a run keeps its checkpoints, below its folder.
FOLDER = "checkpoints"
#: The checkpoints of a run that can be meant by a word.
_WORDS = ("best", "last", "previous")


def resolve(reference: str, runs: list[Path], folder_means: str) -> Path:
    """Return the checkpoint file that `reference` means.

    Args:
        reference: A file, a run folder, or `best`, `last` or `previous` (the one before the last) of the newest run.
        runs: The run folders in which to look for such a word, newest first.
        folder_means: Which checkpoint of a run folder is meant, `best` or `last`.

    Raises:
        UserError: If there is no such checkpoint.
    """
    if reference in _WORDS:
        for run in runs:
            if (path := run / FOLDER / f"{reference}.ckpt").is_file():
                return path
        raise UserError(f"no fitting run has a checkpoint {reference}.ckpt; train with `fit` first, or give a file")
    path = Path(reference)
    try:
        if path.is_dir():
            path = path / FOLDER / f"{folder_means}.ckpt"
            if not path.is_file():
                raise UserError(f"{reference!r} is not the folder of a run: there is no {path}")
        if not path.exists():
            raise UserError(f"checkpoint {path} does not exist; give a file, a run folder, `best` or `last`")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"checkpoint {path} cannot be read ({reason}); give a file, a run folder, `best` or `last`"
        ) from error
    return path


def run_folders(root: Path) -> list[Path]:
    """Return the folders of all runs below `root` that have checkpoints, the one that last wrote one first."""
    folders = root.glob(f"*/version_*/{FOLDER}")
    return [folder.parent for folder in sorted(folders, key=lambda f: f.stat().st_mtime, reverse=True)]


def run_folder(path: Path) -> Path:
    """Return the run folder that a checkpoint file belongs to, or the folder it lies in."""
    return path.parent.parent if path.parent.name == FOLDER else path.parent
