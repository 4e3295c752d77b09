"""The precision probe: train in bfloat16 if it is faster than float32 on this machine and agrees with it.

Processors and releases of torch differ widely: a convolution in bfloat16 may be four times as fast as in float32, or
slower, or wrong. Both are timed and compared on the network itself, and the verdict is cached.
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

#: Smallest speedup for which bfloat16 is chosen.
MIN_SPEEDUP = 1.05
#: Largest relative error of logits and of gradients (distance from float32 divided by the norm). bfloat16 rounds each
#: number by up to 0.4 %, which gives 1 % for most networks and 10 % with batch normalisation before training; where a
#: convolution is wrong, it is near 100 %.
MAX_ERROR = 0.2
#: A probe has 30 rounds, or fewer, at least 4, if they take longer than 0.7 seconds.
_ROUNDS, _MIN_ROUNDS, _SECONDS = 30, 4, 0.7
#: In that case one round is enough if bfloat16 takes this many times as long: some processors take seconds for a step.
_HOPELESS = 4


@dataclass(frozen=True)
class Verdict:
    """How a training step in bfloat16 compares to one in float32.

    Attributes:
        speedup: Time of the step in float32 divided by that in bfloat16.
        error: Largest relative error of logits and gradients against float32.
    """

    speedup: float
    error: float

    @property
    def precision(self) -> Precision:
        """The precision to train in, as Lightning's Trainer takes it."""
        good = self.speedup >= MIN_SPEEDUP and self.error <= MAX_ERROR
        return "bf16-mixed" if good else "32-true"

    def __str__(self) -> str:
        speedup, error = f"{self.speedup:.1f}", f"{self.error:.1%}"
        return f"a step in bfloat16 is {speedup} times as fast as in float32 and agrees with it to {error}"


def choose(network: nn.Module, images: Tensor, device: torch.device) -> Verdict:
    """Return the cached verdict for a network on this machine, or probe both precisions and cache it.

    Args:
        network: Maps images to logits; it is not changed.
        images: A preprocessed batch, float32 `(B, 1, 28, 28)`.
        device: The device of the training.
    """
    cache = _cache_file()
    if cache is None:  # each run probes again
        return probe(network, images, device)
    key, known = _key(network, images, device), _read_cache(cache)
    with suppress(KeyError, AttributeError, TypeError, ValueError):  # unknown or damaged
        return Verdict(**{name: float(value) for name, value in known[key].items()})
    verdict = probe(network, images, device)
    with suppress(OSError):  # without a cache, each run probes again
        cache.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cache) as path:
            path.write_text(json.dumps({**known, key: asdict(verdict)}, indent=2) + "\n", encoding="utf-8")
    return verdict


def probe(network: nn.Module, images: Tensor, device: torch.device) -> Verdict:
    """Time training steps of a copy of the network in both precisions alternately, and compare their results."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = copy.deepcopy(network).to(device).train()
        images = images.to(device)
        with torch.no_grad():
            targets = network(images).argmax(dim=1).roll(1)  # classes of other images, so that the loss is not near 0
        started = time.perf_counter()
        rounds: list[list[_Step]] = []
        while len(rounds) < _ROUNDS:
            exact, rounded = [_step(network, images, targets, bfloat16) for bfloat16 in (False, True)]
            rounds.append([exact, rounded])
            hopeless = rounded.seconds > _HOPELESS * exact.seconds
            if time.perf_counter() - started > _SECONDS and (hopeless or len(rounds) >= _MIN_ROUNDS):
                break
    # The minimum of each, because other load can only add time.
    speedup = min(exact.seconds for exact, _ in rounds) / min(rounded.seconds for _, rounded in rounds)
    error = max(_distance(exact.logits, rounded.logits), _distance(exact.gradients, rounded.gradients))
    return Verdict(round(speedup, 2), round(error, 4))


class _Step(NamedTuple):
    seconds: float
    logits: Tensor
    gradients: Tensor


def _step(network: nn.Module, images: Tensor, targets: Tensor, bfloat16: bool) -> _Step:
    """Run forward and backward passes, synchronise, and return their time and results."""
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
    """Return the norm of the difference divided by the norm of the first tensor."""
    return float((other - exact).norm() / exact.norm())


def _key(network: nn.Module, images: Tensor, device: torch.device) -> str:
    """Return a key of everything that the verdict depends on."""
    cpu = f"{processor_name()} {torch.backends.cpu.get_cpu_capability()}"
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    shapes = repr([(name, tuple(p.shape)) for name, p in network.named_parameters()])
    architecture = f"{type(network).__name__} {zlib.crc32((shapes + repr(network)).encode()):08x}"
    threads = f"{torch.get_num_threads()} threads"
    return " · ".join((processor, threads, f"torch {torch.__version__}", architecture, f"batch {len(images)}"))


def _cache_file() -> Path | None:
    """Return the cache file; None if there is no home folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():  # which is to be ignored, by the XDG specification
        home = Path(os.path.expanduser("~/.cache"))  # noqa: PTH111  # `Path.expanduser` raises RuntimeError
    return home / "lightning_cnn" / "precision.json" if home.is_absolute() else None


def _read_cache(cache: Path) -> dict[str, Any]:
    """Return the content of the cache file; empty if it is missing or damaged, and is to be replaced."""
    with suppress(ValueError, OSError):  # not JSON, not text, or not readable
        known = json.loads(cache.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    return {}
