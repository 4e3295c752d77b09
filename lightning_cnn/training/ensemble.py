"""`test` of several checkpoints: the mean of their probabilities, measured and written like a test of one."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_cnn import checkpoint
from lightning_cnn.callbacks import TestResults
from lightning_cnn.callbacks.predictions import Stage, from_logits
from lightning_cnn.callbacks.test_results import describe_test, identity_of_data, metrics_of_test, write_results
from lightning_cnn.config.request import Request
from lightning_cnn.errors import UserError
from lightning_cnn.files import sha256
from lightning_cnn.plots.evaluation import Predictions
from lightning_cnn.run import Run
from lightning_cnn.training.cli import TrainingCLI


class MemberResults(TestResults):
    """Keeps the results of one checkpoint of an ensemble, and writes nothing.

    Attributes:
        record: What was tested on which data.
        metrics: The metrics of the test.
        predictions: The predictions for all images.
    """

    record: dict[str, Any]
    metrics: dict[str, float]
    predictions: Predictions

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe the test; nothing is in the way of results that are not written."""
        self.on_validation_start(trainer, pl_module)
        self.record = describe_test(trainer, self.checkpoint)

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Keep the predictions."""
        self.metrics, self.predictions = metrics_of_test(trainer), predictions
        self.summary = f"{self.checkpoint}: test accuracy {100 * self.metrics['test/acc']:.2f} %"


class MemberCLI(TrainingCLI):
    """Tests one checkpoint of an ensemble."""

    results_class = MemberResults
    prints_summary = False

    @property
    def results(self) -> MemberResults:
        """The results of the checkpoint."""
        assert isinstance(self.test_results, MemberResults)
        return self.test_results

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer; raises `UserError` if it has several processes."""
        trainer = super().instantiate_trainer(**kwargs)
        if trainer.world_size > 1:
            raise UserError("several checkpoints are tested together in one process only; add --trainer.devices 1")
        return trainer


def require_different(requests: Iterable[Request]) -> None:
    """Refuse checkpoints that have the same weights, or that say that they have other classes, before any is tested.

    Raises:
        UserError: If they are such.
    """
    weights: dict[str, Path] = {}
    classes: dict[Path, list[str]] = {}
    for path in (request.checkpoint for request in requests):
        assert path is not None  # `test` always has one
        if (same := weights.setdefault(sha256(path), path)) is not path:
            raise UserError(f"{path} has the same weights as {same}; give each once")
        if names := checkpoint.read_description(path)["class_names"]:
            classes[path] = names
            _require_same_classes(next(iter(classes.items())), (path, names))


def _require_same_classes(first: tuple[object, Sequence[str]], other: tuple[object, Sequence[str]]) -> None:
    if list(first[1]) != list(other[1]):
        raise UserError(
            f"{other[0]} and {first[0]} have other classes, or in another order; only checkpoints of the same classes "
            "are tested together"
        )


def require_agreement(first: MemberResults, other: MemberResults) -> None:
    """Refuse results whose probabilities have no mean: of other classes or other images.

    Raises:
        UserError: If they are such.
    """
    one, two = first.record, other.record
    _require_same_classes(*((found.checkpoint, found.predictions.class_names) for found in (first, other)))
    is_same = np.array_equal(first.predictions.targets, other.predictions.targets)
    if not is_same or identity_of_data(one["data"]) != identity_of_data(two["data"]):
        raise UserError(
            f"{two['checkpoint']} is tested on {two['data']['dataset']}, and {one['checkpoint']} on other images, of "
            f"{one['data']['dataset']}; give both the same with --data, or test each alone"
        )


def write(members: Sequence[MemberCLI]) -> str:
    """Write metrics and predictions of the mean probabilities into a new folder, and return a summary.

    Args:
        members: At least two, which have been tested and agree.
    """
    results = [member.results for member in members]
    predictions = [one.predictions for one in results]
    first, model = predictions[0], members[0].model
    every = [one.probabilities for one in predictions if one.probabilities is not None]  # those of `test` have them
    probabilities = np.mean(every, axis=0, dtype=np.float64)
    logits = torch.from_numpy(np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))).float()
    targets = torch.from_numpy(first.targets)
    metrics = model.cpu().measure(logits, targets)
    digests = [one.record["checkpoint_sha256"] for one in results]
    record = {
        **results[0].record,
        "checkpoint": ", ".join(one.record["checkpoint"] for one in results),
        "checkpoint_sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
        "members": [{name: one.record[name] for name in ("checkpoint", "checkpoint_sha256")} for one in results],
    }
    root = Path(members[0].settings["trainer"]["default_root_dir"] or ".")
    run = Run.create(root, f"{members[0].datamodule.name}-ensemble")
    mean = from_logits(targets, logits, [*first.class_names], first.files or ())
    written = write_results(run, metrics, mean, record)
    return (
        f"Test accuracy: {100 * metrics['test/acc']:.2f} % of {len(mean):,} images, by the mean of the probabilities "
        f"of {len(members)} checkpoints\n{written}"
    )
