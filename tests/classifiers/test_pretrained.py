from pathlib import Path

import pytest
import torch
import yaml

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.classifiers import CNNClassifier, FastCNNClassifier
from lightning_cnn.errors import UserError
from lightning_cnn.run import Run

SMALL = ("--model.channels", 8)


@pytest.fixture
def first(trained) -> Path:
    """A run of a small network on MNIST."""
    return trained("mnist/fast.yaml", *SMALL)


def network_of(run: Path, name: str = "best") -> dict[str, torch.Tensor]:
    weights = checkpoints.read(Run(run).checkpoint(name))["state_dict"]
    return {name: weight for name, weight in weights.items() if name.startswith("network.")}


def start_of(run: Path) -> str | None:
    return yaml.safe_load(Run(run).config_file.read_text())["model"]["init_args"]["weights"]


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_training_starts_from_weights(first, fit):
    frozen = ("--model.optimizer.lr", 1e-12, "--model.scheduler", "null")

    second = fit("mnist/fast.yaml", *SMALL, *frozen, "--model.weights", first)

    parameters = [name for name in network_of(first) if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(network_of(first)[name], network_of(second)[name], atol=1e-6) for name in parameters)


def test_a_layer_for_other_classes_starts_anew_and_is_named(first, caplog):
    classifier = FastCNNClassifier(channels=8, num_classes=3, weights=str(first))

    weights, found = network_of(first), classifier.state_dict()
    fresh = [name for name in weights if weights[name].shape != found[name].shape]
    assert len(fresh) == 2 and same(
        {name: weights[name] for name in weights if name not in fresh},
        {name: found[name] for name in weights if name not in fresh},
    )
    assert f"; {', '.join(sorted(name.removeprefix('network.') for name in fresh))} start anew" in caplog.text


def test_weights_of_another_architecture_are_refused(first):
    with pytest.raises(UserError, match=r"--model.weights .*best.ckpt is of another architecture than this network"):
        CNNClassifier(weights=str(first))
    with pytest.raises(UserError, match="checkpoint nowhere does not exist"):
        CNNClassifier(weights="nowhere")


def test_a_resumed_run_keeps_its_own_weights_and_says_where_it_started(first, fit, cli):
    flags = ("--trainer.max_steps", 2, "--model.scheduler", "null")
    second = fit("mnist/fast.yaml", *SMALL, "--model.weights", first, *flags)
    assert start_of(second) == str(first)
    Run(first).checkpoint("best").unlink()  # it is needed no more

    outcome = cli("fit", second, "--trainer.max_steps", 3)

    assert outcome.status == 0, outcome.err
    assert start_of(second) == str(first)
    assert cli("test", second).status == 0


def test_a_checkpoint_is_not_believed_where_it_started(first, cli, tmp_path):
    content = torch.load(Run(first).checkpoint("best"), weights_only=True)
    content["hyper_parameters"]["weights"] = content["lightning_cnn"]["config"]["model"]["init_args"]["weights"] = (
        "/etc"
    )
    torch.save(content, tmp_path / "other.ckpt")

    assert cli("test", tmp_path / "other.ckpt").status == 0
    (tmp_path / "digit.png").touch()
    assert "/etc" not in cli("predict", tmp_path / "other.ckpt", tmp_path / "digit.png").err
