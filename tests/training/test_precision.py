import json
import os
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lightning_cnn.networks import CNN, FastCNN
from lightning_cnn.training import precision
from lightning_cnn.training.precision import MAX_ERROR, MIN_SPEEDUP, Verdict, choose, probe

CPU = torch.device("cpu")
GOOD, BAD = Verdict(2.0, 0.01), Verdict(0.5, 0.01)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, _one_thread, monkeypatch):
    """Start with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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
        time.sleep(0.005)  # bfloat16 would be faster
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        return logits.flip(1)


class WrongGradients(Linear):
    """The logits are right and the gradients are not."""

    def in_float32(self, logits: Tensor) -> Tensor:
        time.sleep(0.005)
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        return logits.detach() + 0 * logits


class NaNLogits(Linear):
    def in_float32(self, logits: Tensor) -> Tensor:
        time.sleep(0.005)
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        return logits / 0


class Slow(Linear):
    def in_bfloat16(self, logits: Tensor) -> Tensor:
        time.sleep(0.005)
        return logits


class Fast(Linear):
    def in_float32(self, logits: Tensor) -> Tensor:
        time.sleep(0.005)
        return logits


# The verdict


@pytest.mark.parametrize(
    ("speedup", "error", "chosen"),
    [
        (MIN_SPEEDUP, MAX_ERROR, "bf16-mixed"),
        (4.0, 0.0, "bf16-mixed"),
        (MIN_SPEEDUP - 0.01, 0.0, "32-true"),
        (4.0, MAX_ERROR + 0.001, "32-true"),
        (0.5, 1.0, "32-true"),
        (4.0, float("nan"), "32-true"),
        (float("nan"), 0.0, "32-true"),
    ],
)
def test_bfloat16_has_to_be_faster_and_to_agree(speedup, error, chosen):
    assert Verdict(speedup, error).precision == chosen


def test_a_verdict_as_text():
    assert (
        str(Verdict(1.84, 0.0123)) == "a step in bfloat16 is 1.8 times as fast as in float32 and agrees with it to 1.2%"
    )


# The probe


def test_a_network_that_is_faster_in_bfloat16_is_trained_in_it():
    verdict = probe(Fast(), images(), CPU)

    assert verdict.speedup > 2
    assert 0 < verdict.error < 0.05
    assert verdict.precision == "bf16-mixed"


@pytest.mark.parametrize("network_class", [WrongLogits, WrongGradients])
def test_a_network_that_is_wrong_in_bfloat16_is_trained_in_float32(network_class):
    verdict = probe(network_class(), images(), CPU)

    assert verdict.speedup > 2
    assert verdict.error > 0.5
    assert verdict.precision == "32-true"


def test_a_network_with_nan_in_bfloat16_is_trained_in_float32():
    assert probe(NaNLogits(), images(), CPU).precision == "32-true"


def test_a_network_that_is_slow_in_bfloat16_is_trained_in_float32():
    verdict = probe(Slow(), images(), CPU)

    assert verdict.speedup < 0.5
    assert verdict.precision == "32-true"


def test_a_hopeless_probe_ends_after_one_round():
    """On a processor without bfloat16, a step of a large network takes many seconds in it."""

    class Hopeless(Linear):
        calls = 0

        def in_bfloat16(self, logits: Tensor) -> Tensor:
            self.calls += 1
            time.sleep(0.8)
            return logits

    Hopeless.__deepcopy__ = lambda self, memo: self  # the probe's copy is this network, whose calls are counted
    network = Hopeless()

    assert probe(network, images(), CPU).precision == "32-true"
    assert network.calls == 1


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


# The cache


def test_a_verdict_is_cached(probed):
    network = CNN()

    verdicts = [choose(network, images(), CPU) for _ in range(3)]
    verdicts.append(choose(CNN(), images(), CPU))  # with other weights

    assert verdicts == [GOOD] * 4
    assert probed == [network]


@pytest.mark.parametrize("verdict", [GOOD, BAD, Verdict(1.0, float("nan"))])
def test_the_cached_verdict_is_that_of_the_probe(verdict, monkeypatch):
    monkeypatch.setattr(precision, "probe", lambda *arguments: verdict)

    found = choose(CNN(), images(), CPU)

    assert found.precision == verdict.precision
    assert str(choose(CNN(), images(), CPU)) == str(verdict)


def test_another_network_batch_size_or_number_of_threads_is_probed(probed):
    choose(CNN(), images(8), CPU)
    choose(FastCNN(), images(8), CPU)
    choose(FastCNN(channels=32), images(8), CPU)
    choose(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), images(8), CPU)
    choose(nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU()), images(8), CPU)  # with the same weights
    choose(CNN(), images(9), CPU)
    torch.set_num_threads(2)
    choose(CNN(), images(8), CPU)
    assert len(probed) == 7

    torch.set_num_threads(1)
    choose(CNN(), images(8), CPU)

    assert len(probed) == 7


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
    assert value == {"speedup": 2.0, "error": 0.01}
    assert key.endswith(" · batch 8")
    assert [path.name for path in cache_file(tmp_path).parent.iterdir()] == ["precision.json"]


def test_the_cache_file_is_by_default_in_the_home_folder(probed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    choose(CNN(), images(), CPU)

    assert (tmp_path / "home" / ".cache" / "lightning_cnn" / "precision.json").is_file()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe\x00"],
    ids=["empty", "unclosed", "list", "null", "text", "binary"],
)
def test_a_damaged_cache_is_replaced(content, probed, tmp_path):
    cache_file(tmp_path).parent.mkdir(parents=True)
    cache_file(tmp_path).write_bytes(content)

    choose(CNN(), images(), CPU)
    choose(CNN(), images(), CPU)

    assert len(probed) == 1
    assert list(json.loads(cache_file(tmp_path).read_text()).values()) == [{"speedup": 2.0, "error": 0.01}]


@pytest.mark.parametrize(
    "value", [3, None, {}, {"speedup": 2.0}, {"speed": 2.0, "error": 0.01}, {"speedup": "x", "error": None}], ids=str
)
def test_a_damaged_verdict_is_replaced(value, probed, tmp_path):
    choose(CNN(), images(), CPU)
    (key,) = json.loads(cache_file(tmp_path).read_text())
    cache_file(tmp_path).write_text(json.dumps({key: value, "another": {"speedup": 1.0, "error": 0.0}}))

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
