"""What TensorBoard shows of a run besides the logged metrics."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch.utils.tensorboard import SummaryWriter

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.hyperparameters import hyperparameters
from lightning_cnn.callbacks.inside import feature_maps, first_filters, last_features
from lightning_cnn.callbacks.monitor import Monitor, monitor_of
from lightning_cnn.callbacks.plots import Plots, drawable
from lightning_cnn.callbacks.predictions import PredictionsCallback, Stage
from lightning_cnn.callbacks.run_record import RunRecord
from lightning_cnn.callbacks.tensorboard import (
    TensorBoard,
    add_embedding,
    add_figure,
    add_graph,
    add_hyperparameters,
    add_png,
)
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.classifiers.network import eval_mode
from lightning_cnn.config import yaml
from lightning_cnn.data import ImageDataModule
from lightning_cnn.plots.evaluation import Predictions
from lightning_cnn.run import Run

#: Custom scalars: training and validation on one chart. Tags are regular expressions.
_LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["^train/loss$", "^val/loss$"]],
        "accuracy": ["Multiline", ["^train/acc$", "^val/acc$"]],
        "validation accuracy per class": ["Multiline", ["^val_acc_per_class/"]],
    }
}
#: Figures of a test, drawn by `Plots`.
_TEST_PLOTS = ("mistakes", "predictions", "confusion_matrix", "calibration")
#: Images in the projector: enough to see clusters, and quickly written.
_EMBEDDED = 500


class Dashboard(PredictionsCallback):
    """Fills TensorBoard between epochs; changes nothing in the results.

    Before the first step: the config, the hyperparameters for the HParams tab, charts with training and validation
    together, and the first training images. After each validation: the accuracy per class, the metrics of the best
    checkpoint so far, and the confusion matrix, which long runs draw less and less often. After training: the graph of
    the network, the filters of its first layer, and the feature maps of one validation image. After a test, in the
    events of the tested run: its metrics, the expected calibration error, precision-recall curves per class, the
    figures drawn by `Plots`, and an embedding of 500 images by the features of the last layer.

    Args:
        enabled: Whether to write all this; metrics and hyperparameters are written in any case.
        histograms: Whether to write histograms of all weights and gradients after each epoch; this takes time.
    """

    stages: ClassVar[tuple[Stage, ...]] = ("val", "test")

    def __init__(self, enabled: bool = True, histograms: bool = False) -> None:
        self.enabled = enabled
        self.histograms = enabled and histograms
        self._best: dict[str, float] = {}
        self._validations = 0
        self._tested_step = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the metrics of the best checkpoint and the number of validations so far."""
        return {"best": self._best, "validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._best, self._validations = state_dict["best"], state_dict["validations"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the step of the checkpoint: a test is shown there."""
        self._tested_step = max(0, checkpoint["global_step"] - 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what is known before the first step; not earlier, because a resumed run may still be refused."""
        if (writer := _writer(trainer)) is None:
            return
        config = _config(trainer, pl_module)
        names = _metric_names(monitor_of(trainer))
        tags = [*(_best_tag(f"val/{name}") for name in names), *(f"test/{name}" for name in names)]
        add_hyperparameters(writer, hyperparameters(config), tags)
        if not self.enabled:
            return
        writer.add_custom_scalars(_LAYOUT)
        writer.add_text("config", f"```yaml\n{yaml.dump(config)}```")
        if trainer.ckpt_path is None:
            _add_plots(writer, trainer, Run(Path(trainer.default_root_dir)), "training", ("samples",), step=0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Show histograms at the end of an epoch, before validation clears the gradients."""
        if not self.histograms or not trainer.is_last_batch or (writer := _writer(trainer)) is None:
            return
        for name, parameter in pl_module.named_parameters():
            for kind, values in (("weights", parameter), ("gradients", parameter.grad)):
                if values is not None and values.isfinite().all():  # others have no histogram
                    writer.add_histogram(f"{kind}/{name}", values, _last_step(trainer))

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Show the results of a validation or a test."""
        assert isinstance(pl_module, ImageClassifier)
        if stage == "val":
            if (writer := _writer(trainer)) is not None:
                self._add_best(writer, trainer)
                if self.enabled:
                    self._add_validation(writer, trainer, pl_module, predictions)
        elif trainer.ckpt_path is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            run = Run.of_checkpoint(Path(trainer.ckpt_path))
            if run.event_files():  # only beside those of the training
                with SummaryWriter(run.folder) as writer:
                    for name, value in trainer.callback_metrics.items():
                        if name.startswith("test/"):
                            writer.add_scalar(name, value.item(), self._tested_step)
                    if self.enabled:
                        self._add_test(writer, trainer, pl_module, predictions)

    def _add_best(self, writer: SummaryWriter, trainer: Trainer) -> None:
        if (monitor := monitor_of(trainer)) is not None:
            found = {f"val/{name}": trainer.callback_metrics.get(f"val/{name}") for name in _metric_names(monitor)}
            metrics = {name: value.item() for name, value in found.items() if value is not None}
            if monitor.metric in metrics and monitor.is_better(metrics[monitor.metric]):
                self._best = {_best_tag(name): value for name, value in metrics.items()}
        for tag, value in self._best.items():
            writer.add_scalar(tag, value, _last_step(trainer))

    def _add_validation(
        self, writer: SummaryWriter, trainer: Trainer, pl_module: ImageClassifier, predictions: Predictions
    ) -> None:
        step = _last_step(trainer)
        names = pl_module.class_names
        for name, of_class in zip(names, predictions.per_class, strict=True):
            writer.add_scalar(f"val_acc_per_class/{name.replace('/', ' or ')}", of_class.accuracy, step)
        if _is_drawn(self._validations):
            from lightning_cnn.plots import figures  # matplotlib is slow to import

            matrix = figures.confusion_matrix(predictions.confusion_matrix, names, "Validation images")
            add_figure(writer, "training/confusion_matrix", matrix, step)
        self._validations += 1

    def _add_test(
        self, writer: SummaryWriter, trainer: Trainer, pl_module: ImageClassifier, predictions: Predictions
    ) -> None:
        step = self._tested_step
        writer.add_scalar("test/calibration_error", predictions.calibration.error, step)
        names = pl_module.class_names
        probabilities = predictions.probabilities
        if probabilities is not None and np.isfinite(probabilities).all():
            for index, name in enumerate(names):
                is_class, probability = predictions.targets == index, probabilities[:, index]
                writer.add_pr_curve(f"test_pr_curve/{name}", is_class, probability, step)
        _add_plots(writer, trainer, Run(Path(writer.log_dir)), "test", _TEST_PLOTS, step)
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, ImageDataModule):
            images = datamodule.test_set[:_EMBEDDED][0].to(pl_module.device)
            features = last_features(pl_module.network, pl_module.preprocess(images))
            if features is not None:
                labels = [names[target] for target in predictions.targets[:_EMBEDDED]]
                add_embedding(writer, "test", features[: len(labels)], labels, images[: len(labels)], step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the graph, the filters and the feature maps of the network."""
        datamodule = getattr(trainer, "datamodule", None)
        if not self.enabled or not isinstance(datamodule, ImageDataModule) or (writer := _writer(trainer)) is None:
            return
        from lightning_cnn.plots import figures

        assert isinstance(pl_module, ImageClassifier)
        step = _last_step(trainer)
        image = datamodule.val_set[:1][0].to(pl_module.device)  # the model has been moved to the CPU
        example = pl_module.preprocess(image)
        with eval_mode(pl_module.network):
            add_graph(writer, pl_module.network, example)
        filters = first_filters(pl_module.network, *image.shape[1:])
        if filters is not None:
            figure = figures.filters(filters.float().cpu().numpy(), "Filters of the first layer")
            add_figure(writer, "training/filters", figure, step)
        if maps := feature_maps(pl_module.network, example):
            of_image = {name: layer[0].float().cpu().numpy() for name, layer in maps.items()}
            figure = figures.feature_maps(drawable(image)[0], of_image)
            add_figure(writer, "training/feature_maps", figure, step)


def _writer(trainer: Trainer) -> SummaryWriter | None:
    """Return the writer of our logger while training; None if there is nothing to write."""
    if not trainer.is_global_zero or trainer.state.fn != "fit":
        return None
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)


def _metric_names(monitor: Monitor | None) -> list[str]:
    """Return the names of the metrics in the HParams tab, without their stage: always the same columns come first."""
    monitored = [] if monitor is None else [monitor.metric.removeprefix("val/")]
    return list(dict.fromkeys(["acc", "loss", *monitored]))


def _best_tag(metric: str) -> str:
    """Return the tag of a metric of the best checkpoint: TensorBoard sorts sections, and training comes first."""
    return f"val_best/{metric.removeprefix('val/')}"


def _last_step(trainer: Trainer) -> int:
    """Return the step of the last batch, as Lightning numbers the steps of its loggers."""
    return max(0, trainer.global_step - 1)


def _is_drawn(number: int) -> bool:
    """Whether to draw this validation, counted from 0: the first 16, every second of 16 more, every fourth of 32."""
    return number % (1 << max(0, number.bit_length() - 4)) == 0


def _config(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Return the config of the run, or, without a `RunRecord`, that of model and data."""
    records = (callback for callback in trainer.callbacks if isinstance(callback, RunRecord))  # type: ignore[attr-defined]
    return next((record.config for record in records), None) or checkpoints.describe(pl_module)["config"]


def _add_plots(
    writer: SummaryWriter, trainer: Trainer, run: Run, stage: str, names: tuple[str, ...], step: int
) -> None:
    """Add the figures that `Plots` has just saved in the run folder."""
    if not any(isinstance(c, Plots) and c.enabled for c in trainer.callbacks):  # type: ignore[attr-defined]
        return
    for name in names:
        if (path := run.plot(name)).is_file():
            add_png(writer, f"{stage}/{name}", path.read_bytes(), step)
