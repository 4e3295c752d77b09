import pytest
import torch
from torch import nn

from benchmarks import machine
from benchmarks.operators import Costs, of_step

pytestmark = pytest.mark.usefixtures("_one_thread")


def test_memory_and_arithmetic_are_counted_by_hand():
    layer, images = nn.Linear(6, 4, bias=False), torch.ones(3, 6)

    with Costs() as costs:
        layer(images).sum().backward()

    assert costs.of["mm"].flops == 2 * (2 * 3 * 6 * 4)  # forward, and for the gradient of the weights
    # Forward takes images and weights; backward takes images and the gradient of the outputs.
    assert costs.of["mm"].bytes == 4 * ((18 + 24 + 12) + (18 + 12 + 24))
    assert costs.of["sum"].flops == 0


def test_operators_are_the_parts_of_a_step():
    operators = of_step("MLP", "bf16-mixed", repeats=2)
    torch.set_flush_denormal(False)

    counted = machine.step_rate("MLP", "bf16-mixed", repeats=1)["flops"]
    torch.set_flush_denormal(False)
    assert sum(cost["flops"] for cost in operators) == counted
    assert {"addmm", "mm", "_to_copy", "_fused_sgd_"} <= {cost["name"] for cost in operators}
    seconds = [cost["seconds"] for cost in operators]
    assert seconds == sorted(seconds, reverse=True) and min(seconds) > 0
