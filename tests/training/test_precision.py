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
def _memory(tmp_path, _one_thread, monkeypatch):
    """Remember nothing from other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def trials(monkeypatch) -> list[nn.Module]:
    """The networks that were tried; each trial is a stand-in with a good verdict."""
    tried = []

    def remember(network, images, device):
        tried.append(network)
        return GOOD

    monkeypatch.setattr(precision, "probe", remember)
    return tried


def memory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "lightning_cnn" / "precision.json"


def images(batch: int = 8) -> Tensor:
    return torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(3))


class Linear(nn.Module):
    """A linear network that tells apart whether it runs in bfloat16."""

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


class Wrong(Linear):
    def in_float32(self, logits: Tensor) -> Tensor:
        time.sleep(0.005)  # bfloat16 would be faster
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        return logits.flip(1)


class WronglyLearning(Linear):
    """The logits are right and the gradients are not."""

    def in_float32(self, logits: Tensor) -> Tensor:
        time.sleep(0.005)
        return logits

    def in_bfloat16(self, logits: Tensor) -> Tensor:
        return logits.detach() + 0 * logits


class NotANumber(Linear):
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


# The rule


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
def test_bfloat16_has_to_be_fast_and_right(speedup, error, chosen):
    assert Verdict(speedup, error).precision == chosen


def test_a_verdict_can_be_read():
    assert (
        str(Verdict(1.84, 0.0123)) == "a step in bfloat16 is 1.8 times as fast as in float32 and agrees with it to 1.2%"
    )


# The trial


def test_a_network_that_is_faster_and_right_is_trained_in_bfloat16():
    verdict = probe(Fast(), images(), CPU)

    assert verdict.speedup > 2
    assert 0 < verdict.error < 0.05
    assert verdict.precision == "bf16-mixed"


@pytest.mark.parametrize("network_class", [Wrong, WronglyLearning])
def test_a_network_that_is_wrong_in_bfloat16_is_trained_in_float32(network_class):
    verdict = probe(network_class(), images(), CPU)

    assert verdict.speedup > 2
    assert verdict.error > 0.5
    assert verdict.precision == "32-true"


def test_a_network_that_gives_no_numbers_in_bfloat16_is_trained_in_float32():
    assert probe(NotANumber(), images(), CPU).precision == "32-true"


def test_a_network_that_is_slow_in_bfloat16_is_trained_in_float32():
    verdict = probe(Slow(), images(), CPU)

    assert verdict.speedup < 0.5
    assert verdict.precision == "32-true"


def test_dropout_is_no_difference():
    class Forgetful(Fast):
        def in_bfloat16(self, logits: Tensor) -> Tensor:
            return nn.functional.dropout(logits)

        def in_float32(self, logits: Tensor) -> Tensor:
            return nn.functional.dropout(logits)

    assert probe(Forgetful(), images(), CPU).error < 0.05


@pytest.mark.parametrize("mode", [True, False])
def test_a_trial_leaves_the_network_as_it_is(mode):
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


def test_a_trial_leaves_the_images_as_they_are():
    batch = images()

    probe(Linear(), batch, CPU)

    assert torch.equal(batch, images())
    assert not batch.requires_grad


def test_a_trial_takes_no_random_numbers():
    network = Linear()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    probe(network, images(), CPU)

    assert torch.equal(torch.rand(3), expected)


# What is remembered


def test_a_verdict_is_remembered(trials):
    network = CNN()

    verdicts = [choose(network, images(), CPU) for _ in range(3)]
    verdicts.append(choose(CNN(), images(), CPU))  # other weights are no other network

    assert verdicts == [GOOD] * 4
    assert trials == [network]


@pytest.mark.parametrize("verdict", [GOOD, BAD, Verdict(1.0, float("nan"))])
def test_what_is_remembered_is_what_was_found(verdict, monkeypatch):
    monkeypatch.setattr(precision, "probe", lambda *arguments: verdict)

    found = choose(CNN(), images(), CPU)

    assert found.precision == verdict.precision
    assert str(choose(CNN(), images(), CPU)) == str(verdict)


def test_another_network_batch_or_number_of_threads_is_tried_anew(trials):
    choose(CNN(), images(8), CPU)
    choose(FastCNN(), images(8), CPU)
    choose(FastCNN(channels=32), images(8), CPU)
    choose(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), images(8), CPU)
    choose(nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU()), images(8), CPU)  # with the same weights
    choose(CNN(), images(9), CPU)
    torch.set_num_threads(2)
    choose(CNN(), images(8), CPU)
    assert len(trials) == 7

    torch.set_num_threads(1)
    choose(CNN(), images(8), CPU)

    assert len(trials) == 7


def test_another_release_of_torch_and_another_processor_are_tried_anew(trials, monkeypatch):
    choose(CNN(), images(), CPU)
    monkeypatch.setattr("torch.__version__", "99.0")
    choose(CNN(), images(), CPU)
    monkeypatch.setattr(precision, "processor_name", lambda: "A CPU")
    choose(CNN(), images(), CPU)

    assert len(trials) == 3


def test_the_memory_lies_with_the_caches(trials, tmp_path):
    choose(CNN(), images(), CPU)

    ((key, value),) = json.loads(memory(tmp_path).read_text()).items()
    assert value == {"speedup": 2.0, "error": 0.01}
    assert key.endswith(" · batch 8")
    assert [path.name for path in memory(tmp_path).parent.iterdir()] == ["precision.json"]


def test_without_a_setting_the_memory_lies_in_the_home(trials, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    choose(CNN(), images(), CPU)

    assert (tmp_path / "home" / ".cache" / "lightning_cnn" / "precision.json").is_file()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe\x00"],
    ids=["empty", "unclosed", "list", "null", "text", "binary"],
)
def test_a_damaged_memory_is_made_anew(content, trials, tmp_path):
    memory(tmp_path).parent.mkdir(parents=True)
    memory(tmp_path).write_bytes(content)

    choose(CNN(), images(), CPU)
    choose(CNN(), images(), CPU)

    assert len(trials) == 1
    assert list(json.loads(memory(tmp_path).read_text()).values()) == [{"speedup": 2.0, "error": 0.01}]


@pytest.mark.parametrize(
    "value", [3, None, {}, {"speedup": 2.0}, {"speed": 2.0, "error": 0.01}, {"speedup": "x", "error": None}], ids=str
)
def test_a_damaged_verdict_is_made_anew(value, trials, tmp_path):
    choose(CNN(), images(), CPU)
    (key,) = json.loads(memory(tmp_path).read_text())
    memory(tmp_path).write_text(json.dumps({key: value, "another": {"speedup": 1.0, "error": 0.0}}))

    assert choose(CNN(), images(), CPU) == GOOD

    assert len(trials) == 2


@pytest.mark.parametrize("cache", ["/proc/nowhere", "taken"])
def test_where_nothing_can_be_written_each_run_tries_anew(cache, trials, tmp_path, monkeypatch):
    (tmp_path / "taken" / "lightning_cnn" / "precision.json").mkdir(parents=True)  # a folder in the place of the file
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))

    assert [choose(CNN(), images(), CPU) for _ in range(2)] == [GOOD, GOOD]

    assert len(trials) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_no_error(trials, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)

    assert choose(CNN(), images(), CPU) == GOOD


def test_a_file_in_the_place_of_the_folder_is_no_error(trials, tmp_path):
    (tmp_path / "cache").write_text("")

    assert choose(CNN(), images(), CPU) == GOOD
