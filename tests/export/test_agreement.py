import numpy as np
import pytest
import torch

from lightning_cnn.export.agreement import Agreement, DisagreementError, compare, computed_by

PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
BATCHES = [(torch.tensor([[[[0]]], [[[1]]]]), torch.tensor([0, 0])), (torch.tensor([[[[2]]]]), torch.tensor([0]))]


def of(table):
    return lambda images: table[images[:, 0, 0, 0]]


def test_classes_and_probabilities_are_compared_over_all_batches():
    other = PROBABILITIES.copy()
    other[2] = [0.45, 0.55]

    found = compare(of(PROBABILITIES), of(other), BATCHES, "MNIST", "test")

    assert (found.images, found.equal_classes) == (3, 2)
    assert found.largest_difference == pytest.approx(0.15)
    assert (found.accuracy, found.checkpoint_accuracy) == (1 / 3, 2 / 3)
    assert (
        str(found) == "2 of 3 predicted classes equal, largest difference of a probability 2e-01 (test images of MNIST)"
    )
    with pytest.raises(DisagreementError, match="would not predict what the checkpoint does: 2 of 3 predicted classes"):
        found.require_equal()


def test_rounding_is_no_disagreement():
    found = compare(of(PROBABILITIES), of(PROBABILITIES + np.float32(3e-7)), BATCHES, "MNIST", "val")

    found.require_equal()
    assert str(found).endswith("(validation images of MNIST)")
    assert found.equal_classes == found.images


@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_more_than_rounding_is_a_disagreement(difference):
    with pytest.raises(DisagreementError):
        Agreement("MNIST", "test", 10, 10, difference, 1.0, 1.0).require_equal()


def test_nan_is_not_lost_among_other_differences():
    broken = PROBABILITIES.copy()
    broken[0, 1] = np.nan

    assert np.isnan(compare(of(PROBABILITIES), of(broken), BATCHES, "MNIST", "test").largest_difference)


def test_a_network_of_torch_computes_arrays():
    compute = computed_by(lambda images: images.float().flatten(1).softmax(dim=1))

    np.testing.assert_allclose(compute(np.zeros((2, 1, 1, 4), np.uint8)), 0.25)
