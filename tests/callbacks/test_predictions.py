import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.nn import functional
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn.callbacks.predictions import PredictionsCallback, all_batches, from_logits
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data.batches import Images, SequentialLoader

TARGETS = torch.arange(10) % 3


class Table(nn.Module):
    """Returns row i of a table of logits for an image whose first pixel is i."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images):
        return self.logits[(images[:, 0, 0, 0] * 255).round().long()]


class Recorder(PredictionsCallback):
    """Records its arguments, and the accuracy that was logged before."""

    stages = ("val", "test")

    def __init__(self):
        self.seen = []

    def on_predictions(self, trainer, pl_module, stage, predictions):
        self.seen.append((stage, predictions, trainer.callback_metrics[f"{stage}/acc"].item()))


class TestRecorder(Recorder):
    __test__ = False
    stages = ("test",)


@pytest.fixture
def classifier():
    table = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    return ImageClassifier(Table(table), lambda parameters: SGD(parameters, lr=0), num_classes=3)


def loader(batch_size, targets=TARGETS):
    images = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(10, 1, 28, 28)
    return DataLoader(TensorDataset(images, targets), batch_size)


# From logits


def test_confidence_and_loss_follow_from_the_probabilities():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]])
    predictions = from_logits(torch.tensor([0, 1, 1]), probabilities.log(), ["a", "b", "c"])

    assert len(predictions) == 3
    assert predictions.class_names == ["a", "b", "c"]
    assert predictions.index.tolist() == [0, 1, 2]
    assert predictions.predicted.tolist() == [0, 2, 1]
    assert predictions.probabilities[1].tolist() == pytest.approx([0.1, 0.2, 0.7])
    assert predictions.confidence.tolist() == pytest.approx([0.5, 0.7, 0.6])
    assert predictions.losses.tolist() == pytest.approx([-math.log(0.5), -math.log(0.2), -math.log(0.6)])


def test_large_logits_have_finite_confidence_and_loss():
    predictions = from_logits(torch.tensor([0, 1]), torch.tensor([[1000.0, 0.0], [1000.0, 0.0]]), ["a", "b"])

    assert predictions.confidence.tolist() == [1.0, 1.0]
    assert predictions.losses.tolist() == [0.0, 1000.0]


# Collecting batches


@pytest.mark.parametrize("batch_size", [1, 4, 10])  # of four: 4, 4 and 2
@pytest.mark.parametrize("stage", ["val", "test"])
def test_predictions_are_in_order_and_come_after_the_metrics(classifier, trainer, stage, batch_size):
    recorder = Recorder()
    run = trainer(callbacks=[recorder])

    {"val": run.validate, "test": run.test}[stage](classifier, loader(batch_size), verbose=False)

    ((seen, predictions, accuracy),) = recorder.seen
    logits = classifier.network.logits.detach()
    assert seen == stage
    assert predictions.targets.tolist() == TARGETS.tolist()
    assert predictions.probabilities.tolist() == logits.softmax(dim=1).tolist()
    assert predictions.losses.tolist() == functional.cross_entropy(logits, TARGETS, reduction="none").tolist()
    assert predictions.class_names == ["0", "1", "2"]
    assert accuracy == pytest.approx((logits.argmax(dim=1) == TARGETS).float().mean().item())


def test_each_validation_has_its_own_predictions_and_the_sanity_check_none(classifier, trainer):
    recorder = Recorder()

    trainer(max_epochs=3, num_sanity_val_steps=2, callbacks=[recorder]).fit(classifier, loader(4), loader(4))

    assert [(stage, len(predictions)) for stage, predictions, _ in recorder.seen] == [("val", 10)] * 3


def test_a_second_test_discards_the_first(classifier, trainer):
    recorder = Recorder()
    run = trainer(callbacks=[recorder])

    run.test(classifier, loader(4), verbose=False)
    run.test(classifier, loader(3, TARGETS.flip(0)), verbose=False)

    first, second = (predictions for _, predictions, _ in recorder.seen)
    assert first.targets.tolist() == TARGETS.tolist()
    assert second.targets.tolist() == TARGETS.flip(0).tolist()


def test_only_the_chosen_stages_are_collected(classifier, trainer):
    recorder = TestRecorder()
    run = trainer(callbacks=[recorder])

    run.fit(classifier, loader(4), loader(4))
    run.test(classifier, loader(4), verbose=False)

    assert [stage for stage, _, _ in recorder.seen] == ["test"]


def test_limit_test_batches_limits_the_predictions(classifier, trainer):
    recorder = Recorder()

    trainer(callbacks=[recorder], limit_test_batches=2).test(classifier, loader(4), verbose=False)

    ((_, predictions, _),) = recorder.seen
    assert predictions.targets.tolist() == TARGETS[:8].tolist()
    assert predictions.probabilities.shape == (8, 3)


def test_without_batches_on_predictions_is_not_called(classifier, trainer):
    recorder = Recorder()

    trainer(callbacks=[recorder], limit_val_batches=0).fit(classifier, loader(4), loader(4))

    assert recorder.seen == []


def test_batches_of_an_interrupted_test_are_discarded(classifier, trainer):
    class Stops(Recorder):
        stops = True

        def on_test_batch_end(self, *args):
            super().on_test_batch_end(*args)
            if self.stops:
                raise RuntimeError("stop")

    recorder = Stops()
    with pytest.raises(RuntimeError, match="stop"):
        trainer(callbacks=[recorder]).test(classifier, loader(4), verbose=False)
    recorder.stops = False
    trainer(callbacks=[recorder]).test(classifier, loader(4), verbose=False)

    ((_, predictions, _),) = recorder.seen
    assert predictions.targets.tolist() == TARGETS.tolist()


def test_bfloat16_becomes_float32(trainer):
    torch.manual_seed(0)
    classifier = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), num_classes=3)
    recorder, dtypes = Recorder(), set()
    classifier.network.register_forward_hook(lambda _, __, logits: dtypes.add(logits.dtype))

    trainer(precision="bf16-mixed", callbacks=[recorder]).test(classifier, loader(4), verbose=False)

    ((_, predictions, _),) = recorder.seen
    assert dtypes == {torch.bfloat16}
    assert predictions.losses.dtype == predictions.confidence.dtype == np.float32
    assert predictions.probabilities.sum(axis=1).tolist() == pytest.approx([1.0] * 10)


def test_only_rank_zero_gets_the_predictions(classifier, trainer, monkeypatch):
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    recorder = Recorder()

    trainer(callbacks=[recorder]).test(classifier, loader(4), verbose=False)

    assert recorder.seen == []


@pytest.mark.parametrize("images", [12, 13, 20])
def test_the_batches_of_all_ranks_are_merged_in_order(images, monkeypatch):
    logits = torch.rand(images, 10)
    dataset = Images(torch.zeros(images, 1, 28, 28), torch.arange(images))
    shares = [[logits[targets] for _, targets in SequentialLoader(dataset, 4, rank, 3)] for rank in range(3)]

    def all_gather_object(gathered, own):
        assert all(map(torch.equal, own, shares[1]))
        gathered[:] = shares

    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
    whole = all_batches(SimpleNamespace(world_size=3), shares[1])

    assert torch.equal(torch.cat(whole), logits)
