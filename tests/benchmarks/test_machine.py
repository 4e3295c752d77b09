import platform

import pytest
import torch

from benchmarks import machine

pytestmark = pytest.mark.usefixtures("_one_thread")


def test_the_machine_is_described():
    described = machine.describe()

    assert described["python"] == platform.python_version()
    assert described["threads"] >= 1 and described["cpu"]
    assert described.keys() == {"cpu", "threads", "gpu", "gpus", "python", "torch", "lightning"}


@pytest.mark.parametrize("bfloat16", [True, False])
def test_matrix_products_are_timed_in_the_precisions_of_the_device(monkeypatch, bfloat16):
    monkeypatch.setattr(machine, "MATRIX_SIZE", 64)
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: bfloat16)

    rates = machine.matmul_rates(repeats=2)

    assert rates.keys() == {"32-true", *(["bf16-mixed"] if bfloat16 else [])}
    assert all(rate > 0 for rate in rates.values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_operations_are_counted_by_hand(precision):
    weights = [784 * 512, 512 * 512, 512 * 10]  # of MLP's three layers

    rate = machine.step_rate("MLP", precision, repeats=2)
    torch.set_flush_denormal(False)

    # A multiplication and an addition for each weight and image: forward, for the gradients of the weights, and, but
    # for the first layer, for those of its input.
    assert rate["flops"] == 2 * 64 * (3 * sum(weights) - weights[0])
    assert rate["gflops_per_second"] == pytest.approx(rate["flops"] / rate["seconds"] / 1e9)
