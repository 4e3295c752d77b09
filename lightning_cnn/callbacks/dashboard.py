"""What TensorBoard shows of a run beyond its curves."""

from pathlib import Path
from typing import Any, ClassVar

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch.utils.tensorboard import SummaryWriter

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.hyperparameters import hyperparameters
from lightning_cnn.callbacks.inside import at_rest, feature_maps, first_filters, last_features
from lightning_cnn.callbacks.plots import FOLDER as PICTURES
from lightning_cnn.callbacks.plots import Plots
from lightning_cnn.callbacks.predictions import Predictions, PredictionsCallback, Stage
from lightning_cnn.callbacks.run_record import RunRecord
from lightning_cnn.callbacks.tensorboard import (
    TensorBoard,
    add_embedding,
    add_figure,
    add_graph,
    add_hyperparameters,
    add_png,
    has_events,
)
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.plots.evaluation import calibration, confusion, per_class
from lightning_cnn.run import Run

#: The figures of the HParams tab.
FIGURES = ("best/val_acc", "best/val_loss", "test/acc", "test/loss")
#: Training and validation on one chart; tags are regular expressions.
_LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["^train/loss$", "^val/loss$"]],
        "accuracy": ["Multiline", ["^train/acc$", "^val/acc$"]],
        "accuracy of each class, validation": ["Multiline", ["^val_acc_of/"]],
    }
}
#: Pictures of a test that `Plots` draws.
_TEST_PICTURES = ("mistakes", "predictions", "confusion_matrix", "calibration")
#: Images in the projector: enough to see clusters, and soon written.
_EMBEDDED = 500


class Dashboard(PredictionsCallback):
    """Fills TensorBoard, between epochs only; has no part in the results.

    Before the first step: the config, the hyperparameters for the HParams tab, charts with training and validation
    together, and the first training images. After each validation: the accuracy of each class, the best figures so
    far, and the confusion matrix, in long runs more and more seldom. When training ends: the network's graph, the
    filters of its first layer, and the feature maps of one validation image. After a test, in the events of the run
    that was tested: its figures, the expected calibration error, precision and recall of each class, the pictures that
    `Plots` drew, and a projection of 500 images as the last layer sees them.

    Args:
        enabled: Whether to write all this; loss and accuracy of training and validation, and the learning rate, are
            written anyway.
        histograms: Whether to write histograms of all weights and gradients after each epoch; this takes time.
    """

    stages: ClassVar[tuple[Stage, ...]] = ("val", "test")

    def __init__(self, enabled: bool = True, histograms: bool = False) -> None:
        self.enabled = enabled
        self.histograms = histograms
        if not (enabled and histograms):
            self.on_train_batch_end = None  # type: ignore[assignment, method-assign]  # Lightning passes over it
        self._best: dict[str, float] = {}
        self._validations = 0
        self._tested_step = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a run that goes on must know: the best figures so far, and how many validations there were."""
        return {"best": self._best, "validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._best, self._validations = state_dict["best"], state_dict["validations"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the step of the weights: figures of a test belong to it."""
        self._tested_step = max(0, checkpoint["global_step"] - 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what is known before the first step: not earlier, when a resumed run could still be refused."""
        if (writer := self._writer(trainer)) is None:
            return
        config = _config(trainer, pl_module)
        writer.add_custom_scalars(_LAYOUT)
        writer.add_text("config", "```yaml\n" + yaml.safe_dump(config, sort_keys=False) + "```")
        add_hyperparameters(writer, hyperparameters(config), FIGURES)
        if trainer.ckpt_path is None:
            _add_pictures(writer, trainer, Path(trainer.default_root_dir), "training", ("samples",), step=0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Show the distributions of weights and gradients after an epoch, before validation clears the gradients."""
        if not trainer.is_last_batch or (writer := self._writer(trainer)) is None:
            return
        for name, parameter in pl_module.named_parameters():
            for what, values in (("weights", parameter), ("gradients", parameter.grad)):
                if values is not None and values.isfinite().all():  # the others have no distribution
                    writer.add_histogram(f"{what}/{name}", values, max(0, trainer.global_step - 1))

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Show what a validation or a test came to."""
        assert isinstance(pl_module, ImageClassifier)
        if stage == "val":
            if (writer := self._writer(trainer)) is not None:
                self._add_validation(writer, trainer, pl_module, predictions)
        elif self.enabled and trainer.ckpt_path is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = Run.of_checkpoint(Path(trainer.ckpt_path)).folder
            if has_events(folder):  # the training's; elsewhere nobody would look for them
                with SummaryWriter(folder) as writer:
                    self._add_test(writer, trainer, pl_module, predictions)

    def _add_validation(
        self, writer: SummaryWriter, trainer: Trainer, pl_module: ImageClassifier, predictions: Predictions
    ) -> None:
        step = max(0, trainer.global_step - 1)
        figures = {name: trainer.callback_metrics[f"val/{name}"].item() for name in ("acc", "loss")}
        if figures["acc"] > self._best.get("best/val_acc", -1.0):
            self._best = {f"best/val_{name}": figure for name, figure in figures.items()}
        for name, figure in self._best.items():
            writer.add_scalar(name, figure, step)
        names = pl_module.class_names
        counts = confusion(predictions.targets, predictions.predicted, len(names))
        for name, of_class in zip(names, per_class(counts), strict=True):
            writer.add_scalar(f"val_acc_of/{name.replace('/', ' or ')}", of_class.accuracy, step)
        if _is_shown(self._validations):
            from lightning_cnn.plots import figures as plots  # matplotlib is not for those who want no pictures

            matrix = plots.confusion_matrix(counts, names, "Validation images")
            add_figure(writer, "training/confusion_matrix", matrix, step)
        self._validations += 1

    def _add_test(
        self, writer: SummaryWriter, trainer: Trainer, pl_module: ImageClassifier, predictions: Predictions
    ) -> None:
        step = self._tested_step
        for name in ("test/loss", "test/acc"):
            writer.add_scalar(name, trainer.callback_metrics[name].item(), step)
        error = calibration(predictions.predicted == predictions.targets, predictions.confidence).error
        writer.add_scalar("test/calibration_error", error, step)
        names = pl_module.class_names
        if predictions.probabilities.isfinite().all():
            for index, name in enumerate(names):
                is_class, probability = predictions.targets == index, predictions.probabilities[:, index]
                writer.add_pr_curve(f"test_class/{name}", is_class, probability, step)
        _add_pictures(writer, trainer, Path(writer.log_dir), "test", _TEST_PICTURES, step)
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, ImageDataModule):
            images = datamodule.test_set.images[:_EMBEDDED]
            features = last_features(pl_module.network, pl_module.preprocess(images))
            if features is not None:
                labels = [names[target] for target in predictions.targets[:_EMBEDDED]]
                add_embedding(writer, "test", features[: len(labels)], labels, images[: len(labels)], step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the network from inside."""
        datamodule = getattr(trainer, "datamodule", None)
        if not isinstance(datamodule, ImageDataModule) or (writer := self._writer(trainer)) is None:
            return
        from lightning_cnn.plots import figures as plots

        assert isinstance(pl_module, ImageClassifier)
        step = max(0, trainer.global_step - 1)
        image = datamodule.val_set.images[:1].to(pl_module.device)  # which the model has left by now
        seen = pl_module.preprocess(image)
        with at_rest(pl_module.network):
            add_graph(writer, pl_module.network, seen)
        filters = first_filters(pl_module.network, *image.shape[2:])
        if filters is not None:
            figure = plots.filters(filters.float().cpu().numpy(), "Filters of the first layer")
            add_figure(writer, "training/filters", figure, step)
        maps = {
            name: of_layer[0].float().cpu().numpy() for name, of_layer in feature_maps(pl_module.network, seen).items()
        }
        if maps:
            figure = plots.feature_maps(image[0, 0].cpu().numpy(), maps)
            add_figure(writer, "training/feature_maps", figure, step)

    def _writer(self, trainer: Trainer) -> SummaryWriter | None:
        """Where to write, if anything is to be written here."""
        if not self.enabled or not trainer.is_global_zero or trainer.state.fn != "fit":
            return None
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
        return loggers[0].experiment if loggers else None


def _is_shown(number: int) -> bool:
    """Whether to draw this validation, counted from 0: the first 16, every second of 16 more, every fourth of 32."""
    return number % (1 << max(0, number.bit_length() - 4)) == 0


def _config(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """All that was asked for, if it is known; otherwise what model and data know of themselves."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it from outside
        if isinstance(callback, RunRecord):
            return callback.config
    return checkpoints.describe(pl_module)["config"]


def _add_pictures(
    writer: SummaryWriter, trainer: Trainer, folder: Path, stage: str, names: tuple[str, ...], step: int
) -> None:
    """Add those pictures that `Plots` has just left in the run folder."""
    if not any(isinstance(c, Plots) and c.enabled for c in trainer.callbacks):  # type: ignore[attr-defined]
        return
    for name in names:
        if (path := folder / PICTURES / f"{name}.png").is_file():
            add_png(writer, f"{stage}/{name}", path.read_bytes(), step)
