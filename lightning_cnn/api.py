"""Training from Python: `fit`, and the run that it returns.

Everything heavy is imported when it is needed, so that a trained classifier is loaded without what only training needs.
"""

import os
import shlex
import signal
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_cnn.config.flags import CommandLine, read_command_line
from lightning_cnn.errors import Interrupted, UserError
from lightning_cnn.files import atomic_write
from lightning_cnn.history import History
from lightning_cnn.run import Run
from lightning_cnn.startup import filter_warnings, quick_imports, unfrozen
from lightning_cnn.text import READABLE
from lightning_cnn.waiting import sleep_beside_others

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_cnn.predict.trained import TrainedClassifier
    from lightning_cnn.report.summary import RunSummary
    from lightning_cnn.training.cli import TrainingCLI


#: What `seed_everything` sets for processes that are started later.
_SEED = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")


def fit(
    config: str | os.PathLike[str] | None = None, *, ckpt_path: str | os.PathLike[str] | None = None, **settings: Any
) -> "TrainedRun":
    """Train a classifier, as `lightning-cnn fit` does, or resume a run.

    A setting has the name of its flag: `**{"model.optimizer.lr": 0.01}` is `--model.optimizer.lr 0.01`. Arguments of
    the trainer, the data and the model need no group: `max_epochs=3`, `batch_size=128`, `optimizer="AdamW"`; and `lr`
    is the learning rate. Settings override the config, and the config overrides the defaults.

    Args:
        config: A YAML file, or the name of a config of this package, such as `mnist/cnn`.
        ckpt_path: What to resume from: a checkpoint, a run folder (its last), or `best`, `last` or `previous` of the
            newest run.
        settings: All other settings, as plain values. A class stands for its name: `optimizer=torch.optim.AdamW`.

    Returns:
        The run, in a new folder in `logs`, or that of the run that is resumed.

    Raises:
        UserError: If a setting is wrong, or settings cannot be used together; settings are named as flags. Also with
            `fast_dev_run` and `barebones`, which write no run: `max_epochs=1`, `limit_train_batches=1` and
            `limit_val_batches=1` try a training out as quickly.
        DivergenceError: If a loss, a gradient or a weight is NaN or infinite.
        KeyboardInterrupt: If Ctrl-C interrupts it; the message says how to resume.
        Interrupted: If another signal does, such as SIGTERM of a cluster; of `lightning_cnn.errors`, no `Exception`.
    """
    line = CommandLine(
        configs=[] if config is None else [os.fspath(config)],
        checkpoint=None if ckpt_path is None else os.fspath(ckpt_path),
    )
    cli = _run("fit", line, settings)
    from lightning_cnn.training.next_commands import user_classes

    return TrainedRun(cli.current_run.folder, classes=user_classes(cli.model, cli.datamodule))


class TrainedRun:
    """A run: its folder, metrics and figures, and its classifier.

    Args:
        folder: The folder, `logs/<dataset>-<network>/version_N`.
        classes: Flags that name classes of the user's own, which the checkpoints are not trusted to name.

    Attributes:
        folder: The folder.

    Example:
        >>> run = TrainedRun("logs/mnist-cnn/version_0")
        >>> run.best.as_posix()
        'logs/mnist-cnn/version_0/checkpoints/best.ckpt'
    """

    def __init__(self, folder: str | os.PathLike[str], classes: str = "") -> None:
        self.folder = Path(folder)
        self._run = Run(self.folder)
        self._classes = read_command_line(shlex.split(classes))

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self._run.checkpoint("best")

    @property
    def last(self) -> Path:
        """The checkpoint of the last state, from which `fit(ckpt_path=…)` resumes."""
        return self._run.checkpoint("last")

    @property
    def history(self) -> History:
        """The metrics of every epoch, as far as the run has come; raises `UserError` if they are damaged."""
        return self._summary().history

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the best epoch, and those of the test if there was one; raises `UserError` if damaged."""
        summary = self._summary()
        at_best = {name: summary.at_best(name) for name in summary.history.metrics}
        tested = {} if summary.test is None else {f"test/{name}": v for name, v in summary.test.metrics.items()}
        return {name: value for name, value in (at_best | tested).items() if not np.isnan(value)}

    @property
    def plots(self) -> "dict[str, Figure]":
        """The figures of the run by name, those that there are; raises `UserError` if a file is damaged.

        `history`, `samples`, and of the test `confusion_matrix`, `calibration`, `predictions` and `mistakes`.
        """
        from lightning_cnn.report.figures import figures_of

        return figures_of(self._summary())

    def test(self, **settings: Any) -> dict[str, float]:
        """Test the best checkpoint on the official test images, as `lightning-cnn test` does.

        Args:
            settings: Settings, as for `fit`.

        Returns:
            The metrics, `test/acc` and `test/loss` among them.

        Raises:
            UserError: If there is no such checkpoint, or a setting is wrong.
        """
        line = CommandLine(checkpoint=str(self.best), flags=[*self._classes.flags])
        _run("test", line, {"verbose": False, **settings})
        metrics = self._run.read_test_metrics() or {}
        return {name: value for name, value in metrics.items() if name.startswith("test/")}

    def report(self) -> Path:
        """Write the page about the run into its folder, and return its file; an older page is replaced.

        Raises:
            UserError: If a file of the run is damaged.
        """
        from lightning_cnn.report.comparison import labels
        from lightning_cnn.report.page import run_page

        page = run_page(self._summary(), labels([self.folder])[0])
        self._run.require_inside(self._run.report_file)
        with atomic_write(self._run.report_file) as temporary:
            temporary.write_text(page, encoding="utf-8", errors=READABLE)
        return self._run.report_file

    def load(self) -> "TrainedClassifier":
        """Load the classifier with the weights of the best epoch; raises `UserError` if there is no checkpoint."""
        from lightning_cnn.predict.trained import load

        return load(self.best, model=self._classes.value("model.network") or self._classes.value("model"))

    def _summary(self) -> "RunSummary":
        from lightning_cnn.report.summary import read_summary

        if not self.folder.is_dir():
            raise UserError(f"{self.folder} is not the folder of a run; give one, such as logs/mnist-cnn/version_0")
        return read_summary(self._run)

    def __repr__(self) -> str:
        metrics: dict[str, float] = {}
        if self.folder.is_dir():
            with suppress(UserError):  # of a damaged file: a debugger shows the run all the same
                metrics = self.metrics
        shown = "".join(f", {name} {metrics[name]:.4f}" for name in ("val/acc", "test/acc") if name in metrics)
        return f"TrainedRun({str(self.folder)!r}{shown})"

    def _repr_html_(self) -> str:
        """Return the metrics and the history of the run, for a notebook."""
        from lightning_cnn.plots.style import png

        rows = "".join(f"<tr><td>{escape(name)}</td><td>{value:.4f}</td></tr>" for name, value in self.metrics.items())
        history = self.plots.get("history")
        source = "" if history is None else b64encode(png(history)).decode()
        image = f'<img src="data:image/png;base64,{source}" alt="Loss and accuracy over the epochs">' if source else ""
        return f"<p>{escape(str(self.folder))}</p><table>{rows}</table>{image}"


def _run(command: str, line: CommandLine, settings: Mapping[str, Any]) -> "TrainingCLI":
    """Run a command with settings in this process, which keeps its threads, its seed and how it rounds."""
    with _quick_imports():
        import torch

        from lightning_cnn.config.keywords import read_keywords
        from lightning_cnn.training.cli import PythonCLI
        from lightning_cnn.training.commands import run
        from lightning_cnn.training.distributed import PeerProcesses
        from lightning_cnn.training.options import schema
    line.flags += read_keywords(settings, schema(command))
    threads, flushes_denormal = torch.get_num_threads(), _flushes_denormal()
    seed = {name: os.environ.get(name) for name in _SEED}
    try:
        cli = run(command, line, PeerProcesses(), PythonCLI)
    except Interrupted as interrupted:
        if interrupted.received != signal.SIGINT:
            raise
        raise KeyboardInterrupt(str(interrupted)) from interrupted
    finally:
        sleep_beside_others(threads=1)
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes_denormal)
        for name, value in seed.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})
    assert cli is not None  # `print_config` is not a setting
    return cli


def _flushes_denormal() -> bool:
    import torch

    return torch.tensor(1e-39).mul(1).item() == 0


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Import quickly, but leave objects of the user to the garbage collector."""
    filter_warnings()  # of imports
    with unfrozen(), quick_imports():
        yield
