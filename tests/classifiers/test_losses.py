import math

import pytest
import torch
from torch.nn import functional

from lightning_cnn.classifiers import FocalLoss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
TARGETS = torch.tensor([0, 1])


def test_focal_loss_without_focus_is_cross_entropy():
    torch.testing.assert_close(FocalLoss(gamma=0)(LOGITS, TARGETS), functional.cross_entropy(LOGITS, TARGETS))


def test_focal_loss_equals_its_formula():
    losses = []
    for row, target in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True):
        p = math.exp(row[target]) / sum(map(math.exp, row))
        losses.append(-((1 - p) ** 3) * math.log(p))

    assert FocalLoss(gamma=3)(LOGITS, TARGETS).item() == pytest.approx(sum(losses) / 2, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_focal_loss_has_finite_gradients_for_images_that_are_certain(gamma):
    logits = torch.tensor([[20.0, 0.0], [200.0, 0.0], [-200.0, 0.0]], requires_grad=True)

    FocalLoss(gamma)(logits, torch.tensor([0, 0, 0])).backward()

    assert logits.grad.isfinite().all()
    assert logits.grad[2, 0] < 0


def test_a_negative_gamma_is_refused():
    with pytest.raises(ValueError, match=r"^gamma must be at least 0, got -1$"):
        FocalLoss(gamma=-1)
