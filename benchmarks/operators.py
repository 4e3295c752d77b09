"""Where a training step spends its time: each operator, with the memory that it touches and its arithmetic."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.device import now
from benchmarks.machine import WARM_UP, training_step


@dataclass
class Cost:
    """What the calls of one operator cost together.

    Attributes:
        seconds: Their time.
        bytes: Of the tensors that they take and return.
        flops: Floating-point operations of convolutions and matrix products; 0 for all others.
    """

    seconds: float = 0.0
    bytes: int = 0
    flops: int = 0


class Costs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Measures each operator that is called within the block, those of the backward pass too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.of: defaultdict[str, Cost] = defaultdict(Cost)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operator, and add what it has cost."""
        kwargs = kwargs or {}
        started = now()
        result = func(*args, **kwargs)
        cost = self.of[func.overloadpacket.__name__]
        cost.seconds += now() - started
        cost.bytes += sum(t.nbytes for t in tree_leaves([args, kwargs, result]) if isinstance(t, Tensor))
        if count := flop_registry.get(func.overloadpacket):
            cost.flops += count(*args, **kwargs, out_val=result)
        return result


def of_step(system: str, precision: str, repeats: int) -> list[dict[str, Any]]:
    """Return the mean costs of the operators of a training step, the most expensive first.

    Args:
        system: One of `SYSTEMS`; the images are random.
        precision: One of `bare.PRECISIONS`.
        repeats: Steps to measure, at least 1.

    Returns:
        The `name` of each operator and the attributes of its `Cost`.
    """
    step = training_step(system, precision)
    for _ in range(WARM_UP):
        step()
    with Costs() as costs:
        for _ in range(repeats):
            step()
    return [
        {"name": name, "seconds": cost.seconds / repeats, "bytes": cost.bytes / repeats, "flops": cost.flops / repeats}
        for name, cost in sorted(costs.of.items(), key=lambda item: -item[1].seconds)
    ]
