"""Which precision to train in: bfloat16 where it is faster than float32 here and comes to the same.

Processors and releases of torch differ widely in that: a convolution in bfloat16 may be four times as fast, or slower,
or wrong. So both are tried with the network itself, and the verdict is remembered.
"""

import copy
import json
import os
import time
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_cnn.environment import processor_name
from lightning_cnn.files import atomic_write

Precision = Literal["32-true", "bf16-mixed"]

#: bfloat16 has to be faster by this factor to be worth its rounding.
MIN_SPEEDUP = 1.05
#: Largest distance of logits and of gradients from those in float32, as a share of their length. bfloat16 rounds each
#: number by up to 0.4 %, which comes to 1 % for most networks and to 10 % through batch normalisation before training;
#: where a convolution is wrong, it is near 100 %.
MAX_ERROR = 0.2
#: A trial has so many rounds, or, where they take long, as many as begin within so many seconds.
_ROUNDS, _MIN_ROUNDS, _SECONDS = 30, 4, 0.7


@dataclass(frozen=True)
class Verdict:
    """How a training step in bfloat16 compares to one in float32.

    Attributes:
        speedup: Time of the step in float32 divided by that in bfloat16.
        error: Distance of logits and gradients from those in float32, as a share of their length.
    """

    speedup: float
    error: float

    @property
    def precision(self) -> Precision:
        """The precision to train in, in Lightning's words."""
        good = self.speedup >= MIN_SPEEDUP and self.error <= MAX_ERROR
        return "bf16-mixed" if good else "32-true"

    def __str__(self) -> str:
        speedup, error = f"{self.speedup:.1f}", f"{self.error:.1%}"
        return f"a step in bfloat16 is {speedup} times as fast as in float32 and agrees with it to {error}"


def choose(network: nn.Module, images: Tensor, device: torch.device) -> Verdict:
    """Return the verdict that this machine remembers for a network, or try both precisions and remember it.

    Args:
        network: Returns logits for images; it is left as it is.
        images: A batch as the network sees it, float32 `(B, 1, 28, 28)`.
        device: Where training will be.
    """
    key, memory = _key(network, images, device), _memory()
    known = _recall(memory)
    if key not in known:
        known[key] = asdict(probe(network, images, device))
        _remember(known, memory)
    return Verdict(**known[key])


def probe(network: nn.Module, images: Tensor, device: torch.device) -> Verdict:
    """Time training steps of a copy of the network in both precisions, by turns, and compare what they come to."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = copy.deepcopy(network).to(device).train()
        images = images.to(device)
        with torch.no_grad():
            targets = network(images).argmax(dim=1).roll(1)  # those of other images: there is something to learn
        started = time.perf_counter()
        rounds: list[list[_Step]] = []
        while len(rounds) < _MIN_ROUNDS or (len(rounds) < _ROUNDS and time.perf_counter() - started < _SECONDS):
            rounds.append([_step(network, images, targets, bfloat16) for bfloat16 in (False, True)])
    # The best of each: whatever else the machine does at the time can only add to it.
    speedup = min(exact.seconds for exact, _ in rounds) / min(rounded.seconds for _, rounded in rounds)
    exact, rounded = rounds[-1]
    error = max(_distance(exact.logits, rounded.logits), _distance(exact.gradients, rounded.gradients))
    return Verdict(round(speedup, 2), round(error, 4))


class _Step(NamedTuple):
    seconds: float
    logits: Tensor
    gradients: Tensor


def _step(network: nn.Module, images: Tensor, targets: Tensor, bfloat16: bool) -> _Step:
    """Run forward and backward, wait for them, and return what they took and what they came to."""
    torch.manual_seed(0)  # the same dropout in both precisions
    network.zero_grad()
    started = time.perf_counter()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        logits: Tensor = network(images)
        loss = functional.cross_entropy(logits, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    seconds = time.perf_counter() - started
    gradients = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    return _Step(seconds, logits.detach().float(), gradients)


def _distance(exact: Tensor, other: Tensor) -> float:
    """Distance of two tensors as a share of the length of the first."""
    return float((other - exact).norm() / exact.norm())


def _key(network: nn.Module, images: Tensor, device: torch.device) -> str:
    """Name all that the verdict depends on."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    shapes = repr([(name, tuple(p.shape)) for name, p in network.named_parameters()])
    architecture = f"{type(network).__name__} {zlib.crc32((shapes + repr(network)).encode()):08x}"
    threads = f"{torch.get_num_threads()} threads"
    return " · ".join((processor, threads, f"torch {torch.__version__}", architecture, f"batch {len(images)}"))


def _processor() -> str:
    return f"{processor_name()} {torch.backends.cpu.get_cpu_capability()}"


def _memory() -> Path:
    """The file with the verdicts of this machine, where caches are kept."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "lightning_cnn" / "precision.json"


def _recall(memory: Path) -> dict[str, Any]:
    """The verdicts in a file; none where it is damaged, and is to be made anew."""
    with suppress(ValueError, OSError):  # no JSON, no text, or no file that can be read
        known = json.loads(memory.read_text())
        if isinstance(known, dict) and all(_is_verdict(value) for value in known.values()):
            return known
    return {}


def _is_verdict(value: object) -> bool:
    fields = Verdict.__dataclass_fields__.keys()
    return isinstance(value, dict) and value.keys() == fields and all(type(v) in (int, float) for v in value.values())


def _remember(known: dict[str, Any], memory: Path) -> None:
    """Write the verdicts down, unless this user has no place to: then each run tries anew."""
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(memory) as path:
            path.write_text(json.dumps(known, indent=2) + "\n")
