"""TensorBoard's event files, in the run folder."""

import io
import shutil
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Columns of the HParams tab whatever a run has; it takes all columns from one of its runs. Values stand for types.
_COLUMNS: dict[str, str | float | bool] = {
    "seed_everything": 0,
    "trainer.max_epochs": 0,
    "trainer.precision": "",
    "model": "",
    "model.optimizer": "",
    "model.optimizer.lr": 0.0,
    "model.optimizer.momentum": 0.0,
    "model.optimizer.weight_decay": 0.0,
    "model.scheduler": "",
    "data": "",
    "data.augment": "",
    "data.batch_size": 0,
}


class TensorBoard(TensorBoardLogger):
    """Writes events into the run folder, and nothing else: `config.yaml` has the hyperparameters.

    Args:
        folder: The run folder.
        first_step: Where a run goes on; what an earlier one wrote of this step and later ones is not shown any more.
    """

    def __init__(self, folder: Path, first_step: int | None = None) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False, purge_step=first_step)
        self._is_closed = False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what still waits in memory, and close the file; a signal may have interrupted just that."""
        if not self._is_closed:
            self._is_closed = True
            super().finalize(status)

    @rank_zero_only
    def save(self) -> None:
        """Write what still waits in memory."""
        self.experiment.flush()


def has_events(folder: Path) -> bool:
    """Whether a run has left events in its folder."""
    return any(folder.glob("events.out.tfevents.*"))


def add_hyperparameters(writer: SummaryWriter, values: dict[str, str | float | bool], figures: Collection[str]) -> None:
    """Add the hyperparameters of a run to the HParams tab, which shows the scalars named `figures` beside them."""
    names = dict.fromkeys(figures, 0.0)  # no values: those are the scalars'
    for_all_runs, _, _ = hparams({**_COLUMNS, **values}, names)  # type: ignore[no-untyped-call]
    _, of_this_run, _ = hparams(values, names)  # type: ignore[no-untyped-call]
    _add(writer, for_all_runs)
    _add(writer, of_this_run)


def add_png(writer: SummaryWriter, tag: str, png: bytes, step: int) -> None:
    """Add a picture that is drawn and compressed already; `SummaryWriter.add_image` would do both again."""
    image = Summary.Image(encoded_image_string=png, colorspace=4)
    _add(writer, Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def add_figure(writer: SummaryWriter, tag: str, figure: "Figure", step: int) -> None:
    """Add a figure; `SummaryWriter.add_figure` would import pyplot, with its windows and its global state."""
    file = io.BytesIO()
    # Hardly compressed: a confusion matrix, which training waits for, takes 47 ms instead of 54.
    figure.savefig(file, format="png", dpi=120, pil_kwargs={"compress_level": 1})
    add_png(writer, tag, file.getvalue(), step)


def add_graph(writer: SummaryWriter, network: nn.Module, example: Tensor) -> None:
    """Add the layers of a network, as they handle an example of its input."""
    with warnings.catch_warnings():
        # TensorBoard's graphs can be had from nothing but the tracer that torch is giving up.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.trace\w*` is (deprecated|not supported)")
        writer.add_graph(network, example)


def add_embedding(
    writer: SummaryWriter, tag: str, features: Tensor, labels: list[str], images: Tensor, step: int
) -> None:
    """Put features `(N, F)` of images `(N, 1, H, W)`, grey values 0 to 255, into the projector, alone at their step."""
    earlier = Path(writer.log_dir) / f"{step:05d}" / tag  # where the writer puts it, and complains of what is there
    if earlier.is_dir():
        shutil.rmtree(earlier)
    sprites = (images / 255).expand(-1, 3, -1, -1)
    writer.add_embedding(features.cpu(), labels, sprites.cpu(), step, tag)


def _add(writer: SummaryWriter, summary: Summary, step: int | None = None) -> None:
    """Add what `SummaryWriter` has no method for."""
    writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]
