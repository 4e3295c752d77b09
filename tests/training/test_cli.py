import csv
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from idx import write_idx_dataset
from lightning.pytorch.callbacks import ProgressBar
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_cnn.checkpoint import read
from lightning_cnn.classifiers import ImageClassifier, MLPClassifier
from lightning_cnn.cli import main
from lightning_cnn.data import FashionMNISTDataModule, MNISTDataModule
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.networks import CNN
from lightning_cnn.run import snake_case
from lightning_cnn.training.precision import Verdict
from lightning_cnn.training.trainer import Trainer

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*mnist/*.yaml"))
NETWORKS = {path: yaml.safe_load(path.read_text())["model"]["init_args"].get("network") for path in CONFIGS}
PLAIN = ("--plots.enabled", "false", "--dashboard.enabled", "false")
#: What makes a training short.
FEW = ("--data.batch_size", 25, "--data.val_size", 20, "--trainer.limit_train_batches", 2)
TINY = (
    *("--trainer.max_epochs", 1, "--trainer.precision", "32-true", "--data.val_size", 50),
    *PLAIN,
)

#: The files that a run writes before its first step.
RECORDS = ("config.yaml", "data.json", "environment.json")
PROJECTED = ("tensors.tsv", "metadata.tsv", "sprite.png")


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def accuracy_in_training(run: Path) -> float:
    """The last validation accuracy that the run has logged."""
    return [float(row["val/acc"]) for row in metrics(run) if row["val/acc"]][-1]


def files(folder: Path) -> set[str]:
    """Names of all files but locks and pictures, with the version of TensorBoard's left out."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    return {"events" if "tfevents" in name else name for name in names if "plots/" not in name}


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def network_of(config: Path) -> str:
    """The network of a shipped config, as run folders name it."""
    if network := NETWORKS[config]:
        return snake_case(network["class_path"].rpartition(".")[2])
    return {"fast": "fast_cnn"}.get(config.stem, config.stem)


# Every config


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_config_trains_and_its_checkpoint_tests(config, fit, cli):
    run = fit(config, "--trainer.check_val_every_n_epoch", 1)
    assert run == Path(f"logs/{config.parent.name}-{network_of(config)}/version_0")

    tested = cli("test", *PLAIN, "--ckpt_path", run / "checkpoints" / "best.ckpt")

    assert tested.status == 0, tested.err
    result = json.loads((run / "test_metrics.json").read_text())
    assert f"Test accuracy: {100 * result['test/acc']:.2f} % of 100 images" in tested.out


@pytest.mark.parametrize(
    "config",
    [path for path, network in NETWORKS.items() if not network],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_every_classifier_takes_the_other_dataset_by_flags_alone(config, tiny_data, cli):
    classifier = yaml.safe_load(config.read_text())["model"]["class_path"].rpartition(".")[2]
    other, folder = {
        "mnist": ("FashionMNISTDataModule", "fashion_mnist"),
        "fashion_mnist": ("MNISTDataModule", "mnist"),
    }[config.parent.name]

    trained = cli("fit", "--model", classifier, "--data", other, *TINY)

    assert trained.status == 0, trained.err
    run = Path(f"logs/{folder}-{network_of(config)}/version_0")
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["class_path"].endswith(f".{other}")


def test_one_config_is_enough(tmp_path, tiny_data, configs, cli, monkeypatch):
    facts = write_idx_dataset(tmp_path / "data", FASHION_MNIST, n_train=5_100)  # 100 besides the validation images
    monkeypatch.setenv("LIGHTNING_CNN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(FashionMNISTDataModule, "facts", facts)

    trained = cli("fit", "--config", configs / "fashion_mnist" / "fast.yaml")

    assert trained.status == 0, trained.err
    epochs = {int(row["epoch"]) for row in metrics(Path("logs/fashion_mnist-fast_cnn/version_0")) if row["val/acc"]}
    assert epochs == {0, 1}


def test_any_optimizer_trains_any_network(fit):
    run = fit("mnist/cnn.yaml", "--model.optimizer", "RMSprop", "--model.optimizer.lr", 0.002)

    optimizer = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["optimizer"]
    assert optimizer["class_path"] == "torch.optim.RMSprop"
    assert optimizer["init_args"]["lr"] == 0.002


def test_tiny_data_is_learned(fit, cli):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.max_epochs", 10, "--model.optimizer.lr", 0.1)

    assert cli("test", *PLAIN, "--ckpt_path", run).status == 0
    assert json.loads((run / "test_metrics.json").read_text())["test/acc"] > 0.95


# The run folder


def test_a_run_leaves_what_is_documented(fit, cli):
    run = fit("mnist/cnn.yaml", "--plots.enabled", "true", "--dashboard.enabled", "true")

    documented = {
        *RECORDS,
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "events",
    }
    assert files(run) == documented | {"cnn_model.pth"}
    assert files(Path("logs")) == {f"mnist-cnn/version_0/{name}" for name in files(run) - {"events"}} | {"events"}
    cli("test", "--ckpt_path", run)
    cli("validate", "--ckpt_path", run)
    projector = {"projector_config.pbtxt", *(f"00002/test/{name}" for name in PROJECTED)}
    assert files(run) == documented | projector | {"cnn_model.pth", "test_metrics.json", "test_predictions.csv"}
    assert [path.name for path in Path().iterdir()] == ["logs"]


def test_each_run_has_a_folder_of_its_own(fit):
    assert [fit("fashion_mnist/mlp.yaml").name for _ in range(2)] == ["version_0", "version_1"]
    assert fit("fashion_mnist/mlp.yaml", "--trainer.default_root_dir", "elsewhere") == Path(
        "elsewhere/fashion_mnist-mlp/version_0"
    )


def test_metrics_have_their_documented_names_and_tensorboard_has_the_same(mlp_run):
    rows = metrics(mlp_run)
    events = EventAccumulator(str(mlp_run)).Reload()

    assert {"epoch", "step", "train/loss_step"} <= set(rows[0])
    for name in ("train/loss", "train/acc", "val/loss", "val/acc"):
        logged = [row for row in rows if row[name]]
        # 150 images in batches of 64 are 3 steps an epoch.
        assert [(row["epoch"], row["step"]) for row in logged] == [("0", "2"), ("1", "5"), ("2", "8")]
        scalars = [(event.step, event.value) for event in events.Scalars(name)]
        assert scalars == [(int(row["step"]), pytest.approx(float(row[name]), rel=1e-6)) for row in logged]


def test_config_yaml_repeats_the_run(fit, cli):
    first = fit("mnist/deep_cnn.yaml", *FEW, "--seed_everything", 5, "--model.optimizer.lr", 0.02)

    assert cli("fit", "--config", first / "config.yaml").status == 0

    assert same(weights(first), weights(first.parent / "version_1"))


def test_cnn_saves_its_weights_alone(fit):
    run = fit("mnist/cnn.yaml")

    network = CNN()
    network.load_state_dict(torch.load(run / "cnn_model.pth", weights_only=True))

    trained = weights(run)
    assert all(torch.equal(tensor, trained[f"network.{name}"]) for name, tensor in network.state_dict().items())


def test_best_is_the_epoch_of_the_best_validation_accuracy(mlp_run):
    accuracies = [float(row["val/acc"]) for row in metrics(mlp_run) if row["val/acc"]]
    best, last = (torch.load(mlp_run / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))

    assert best["epoch"] == int(np.argmax(accuracies)) + 1
    assert last["epoch"] == 3
    assert best["lightning_cnn"]["metrics"]["val/acc"] == pytest.approx(max(accuracies))


# Seeds


def test_a_seed_makes_runs_bit_identical(fit):
    flags = ("mnist/deep_cnn.yaml", *FEW)

    first, second = fit(*flags), fit(*flags)
    other = fit(*flags, "--seed_everything", 1)

    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(other))
    assert yaml.safe_load((first / "config.yaml").read_text())["seed_everything"] == 0


# Evaluating


@pytest.mark.parametrize("name", ["best", "last"])
def test_validation_repeats_what_training_logged(mlp_run, cli, name):
    content = torch.load(mlp_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    logged = [row for row in metrics(mlp_run) if row["val/acc"]][content["epoch"] - 1]

    outcome = cli("validate", *PLAIN, "--ckpt_path", mlp_run / "checkpoints" / f"{name}.ckpt")

    measured = {key: float(value) for key, value in re.findall(r"(val/\w+)[\s│]+([\d.e-]+)", outcome.out)}
    assert measured == {key: pytest.approx(float(logged[key]), abs=1e-7) for key in ("val/loss", "val/acc")}


def test_a_checkpoint_may_be_a_file_a_folder_or_a_name(mlp_run, cli):
    file = mlp_run / "checkpoints" / "best.ckpt"
    printed = []

    for reference in (file, file.absolute(), mlp_run, f"{mlp_run}/", "best"):
        (mlp_run / "test_metrics.json").unlink(missing_ok=True)
        outcome = cli("test", *PLAIN, "--ckpt_path", reference)
        assert outcome.status == 0, outcome.err
        printed.append(re.search(r"Test accuracy: .*", outcome.out)[0])
        assert Path(json.loads((mlp_run / "test_metrics.json").read_text())["checkpoint"]).name == "best.ckpt"

    assert len(set(printed)) == 1
    cli("test", *PLAIN, "--ckpt_path", "last", "--overwrite", "true")
    assert Path(json.loads((mlp_run / "test_metrics.json").read_text())["checkpoint"]).name == "last.ckpt"


def test_evaluation_on_other_data_is_mentioned(mlp_run, cli, caplog):
    note = "best.ckpt was trained with FashionMNISTDataModule, and is evaluated on other data"

    assert cli("validate", *PLAIN, mlp_run).status == 0
    assert note not in caplog.text
    assert cli("validate", *PLAIN, mlp_run, "--data", "MNISTDataModule").status == 0
    assert note in caplog.text


@pytest.mark.parametrize("command", ["test", "validate"])
def test_weights_are_needed_to_evaluate_and_the_progress_of_the_run_is_not(mlp_run, cli, command):
    content = torch.load(mlp_run / "checkpoints/best.ckpt", weights_only=True)
    for changed in ({"state_dict": {}}, {"loops": {}}):
        torch.save(content | changed, f"without {min(changed)}.ckpt")

    refused = cli(command, *PLAIN, "without state_dict.ckpt")
    outcome = cli(command, *PLAIN, "without loops.ckpt")

    assert refused.status == 2
    assert "the model has () for mean, the checkpoint none" in refused.err
    assert outcome.status == 0, outcome.err


@pytest.mark.parametrize(("command", "stage"), [("test", "test"), ("validate", "val")])
def test_evaluating_nothing_is_refused(mlp_run, cli, command, stage):
    outcome = cli(command, *PLAIN, mlp_run, f"--trainer.limit_{stage}_batches", 0)

    assert outcome.status == 2
    assert f"--trainer.limit_{stage}_batches 0 evaluates nothing; give more" in outcome.err


def test_a_checkpoint_elsewhere_is_enough(mlp_run, cli, tmp_path):
    (tmp_path / "mail").mkdir()
    moved = (mlp_run / "checkpoints" / "best.ckpt").rename(tmp_path / "mail" / "my model.ckpt")

    assert cli("test", *PLAIN, "--ckpt_path", moved).status == 0

    assert files(tmp_path / "mail") == {"my model.ckpt", "test_metrics.json", "test_predictions.csv"}


def test_testing_does_not_depend_on_the_size_of_batches(mlp_run, cli):
    results = []
    for size in (7, 1_000):
        assert cli("test", *PLAIN, "--ckpt_path", mlp_run, "--data.eval_batch_size", size).status == 0
        results.append(json.loads((mlp_run / "test_metrics.json").read_text()))

    assert results[0]["test/acc"] == results[1]["test/acc"]
    assert results[0]["test/loss"] == pytest.approx(results[1]["test/loss"], rel=1e-5)
    assert results[0]["images"] == results[1]["images"] == 100


@pytest.mark.parametrize("command", ["validate", "test"])
def test_the_config_of_a_run_evaluates_it(command, mlp_run, cli):
    outcome = cli(command, *PLAIN, "--config", mlp_run / "config.yaml", "--ckpt_path", "best")

    assert outcome.status == 0, outcome.err


# Resuming


def test_a_run_is_resumed_in_its_folder(fit, cli):
    run = fit("mnist/cnn.yaml")
    first = weights(run)

    outcome = cli("fit", "--ckpt_path", "last", "--trainer.max_epochs", 2)

    assert outcome.status == 0, outcome.err
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    assert [(row["epoch"], row["step"]) for row in metrics(run) if row["val/acc"]] == [("0", "2"), ("1", "5")]
    assert not same(first, weights(run))
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}


def test_a_resumed_run_keeps_its_optimizer_state(fit, cli):
    run = fit("mnist/cnn.yaml")
    assert cli("fit", "--ckpt_path", run, "--trainer.max_epochs", 2).status == 0

    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"][0]

    assert state["step"].item() == 6  # Adam's own count


# Names for the newest run


def test_a_name_means_the_newest_run(mlp_run, fit, cli):
    newer = fit("fashion_mnist/mlp.yaml", "--seed_everything", 1)

    assert cli("test", *PLAIN, "--ckpt_path", "last").status == 0

    assert not (mlp_run / "test_metrics.json").exists()
    assert (newer / "test_metrics.json").exists()


@pytest.mark.parametrize(
    "classes", [("--config", "configs/fashion_mnist/mlp.yaml"), ("--model", "MLPClassifier")], ids=["config", "flags"]
)
def test_a_name_means_the_newest_run_with_the_given_classes(mlp_run, fit, cli, configs, classes):
    newer = fit("mnist/cnn.yaml")
    flag, value = classes

    outcome = cli("test", *PLAIN, flag, configs.parent / value if flag == "--config" else value, "--ckpt_path", "best")

    assert outcome.status == 0, outcome.err
    assert (mlp_run / "test_metrics.json").exists()
    assert not (newer / "test_metrics.json").exists()


def test_a_run_is_found_below_the_given_root(fit, cli):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.default_root_dir", "elsewhere")

    assert cli("test", *PLAIN, "--ckpt_path", "best").status == 2
    assert cli("test", *PLAIN, "--ckpt_path", "best", "--trainer.default_root_dir", "elsewhere").status == 0
    assert (run / "test_metrics.json").exists()


# Loggers of the user


def test_a_logger_goes_on_where_it_was_when_the_run_is_resumed(fit, cli):
    logger = ("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir")
    fit("fashion_mnist/mlp.yaml", *logger, "straight", "--trainer.max_epochs", 2)
    run = fit("fashion_mnist/mlp.yaml", *logger, "resumed")

    assert cli("fit", run, "--trainer.max_epochs", 2).status == 0

    (straight,), (resumed,) = (list(Path(folder).rglob("metrics.csv")) for folder in ("straight", "resumed"))
    assert resumed.read_text() == straight.read_text()
    assert yaml.safe_load((resumed.parent / "hparams.yaml").read_text())["model.optimizer"] == "SGD"


@pytest.mark.parametrize(("command", "metric"), [("validate", "val/acc"), ("test", "test/acc")])
def test_evaluations_are_logged_where_the_user_asks_for_it(fit, cli, command, metric):
    run = fit("fashion_mnist/mlp.yaml")
    before = files(run)

    cli(command, run, *PLAIN, "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "own")

    with Path("own/lightning_logs/version_0/metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row[metric]) > 0
    assert files(run) - before <= {"test_metrics.json", "test_predictions.csv"}


def test_a_batch_size_is_searched_once(fit, cli):
    finder = ("--trainer.callbacks", "BatchSizeFinder", "--trainer.callbacks.init_val", 25)
    run = fit("fashion_mnist/mlp.yaml", *finder, "--trainer.callbacks.max_trials", 1, "--test", "true")
    found = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["batch_size"]

    assert cli("fit", run, "--trainer.max_epochs", 2).status == 0

    assert read(run / "checkpoints" / "last.ckpt")["global_step"] == 2 * (150 // found)


# What can be turned off


def test_a_run_without_logger(fit):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.logger", "false")

    assert files(run) == {*RECORDS, "checkpoints/best.ckpt", "checkpoints/last.ckpt"}


def test_a_run_without_checkpoints(fit):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.enable_checkpointing", "false")

    assert files(run) == {*RECORDS, "metrics.csv", "events"}
    assert len([row for row in metrics(run) if row["val/acc"]]) == 1


def test_a_fast_dev_run_probes_no_precision_and_leaves_nothing(tiny_data, cli, configs, probed):
    outcome = cli("fit", "--config", configs / "mnist" / "fast.yaml", *TINY, *AUTO, "--trainer.fast_dev_run", "true")

    assert outcome.status == 0, outcome.err
    assert probed == []
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_a_checkpoint_callback_of_the_user_is_no_reason_to_refuse(cli, configs, fit, command):
    run = fit("mnist/fast.yaml")
    callback = "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint"
    what = {
        "fit": ("--config", configs / "mnist" / "fast.yaml", *TINY, "--trainer.fast_dev_run", "true"),
        "validate": (run,),
        "test": (run, "--overwrite"),
    }

    outcome = cli(command, *what[command], callback)

    assert outcome.status == 0, outcome.err


def test_mlp_prints_its_loss(tiny_data, cli, configs):
    trained = cli("fit", "--config", configs / "fashion_mnist" / "mlp.yaml", *TINY)

    assert re.search(r"^epoch 1 · loss: 2\.\d{4} \[ *64/150\]$", trained.out, flags=re.MULTILINE)


# The sample


def test_the_sample_is_used_if_allowed(tiny_data, tmp_path, monkeypatch, configs, capsys):
    facts = write_idx_dataset(tmp_path / "unused", FASHION_MNIST)
    monkeypatch.setattr(FashionMNISTDataModule, "facts", facts)
    monkeypatch.setattr(MNISTDataModule, "facts", facts)

    config = str(configs / "fashion_mnist" / "mlp.yaml")
    argv = ["fit", "--config", config, "--trainer.max_epochs", "1", "--data.allow_sample", "true"]
    assert main([*argv, "--data.data_dir", str(tmp_path / "empty")]) == 0

    assert "THIS IS A SAMPLE" in capsys.readouterr().err
    record = json.loads(Path("logs/fashion_mnist-mlp/version_0/data.json").read_text())
    assert record["sample"] is True


def test_a_refused_resume_leaves_the_run_as_it_was(fit, cli, configs):
    run = fit("mnist/cnn.yaml")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    refused = cli("fit", "--config", configs / "mnist" / "deep_cnn.yaml", "--ckpt_path", run, "--data.val_size", 50)

    assert refused.status == 2
    assert "--model lightning_cnn.classifiers.DeepCNNClassifier: the run has lightning_cnn" in refused.err
    assert {path: path.read_bytes() for path in before} == before


def test_results_that_cannot_be_written_are_refused_before_the_work(mlp_run, cli, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)

    refused = cli("test", *PLAIN, "--ckpt_path", mlp_run)

    assert refused.status == 2
    assert "not writable" in refused.err
    assert not (mlp_run / "test_metrics.json").exists()


# Batches


@pytest.mark.parametrize(("limit", "batches", "kind"), [("1", 1, int), ("2", 2, int), ("1.0", 3, float)])
def test_batches_are_limited_by_number_or_share(limit, batches, kind, fit):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.limit_train_batches", limit)

    assert [int(row["step"]) for row in metrics(run) if row["val/acc"]] == [batches - 1]
    trainer = yaml.safe_load((run / "config.yaml").read_text())["trainer"]
    assert type(trainer["limit_train_batches"]) is kind


@pytest.mark.parametrize("config", ["mnist/fast.yaml", "mnist/cnn.yaml"])  # with batch normalisation and without
def test_the_last_batch_may_be_a_single_image(config, fit):
    fit(config, "--data.batch_size", 149)  # of 150


# Testing after training


def test_the_best_weights_can_be_tested_after_training(tiny_data, cli, configs):
    config = configs / "fashion_mnist" / "mlp.yaml"
    run = Path("logs/fashion_mnist-mlp/version_0")

    trained = cli(
        *("fit", "--config", config, *TINY, "--trainer.max_epochs", 3, "--model.optimizer.lr", 0.5, "--test", "true")
    )
    after_training = [(run / name).read_text() for name in ("test_metrics.json", "test_predictions.csv")]
    tested = cli("test", *PLAIN, "--ckpt_path", run)

    assert tested.status == 0, tested.err
    assert [(run / name).read_text() for name in ("test_metrics.json", "test_predictions.csv")] == after_training
    result = json.loads(after_training[0])
    assert (Path(result["checkpoint"]), result["images"]) == (run / "checkpoints" / "best.ckpt", 100)
    (summary,) = re.findall(r"^Test accuracy: .*$", tested.out, flags=re.MULTILINE)
    assert re.findall(r"^Test accuracy: .*$", trained.out, flags=re.MULTILINE) == [summary]
    assert "Test metric" in trained.out and "Test metric" in tested.out  # Lightning's table
    assert f"Run folder: {run}\n" in trained.out
    assert "Test it: " not in trained.out


def test_fit_does_not_test_by_default(mlp_run):
    assert not (mlp_run / "test_metrics.json").exists()


def test_testing_without_best_weights_is_refused(tiny_data, cli, configs):
    flags = ("--test", "true", "--trainer.enable_checkpointing", "false")

    refused = cli("fit", "--config", configs / "fashion_mnist" / "mlp.yaml", *TINY, *flags)

    assert refused.status == 2
    (error,) = [line for line in refused.err.splitlines() if "error" in line]
    assert error.startswith("lightning-cnn: error: --test true needs the best weights")
    assert "Traceback" not in refused.err


def test_training_that_ends_before_its_first_validation_says_how_to_test_the_last_weights(tiny_data, cli, configs):
    flags = ("--test", "true", "--trainer.max_steps", 1)

    refused = cli("fit", "--config", configs / "fashion_mnist" / "mlp.yaml", *TINY, *flags)

    last = "logs/fashion_mnist-mlp/version_0/checkpoints/last.ckpt"
    assert refused.status == 2 and Path(last).is_file()
    assert refused.err.splitlines()[-1].endswith(f"; test the last ones with `lightning-cnn test {last}`")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_final_test_says_how_to_go_on(tiny_data, cli, configs, monkeypatch, signum):
    monkeypatch.setattr(MLPClassifier, "on_test_start", lambda self: signal.raise_signal(signum), raising=False)
    command = ("fit", "--config", configs / "fashion_mnist" / "mlp.yaml", *TINY, "--test", "true")

    stopped = cli(*command)

    assert stopped.status == 128 + signum
    assert re.search(r"resume from step \d+ with: lightning-cnn fit .* --test true$", stopped.err, re.MULTILINE)


# Precision

AUTO = ("--trainer.precision", "auto")


@pytest.fixture
def probed(monkeypatch):
    """Let the probe find bfloat16 faster; returns the networks that were probed."""
    networks = []

    def choose(network, images, device):
        networks.append((type(network).__name__, tuple(images.shape), images.dtype, str(device)))
        return Verdict(low=1.94, high=2.13, error=0.01)

    monkeypatch.setattr("lightning_cnn.training.precision.choose", choose)
    return networks


def precision_of(run: Path) -> str:
    return yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"]


def test_the_probe_decides_the_precision(fit, probed, caplog):
    run = fit("fashion_mnist/mlp.yaml", *AUTO, "--trainer.accelerator", "cpu", "--data.batch_size", 30)

    assert probed == [("MLP", (30, 1, 28, 28), torch.float32, "cpu")]
    assert precision_of(run) == "bf16-mixed"
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["lightning_cnn"]["config"]["trainer"]["precision"] == "bf16-mixed"
    reason = "a step in bfloat16 is 1.9 to 2.1 times as fast as in float32; logits and gradients differ by up to 1.0 %"
    assert caplog.messages.count(f"Precision: bf16-mixed ({reason})") == 1


def test_a_run_records_the_precision_that_was_chosen(fit, caplog):
    run = fit("fashion_mnist/mlp.yaml", *AUTO)

    assert precision_of(run) in ("32-true", "bf16-mixed")
    assert [m for m in caplog.messages if m.startswith(f"Precision: {precision_of(run)} (")] != []


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_given_precision_is_not_probed(precision, fit, probed, caplog):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.precision", precision)

    assert precision_of(run) == precision
    assert probed == []
    assert not any(message.startswith("Precision:") for message in caplog.messages)


def test_the_probe_does_not_change_the_training(fit):
    auto = fit("mnist/cnn.yaml", *AUTO)

    given = fit("mnist/cnn.yaml", "--trainer.precision", precision_of(auto))

    assert same(weights(auto), weights(given))


def test_a_resumed_run_keeps_the_precision(fit, cli, probed):
    run = fit("mnist/cnn.yaml", *AUTO)
    probed.clear()

    outcome = cli("fit", "--ckpt_path", run, "--trainer.max_epochs", 2)

    assert outcome.status == 0, outcome.err
    assert probed == []
    assert precision_of(run) == "bf16-mixed"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_evaluation_uses_the_precision_of_the_training(precision, fit, cli, monkeypatch):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.precision", precision)
    used = []
    monkeypatch.setattr(ImageClassifier, "on_test_start", lambda model: used.append(model.trainer.precision))

    assert cli("test", *PLAIN, "--ckpt_path", run).status == 0
    assert cli("test", *PLAIN, "--ckpt_path", run, "--trainer.precision", "32-true").status == 0

    assert used == [precision, "32-true"]


# One cycle


def rates(run: Path) -> list[float]:
    """The learning rates that a run has logged."""
    return [float(value) for row in metrics(run) for name, value in row.items() if name.startswith("lr-") and value]


def test_one_cycle_is_as_long_as_the_run(fit):
    every_step = ("--data.batch_size", 30, "--trainer.log_every_n_steps", 1)  # five steps an epoch

    run = fit("fashion_mnist/fast.yaml", *every_step, "--trainer.max_epochs", 4)

    found = rates(run)
    assert len(found) == 20
    assert found[0] == pytest.approx(0.02 / 25)
    assert found[3] == max(found) == pytest.approx(0.02)  # a fifth of the way
    assert found[3:] == sorted(found[3:], reverse=True)
    assert found[-1] == pytest.approx(0.02 / 25 / 1e4)


def test_one_cycle_cannot_be_made_longer(fit, cli, monkeypatch):
    run = fit("mnist/fast.yaml", "--data.batch_size", 25)
    monkeypatch.setattr("lightning_cnn.callbacks.tensorboard.time", lambda: 1e9)  # the clock was set back
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    refused = cli("fit", "--ckpt_path", run, "--trainer.max_epochs", 2)

    assert refused.status == 2
    (error,) = [line for line in refused.err.splitlines() if "error" in line]
    assert error == (
        "lightning-cnn: error: the schedule in the checkpoint has 6 steps, but this run has 12; "
        "resume with the same number of epochs and the same batch size, or start a new run"
    )
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_one_cycle_may_have_few_steps(steps, fit):
    run = fit("mnist/fast.yaml", "--data.batch_size", 15, "--trainer.limit_train_batches", steps)

    assert (run / "checkpoints" / "best.ckpt").is_file()


def test_one_cycle_for_which_torch_divides_by_zero_is_refused(tiny_data, cli, configs):
    flags = ("--data.batch_size", 15, "--trainer.limit_train_batches", 5, "--data.val_size", 50)

    refused = cli("fit", "--config", configs / "mnist" / "fast.yaml", *flags)

    assert refused.status == 2
    assert "this schedule cannot have 5 steps; train for more epochs" in refused.err.splitlines()[-1]


def test_one_cycle_needs_an_end(tiny_data, cli, configs):
    flags = ("--trainer.max_epochs", -1, "--trainer.max_time", "00:00:00:02", "--data.val_size", 50)

    refused = cli("fit", "--config", configs / "mnist" / "fast.yaml", *flags)

    assert refused.status == 2
    assert "Traceback" not in refused.err
    assert refused.err.splitlines()[-1].startswith("lightning-cnn: error: ")


# Progress


@pytest.fixture
def trainers(monkeypatch) -> list[Trainer]:
    """The trainers that have trained."""
    trainers = []
    monkeypatch.setattr(ImageClassifier, "on_fit_start", lambda model: trainers.append(model.trainer))
    return trainers


def bars(trainer: Trainer) -> list[tuple[str, int]]:
    return [(type(c).__name__, c.refresh_rate) for c in trainer.callbacks if isinstance(c, ProgressBar)]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_and_in_a_pipe(terminal, fit, trainers, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    fit("fashion_mnist/simple_cnn.yaml")

    assert bars(trainers[0]) == [("Progress", 50)]


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluation_shows_progress(command, mlp_run, cli, monkeypatch):
    found = []
    hook = {"validate": "on_validation_start", "test": "on_test_start"}[command]
    monkeypatch.setattr(ImageClassifier, hook, lambda model: found.append(bars(model.trainer)))

    assert cli(command, *PLAIN, "--ckpt_path", mlp_run).status == 0
    assert cli(command, *PLAIN, "--ckpt_path", mlp_run, "--trainer.enable_progress_bar", "false").status == 0

    assert found == [[("Progress", 50)], []]


def test_the_progress_has_settings(fit, trainers):
    fit("fashion_mnist/mlp.yaml", "--trainer.callbacks+", "Progress", "--trainer.callbacks.refresh_rate", 7)

    assert bars(trainers[0]) == [("Progress", 7)]


@pytest.mark.parametrize("flag", ["--trainer.callbacks", "--trainer.callbacks+"])
def test_a_progress_bar_of_the_user_replaces_ours(flag, fit, trainers):
    fit("fashion_mnist/mlp.yaml", flag, "TQDMProgressBar", "--trainer.callbacks.refresh_rate", 7)

    assert bars(trainers[0]) == [("TQDMProgressBar", 7)]


def test_progress_can_be_hidden(fit, trainers):
    fit("fashion_mnist/mlp.yaml", "--trainer.enable_progress_bar", "false")

    assert bars(trainers[0]) == []


# Profiling


def test_a_profiler_measures(tiny_data, cli, configs, caplog):
    flags = ("--trainer.profiler", "simple")

    outcome = cli("fit", "--config", configs / "fashion_mnist" / "mlp.yaml", *TINY, *flags)

    assert outcome.status == 0, outcome.err
    assert any("run_training_batch" in message for message in caplog.messages)
