import numpy as np
import pytest
import torch

from lightning_cnn.export.agreement import Agreement, DisagreementError, compare, computed_by

PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
BATCHES = [(torch.tensor([[[[0]]], [[[1]]]]), torch.tensor([0, 0])), (torch.tensor([[[[2]]]]), torch.tensor([0]))]


def of(table):
    return lambda images: table[images[:, 0, 0, 0]]


def reference(table, logit=1.0):
    return lambda images: (np.full((len(images), 2), logit, np.float32), of(table)(images))


def test_classes_and_probabilities_are_compared_over_all_batches():
    other = PROBABILITIES.copy()
    other[2] = [0.45, 0.55]

    found = compare(reference(PROBABILITIES), of(other), BATCHES, "MNIST", "test")

    assert (found.images, found.equal_classes) == (3, 2)
    assert found.largest_difference == pytest.approx(0.15)
    assert (found.accuracy, found.checkpoint_accuracy) == (1 / 3, 2 / 3)
    assert (
        str(found) == "2 of 3 predicted classes equal, largest difference of a probability 2e-01 (test images of MNIST)"
    )
    with pytest.raises(DisagreementError, match="would not predict what the checkpoint does: 2 of 3 predicted classes"):
        found.require_equal()


def test_rounding_is_no_disagreement():
    found = compare(reference(PROBABILITIES), of(PROBABILITIES + np.float32(3e-7)), BATCHES, "MNIST", "val")

    found.require_equal()
    assert str(found).endswith("(validation images of MNIST)")
    assert found.equal_classes == found.images


def test_large_logits_are_rounded_more():
    other = PROBABILITIES + np.float32(3e-5)

    compare(reference(PROBABILITIES, -881), of(other), BATCHES, "MNIST", "test").require_equal()
    with pytest.raises(DisagreementError):
        compare(reference(PROBABILITIES, -100), of(other), BATCHES, "MNIST", "test").require_equal()


@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_more_than_rounding_is_a_disagreement(difference):
    with pytest.raises(DisagreementError):
        Agreement("MNIST", "test", 10, 10, difference, 1.0, 1.0).require_equal()


def test_nan_is_not_lost_among_other_differences():
    broken = PROBABILITIES.copy()
    broken[0, 1] = np.nan

    assert np.isnan(compare(reference(PROBABILITIES), of(broken), BATCHES, "MNIST", "test").largest_difference)


def test_a_network_of_torch_computes_arrays():
    compute = computed_by(lambda images: (images.float().flatten(1), images.float().flatten(1).softmax(dim=1)))

    logits, probabilities = compute(np.full((2, 1, 1, 4), 3, np.uint8))
    assert (logits == 3).all() and logits.shape == (2, 4)
    np.testing.assert_allclose(probabilities, 0.25)
