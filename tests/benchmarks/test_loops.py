import json
from pathlib import Path

import pytest
import torch
from torchvision import datasets, transforms

from benchmarks import bare, plain
from benchmarks.systems import SYSTEMS, build
from lightning_cnn.data import sources
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.run import find_runs

#: A sample has 2,000 training images, and validates on the same share of them as 5,000 of 60,000.
N_TRAIN, N_VAL = 1_834, 166
OURS = {"data_dir": "", "allow_sample": True}

every_system = pytest.mark.parametrize("system", SYSTEMS)


def test_torchvision_reads_the_uncompressed_files(sample):
    for facts, dataset in ((MNIST, datasets.MNIST), (FASHION_MNIST, datasets.FashionMNIST)):
        raw = sources.load_sample(facts)
        train, test = dataset(sample, train=True), dataset(sample, train=False)

        assert (train.data.numpy() == raw.train_images).all() and (train.targets.numpy() == raw.train_labels).all()
        assert (test.data.numpy() == raw.test_images).all() and (test.targets.numpy() == raw.test_labels).all()


@every_system
def test_the_plain_loop_has_the_network_of_the_config(system):
    ours, _ = build(system, "", allow_sample=True)
    network = plain.network(system)

    assert type(network) is type(ours.network)
    assert {name: p.shape for name, p in network.named_parameters()} == {
        name: p.shape for name, p in ours.network.named_parameters()
    }
    assert all(p.is_contiguous() and p.dtype == torch.float32 for p in network.parameters())


@every_system
def test_the_plain_loop_has_the_optimizer_of_the_config(system):
    ours, _ = build(system, "", allow_sample=True)
    expected = bare.optimizer_of(ours)
    optimizer = plain.optimizer(system, plain.network(system))
    implementation = {"fused", "foreach"}  # they change how a step is computed, not its result

    assert type(optimizer) is type(expected)
    assert {k: v for k, v in optimizer.defaults.items() if k not in implementation} == {
        k: v for k, v in expected.defaults.items() if k not in implementation
    }


def test_the_optimizer_has_the_arguments_of_the_config():
    optimizer = plain.optimizer("DeepCNN", plain.network("DeepCNN"))

    assert isinstance(optimizer, torch.optim.SGD)
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.05, 0.9)


@every_system
def test_the_plain_loop_has_the_images_of_fit(sample, system):
    classifier, datamodule = build(system, "", allow_sample=True)
    datamodule.setup("fit")
    train, val = plain.subsets(system, str(sample))

    for subset, ours in ((train, datamodule.train_set), (val, datamodule.val_set)):
        assert torch.equal(subset.dataset.data[subset.indices], ours.images[:, 0])
        assert torch.equal(subset.dataset.targets[subset.indices], ours.targets)
    assert (len(train), len(val)) == (N_TRAIN, N_VAL)
    torch.testing.assert_close(val[0][0], classifier.preprocess(datamodule.val_set.images[:1])[0])


def test_only_deep_cnn_is_augmented_and_only_in_training(sample):
    train, val = plain.subsets("DeepCNN", str(sample))
    crop, rotate, *rest = train.dataset.transform.transforms

    assert (crop.p, crop.transforms[0].transforms[0].size, crop.transforms[0].transforms[1].size) == (0.1, (22, 22), 28)
    assert rotate.degrees == [-15, 15]
    assert [type(t) for t in rest] == [transforms.ToTensor, transforms.Normalize]
    assert [type(t) for t in val.dataset.transform.transforms] == [transforms.ToTensor, transforms.Normalize]
    cnn, _ = plain.subsets("CNN", str(sample))
    assert [type(t) for t in cnn.dataset.transform.transforms] == [transforms.ToTensor, transforms.Normalize]


def test_all_loops_train_on_the_same_number_of_images(sample, cli, configs):
    by_plain = plain.train("MLP", str(sample), seed=0, limit_batches=None)
    by_bare = bare.train("MLP", **OURS, precision="32-true", seed=0, limit_batches=None)
    timing = "benchmarks.callbacks.Timing"
    config = configs / "fashion_mnist" / "mlp.yaml"
    flags = (f"--trainer.callbacks+={timing}", "--trainer.callbacks.file", "timing.json", "--trainer.max_epochs", 1)
    flags += ("--trainer.precision", "32-true")
    assert cli("fit", "--config", config, *flags).status == 0
    by_fit = json.loads(Path("timing.json").read_text())

    assert by_plain["train_images"] == by_bare["train_images"] == by_fit["train_images"] == N_TRAIN
    assert by_plain["val_images"] == by_bare["val_images"] == N_VAL
    assert plain.read_images("MLP", str(sample), 0, None)["train_images"] == N_TRAIN
    assert bare.read_images("MLP", **OURS, seed=0, limit_batches=None)["train_images"] == N_TRAIN
    (run,) = find_runs(Path("logs"))
    ((_, logged),) = run.read_metric("val/acc")
    assert by_fit["val_acc"] == pytest.approx(logged)
    assert 0 < by_fit["seconds"] < by_fit["seconds_with_plots"]
    assert by_fit["peak_memory_bytes"] > 100 * 2**20


def test_all_loops_stop_after_limit_batches(sample):
    runs = [
        plain.train("MLP", str(sample), seed=0, limit_batches=2),
        bare.train("MLP", **OURS, precision="32-true", seed=0, limit_batches=2),
        plain.read_images("MLP", str(sample), seed=0, limit_batches=2),
        bare.read_images("MLP", **OURS, seed=0, limit_batches=2),
    ]

    assert [run["train_images"] for run in runs] == [128] * 4
    assert all(run["seconds"] > 0 for run in runs)


def test_the_loops_learn(sample):
    by_plain = plain.train("CNN", str(sample), seed=0, limit_batches=None)
    by_bare = bare.train("CNN", **OURS, precision="32-true", seed=0, limit_batches=None)

    assert by_plain["val_acc"] > 0.6
    assert by_bare["val_acc"] > 0.6


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be one of 32-true, bf16-mixed, got '64-true'"):
        bare.autocast("64-true")
