"""The logger that writes TensorBoard's event files, and what `SummaryWriter` has no method for; used by `Dashboard`."""

import re
import shutil
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from lightning_cnn.errors import reason
from lightning_cnn.run import Run, event_time

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: How names of learning rates begin, of which TensorBoard would make a section before that of training.
_TAG = re.compile(r"^lr-")
#: Columns of every run in the HParams tab, which takes its columns from one run only. Values stand for their types.
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
    """Writes event files into the run folder, and no `hparams.yaml`: `config.yaml` has the hyperparameters.

    Args:
        folder: The run folder.
        first_step: The step at which a run is resumed; TensorBoard hides earlier events from that step on.
    """

    def __init__(self, folder: Path, first_step: int | None = None) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False, purge_step=first_step)
        self._is_closed = False
        self._begun = int(time())
        self._earlier = Run(folder).event_files() if first_step is not None else []

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics, the learning rate beside those of training; the number of the epoch is worth no chart."""
        shown = {_TAG.sub("train/lr-", name): value for name, value in metrics.items() if name != "epoch"}
        if shown:
            if self._earlier:  # not before: a run that is refused changes nothing
                _keep_in_order(self._earlier, self._begun)
                self._earlier = []
            super().log_metrics(shown, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush and close the file, once: a signal may interrupt it, and then Lightning calls it again."""
        if not self._is_closed:
            self._is_closed = True
            super().finalize(status)

    @rank_zero_only
    def save(self) -> None:
        """Flush the file."""
        self.experiment.flush()


def _keep_in_order(earlier: list[Path], now: int) -> None:
    """Rename earlier event files whose names do not have an earlier second than now, as after the clock was set back.

    TensorBoard reads the files in the order of their names. A name begins with the second in which its file was made;
    host, process and a count follow, which are not in order.
    """
    stamps = list(map(event_time, earlier))
    if max(stamps) < now:
        return
    for place, (path, stamp) in enumerate(zip(earlier, stamps, strict=True)):
        latest = now - len(earlier) + place  # a second is left to each of the files after it
        if stamp > latest:
            path.rename(path.with_name(path.name.replace(f".{stamp:010d}.", f".{latest:010d}.", 1)))


def add_hyperparameters(writer: SummaryWriter, values: dict[str, str | float | bool], metrics: Collection[str]) -> None:
    """Add the hyperparameters of a run to the HParams tab, which shows the scalars with the tags `metrics` beside them.

    `SummaryWriter.add_hparams` would begin another run, with made-up values of these scalars.
    """
    tags = dict.fromkeys(metrics, 0.0)
    columns, _, _ = hparams({**_COLUMNS, **values}, tags)  # type: ignore[no-untyped-call]
    _, run, _ = hparams(values, tags)  # type: ignore[no-untyped-call]
    _add(writer, columns)
    _add(writer, run)


def add_png(writer: SummaryWriter, tag: str, png: bytes, step: int) -> None:
    """Add an image that is encoded already; `SummaryWriter.add_image` would encode it again."""
    image = Summary.Image(encoded_image_string=png, colorspace=4)
    _add(writer, Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def add_figure(writer: SummaryWriter, tag: str, figure: "Figure", step: int) -> None:
    """Add a figure; `SummaryWriter.add_figure` would import pyplot, with its windows and its global state."""
    from lightning_cnn.plots.style import png  # it needs matplotlib, which has made the figure

    # Little compression: training waits 47 ms for a confusion matrix instead of 54.
    add_png(writer, tag, png(figure, dpi=120, pil_kwargs={"compress_level": 1}), step)


def add_graph(writer: SummaryWriter, network: nn.Module, example: Tensor) -> None:
    """Add the graph of a network for an example of its input; if it cannot be traced, a line says so."""
    with warnings.catch_warnings():
        # TensorBoard's graphs need the tracer, which torch has deprecated.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.trace\w*` is (deprecated|not supported)")
        try:
            writer.add_graph(network, example)
        except Exception as error:  # noqa: BLE001  # whatever code of the user's own raises in a trace
            rank_zero_info(f"No graph for TensorBoard: the network cannot be traced ({reason(error).splitlines()[0]})")


def add_embedding(
    writer: SummaryWriter, tag: str, features: Tensor, labels: list[str], images: Tensor, step: int
) -> None:
    """Add features `(N, F)` of uint8 images `(N, C, H, W)` to the projector, in place of earlier ones at this step."""
    earlier = Path(writer.log_dir) / f"{step:05d}" / tag  # where the writer puts it; it warns of an existing folder
    if earlier.is_dir():
        shutil.rmtree(earlier)
    sprites = (images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)) / 255
    writer.add_embedding(features.cpu(), labels, sprites.cpu(), step, tag)


def _add(writer: SummaryWriter, summary: Summary, step: int | None = None) -> None:
    assert writer.file_writer is not None, "add_… before closing the writer"
    writer.file_writer.add_summary(summary, step)
