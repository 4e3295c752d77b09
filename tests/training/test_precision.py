import json
import os
import subprocess
import sys
import time
from itertools import cycle
from math import comb, inf, nan
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lightning_cnn.networks import CNN, FastCNN
from lightning_cnn.training import precision
from lightning_cnn.training.precision import (
    MAX_ERROR,
    MIN_SPEEDUP,
    Verdict,
    bounds,
    choose,
    has_bfloat16,
    probe,
)

CPU = torch.device("cpu")
GOOD, BAD, UNSURE = Verdict(1.9, 2.1, 0.01), Verdict(0.4, 0.5, 0.01), Verdict(0.9, 1.2, 0.01)
DAY = 24 * 3600


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, _one_thread, monkeypatch):
    """Start with an empty cache, on a processor with bfloat16."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)


@pytest.fixture
def probed(monkeypatch) -> list[nn.Module]:
    """The networks that were probed; the probe is replaced by one that returns a good verdict."""
    networks = []

    def record(network, images, device):
        networks.append(network)
        return GOOD

    monkeypatch.setattr(precision, "probe", record)
    return networks


def cache_file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "lightning_cnn" / "precision.json"


def images(batch: int = 8) -> Tensor:
    return torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(3))


def compute(seconds: float) -> None:
    """Let this thread compute for some time of its own."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Linear(nn.Module):
    """A linear network that can differ in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.linear(images.flatten(1))
        return self.in_bfloat16(logits) if torch.is_autocast_enabled("cpu") else self.in_float32(logits)

    def in_float32(self, logits: Tensor) -> Tensor:
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        return logits


class WrongLogits(Linear):
    def in_float32(self, logits: Tensor) -> Tensor:
        compute(0.002)  # bfloat16 would be faster
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        return logits.flip(1)


class WrongGradients(Linear):
    """The logits are right and the gradients are not."""

    def in_float32(self, logits: Tensor) -> Tensor:
        compute(0.002)
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        return logits.detach() + 0 * logits


class NaNLogits(Linear):
    def in_float32(self, logits: Tensor) -> Tensor:
        compute(0.002)
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        return logits / 0


class Slow(Linear):
    def in_bfloat16(self, logits: Tensor) -> Tensor:
        compute(0.002)
        return logits


class SlightlyFaster(Linear):
    """1.4 times as fast in bfloat16, and slower in the other one below."""

    def in_float32(self, logits: Tensor) -> Tensor:
        compute(0.0028)
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        compute(0.002)
        return logits


class SlightlySlower(Linear):
    def in_float32(self, logits: Tensor) -> Tensor:
        compute(0.002)
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        compute(0.0028)
        return logits


class BarelyFaster(Linear):
    """As fast as the smallest speedup, up to chance."""

    def in_float32(self, logits: Tensor) -> Tensor:
        compute(0.00105 * next(self.factors))
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        compute(0.001)
        return logits

    def __init__(self) -> None:
        super().__init__()
        self.factors = cycle([0.5, 2.0])


class Fast(Linear):
    def in_float32(self, logits: Tensor) -> Tensor:
        compute(0.002)
        return logits


# The verdict


@pytest.mark.parametrize(
    ("low", "high", "error", "chosen", "sure"),
    [
        (MIN_SPEEDUP, 4.0, MAX_ERROR, "bf16-mixed", True),
        (0.5, MIN_SPEEDUP - 0.01, 0.0, "32-true", True),
        (MIN_SPEEDUP - 0.01, MIN_SPEEDUP, 0.0, "bf16-mixed", False),
        (0.0, inf, 0.0, "bf16-mixed", False),
        (3.0, 4.0, MAX_ERROR + 0.001, "32-true", True),
        (3.0, 4.0, nan, "32-true", True),
    ],
)
def test_bfloat16_has_to_agree_and_not_to_be_surely_slower(low, high, error, chosen, sure):
    verdict = Verdict(low, high, error)

    assert (verdict.precision, verdict.is_sure) == (chosen, sure)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (
            Verdict(1.84, 1.98, 0.0123),
            "a step in bfloat16 is 1.8 to 2.0 times as fast as in float32; logits and gradients differ by up to 1.2 %",
        ),
        (
            Verdict(0.9, 1.2, 0.0123),
            "the processor has instructions for bfloat16; whether it is faster could not be measured",
        ),
        (
            Verdict(0.9, 1.2, 0.9),
            "logits and gradients in bfloat16 differ from float32 by up to 90 %, too much to train",
        ),
    ],
    ids=["sure", "not sure", "wrong"],
)
def test_a_verdict_as_text(verdict, text):
    assert str(verdict) == text


# The bounds


@pytest.mark.parametrize("count", [11, 20, 40])
def test_the_median_is_outside_the_bounds_as_seldom_as_promised(count):
    """Of values that are drawn at random, as many are on one side of their median as heads of a coin."""
    ranks = list(range(1, count + 1))  # the bounds are the same ranks whatever the values are
    low, high = bounds(ranks)

    outside = sum(comb(count, heads) for heads in range(count + 1) if heads < low or heads >= high) / 2**count
    one_more = sum(comb(count, heads) for heads in range(count + 1) if heads < low + 1 or heads >= high - 1) / 2**count

    assert low + high == count + 1
    assert outside <= 0.001 < one_more


# The probe


def test_a_network_that_is_faster_in_bfloat16_is_trained_in_it():
    verdict = probe(Fast(), images(), CPU)

    assert verdict.low >= MIN_SPEEDUP
    assert 0 < verdict.error < 0.05
    assert verdict.precision == "bf16-mixed"


@pytest.mark.parametrize("network_class", [WrongLogits, WrongGradients])
def test_a_network_that_is_wrong_in_bfloat16_is_trained_in_float32(network_class):
    verdict = probe(network_class(), images(), CPU)

    assert verdict.low >= MIN_SPEEDUP  # for its speed, it would be bfloat16
    assert verdict.error > 0.5
    assert verdict.precision == "32-true"


def test_a_network_with_nan_in_bfloat16_is_trained_in_float32():
    assert probe(NaNLogits(), images(), CPU).precision == "32-true"


def test_a_network_that_is_slow_in_bfloat16_is_trained_in_float32():
    verdict = probe(Slow(), images(), CPU)

    assert verdict.high < 0.5
    assert verdict.precision == "32-true"


def test_a_network_that_is_as_fast_in_bfloat16_is_trained_as_the_processor_can():
    verdict = probe(BarelyFaster(), images(), CPU)

    assert not verdict.is_sure
    assert verdict.precision == "bf16-mixed"


def test_a_probe_of_a_slow_network_ends_after_a_second(monkeypatch):
    monkeypatch.setattr(precision, "_SECONDS", 0.01)

    verdict = probe(Slow(), images(), CPU)

    assert (verdict.low, verdict.high) == (0, inf)
    assert 0 < verdict.error < 0.05


@pytest.fixture
def _two_busy_processes():
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for process in busy:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("_two_busy_processes")
def test_other_processes_do_not_change_the_verdict():
    """`scripts/benchmark precision` does this a hundred times with the five systems."""
    verdicts = [probe(cls(), images(), CPU) for cls in (SlightlyFaster, SlightlySlower)]

    assert [verdict.precision for verdict in verdicts] == ["bf16-mixed", "32-true"]
    assert all(verdict.is_sure for verdict in verdicts)


def test_both_precisions_have_the_same_dropout():
    class WithDropout(Fast):
        def in_bfloat16(self, logits: Tensor) -> Tensor:
            return nn.functional.dropout(logits)

        def in_float32(self, logits: Tensor) -> Tensor:
            return nn.functional.dropout(logits)

    assert probe(WithDropout(), images(), CPU).error < 0.05


@pytest.mark.parametrize("mode", [True, False])
def test_the_probe_does_not_change_the_network(mode):
    network = FastCNN(channels=2, hidden=3).train(mode)
    network.classifier[1].weight.grad = torch.full((3, 32), 7.0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}  # running means among them

    probe(network, images(), CPU)

    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert [name for name, p in network.named_parameters() if p.grad is not None] == ["classifier.1.weight"]
    assert (network.classifier[1].weight.grad == 7).all()
    assert {module.training for module in network.modules()} == {mode}


def test_the_probe_does_not_change_the_images():
    batch = images()

    probe(Linear(), batch, CPU)

    assert torch.equal(batch, images())
    assert not batch.requires_grad


def test_the_probe_does_not_change_the_random_state():
    network = Linear()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    probe(network, images(), CPU)

    assert torch.equal(torch.rand(3), expected)


# Instructions for bfloat16


@pytest.mark.parametrize(
    ("machine", "has", "expected"),
    [
        ("x86_64", {"avx512_bf16"}, True),
        ("AMD64", {"amx"}, True),
        ("x86_64", {"emulated"}, False),
        ("aarch64", {"emulated"}, True),
        ("aarch64", set(), False),
    ],
)
def test_what_the_processor_can_do(machine, has, expected, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "avx512_bf16" in has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx" in has)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: "emulated" in has)

    assert has_bfloat16(CPU) is expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_what_the_gpu_can_do(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    assert has_bfloat16(torch.device("cuda")) is expected


def test_without_instructions_nothing_is_measured(probed, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)

    verdict = choose(CNN(), images(), CPU)

    assert verdict is None
    assert probed == []
    assert not cache_file(tmp_path).exists()


# The cache


def test_a_verdict_is_cached(probed):
    network = CNN()

    verdicts = [choose(network, images(), CPU) for _ in range(3)]
    verdicts.append(choose(CNN(), images(), CPU))  # with other weights

    assert verdicts == [GOOD] * 4
    assert probed == [network]


@pytest.mark.parametrize("verdict", [GOOD, BAD, Verdict(1.0, 1.1, nan)])
def test_the_cached_verdict_is_that_of_the_probe(verdict, monkeypatch):
    monkeypatch.setattr(precision, "probe", lambda *arguments: verdict)

    found = choose(CNN(), images(), CPU)

    assert found.precision == verdict.precision
    assert str(choose(CNN(), images(), CPU)) == str(verdict)


def test_another_network_or_batch_size_is_probed(probed):
    choose(CNN(), images(8), CPU)
    choose(FastCNN(), images(8), CPU)
    choose(FastCNN(channels=32), images(8), CPU)
    choose(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), images(8), CPU)
    choose(nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU()), images(8), CPU)  # with the same weights
    choose(CNN(), images(9), CPU)
    assert len(probed) == 6

    torch.set_num_threads(2)  # the probe has one
    choose(CNN(), images(8), CPU)

    assert len(probed) == 6


def test_a_verdict_that_is_not_sure_is_not_remembered(probed, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "probe", lambda *arguments: UNSURE)

    assert choose(CNN(), images(), CPU) == UNSURE

    assert not cache_file(tmp_path).exists()


@pytest.mark.parametrize(
    ("days", "measured", "expected"),
    [(29, BAD, GOOD), (31, BAD, BAD), (31, UNSURE, GOOD), (-1, BAD, BAD)],
    ids=["recent", "old", "old, and the new one is not sure", "of the future"],
)
def test_after_a_month_a_verdict_is_looked_at_again(days, measured, expected, probed, monkeypatch, tmp_path):
    choose(CNN(), images(), CPU)
    content = json.loads(cache_file(tmp_path).read_text())
    (entry,) = content.values()
    entry["measured_at"] -= days * DAY
    cache_file(tmp_path).write_text(json.dumps(content))
    monkeypatch.setattr(precision, "probe", lambda *arguments: measured)

    assert choose(CNN(), images(), CPU) == expected


def test_another_release_of_torch_and_another_processor_are_probed(probed, monkeypatch):
    choose(CNN(), images(), CPU)
    monkeypatch.setattr("torch.__version__", "99.0")
    choose(CNN(), images(), CPU)
    monkeypatch.setattr(precision, "processor_name", lambda: "A CPU")
    choose(CNN(), images(), CPU)

    assert len(probed) == 3


def test_the_cache_file_is_below_xdg_cache_home(probed, tmp_path):
    choose(CNN(), images(), CPU)

    ((key, value),) = json.loads(cache_file(tmp_path).read_text()).items()
    assert value == {"low": 1.9, "high": 2.1, "error": 0.01, "measured_at": pytest.approx(time.time(), abs=60)}
    assert key.endswith(" · batch 8")
    assert [path.name for path in cache_file(tmp_path).parent.iterdir()] == ["precision.json"]


def test_the_cache_file_is_by_default_in_the_home_folder(probed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    choose(CNN(), images(), CPU)

    assert (tmp_path / "home" / ".cache" / "lightning_cnn" / "precision.json").is_file()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe\x00", b"[" * 100_000],
    ids=["empty", "unclosed", "list", "null", "text", "binary", "deep"],
)
def test_a_damaged_cache_is_replaced(content, probed, tmp_path):
    cache_file(tmp_path).parent.mkdir(parents=True)
    cache_file(tmp_path).write_bytes(content)

    choose(CNN(), images(), CPU)
    choose(CNN(), images(), CPU)

    assert len(probed) == 1
    ((_, value),) = json.loads(cache_file(tmp_path).read_text()).items()
    assert value["low"] == 1.9


@pytest.mark.parametrize(
    "value",
    [
        3,
        None,
        {},
        {"speedup": 2.0, "error": 0.01},  # of the first release
        {"low": 1.9, "high": 2.1, "error": 0.01},
        {"low": "x", "high": 2.1, "error": None, "measured_at": 1e12},
        {"low": 0.9, "high": 1.2, "error": 0.01, "measured_at": 1e12},  # not sure
        {"low": 3.0, "high": 2.0, "error": 0.01, "measured_at": 1e12},
        {"low": 2.0, "high": inf, "error": 0.01, "measured_at": 1e12},
        {"low": 2.0, "high": 3.0, "error": -0.01, "measured_at": 1e12},
        {"low": 2.0, "high": 3.0, "error": 0.01, "measured_at": 10**400},
    ],
    ids=str,
)
def test_a_damaged_verdict_is_replaced(value, probed, tmp_path):
    choose(CNN(), images(), CPU)
    (key,) = json.loads(cache_file(tmp_path).read_text())
    cache_file(tmp_path).write_text(json.dumps({key: value, "another": None}))

    assert choose(CNN(), images(), CPU) == GOOD

    assert len(probed) == 2


def test_without_a_home_folder_each_run_probes(probed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, by the XDG specification
    monkeypatch.setenv("HOME", "~")  # as where the system knows no home of this user

    assert [choose(CNN(), images(), CPU) for _ in range(2)] == [GOOD, GOOD]
    assert len(probed) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cache", ["/proc/nowhere", "taken"])
def test_without_a_cache_each_run_probes(cache, probed, tmp_path, monkeypatch):
    (tmp_path / "taken" / "lightning_cnn" / "precision.json").mkdir(parents=True)  # a folder with the name of the file
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))

    assert [choose(CNN(), images(), CPU) for _ in range(2)] == [GOOD, GOOD]

    assert len(probed) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_no_error(probed, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)

    assert choose(CNN(), images(), CPU) == GOOD


def test_a_file_instead_of_the_folder_is_no_error(probed, tmp_path):
    (tmp_path / "cache").write_text("")

    assert choose(CNN(), images(), CPU) == GOOD
