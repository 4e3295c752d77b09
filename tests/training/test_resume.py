import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

from lightning_cnn import checkpoint, threads
from lightning_cnn.callbacks import Checkpoints, Progress
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.errors import UserError
from lightning_cnn.files import sha256
from lightning_cnn.run import Run
from lightning_cnn.threads import CoreUsage
from lightning_cnn.training.resume import run_to_resume


@pytest.fixture
def stopped(cli, tiny_data, configs, monkeypatch):
    """Train CNN on tiny data until a signal stops it after three of ten steps, and return the outcome."""

    def run(*flags, signum=signal.SIGTERM, after=3):
        is_due = Checkpoints.is_due

        def is_due_or_stop(self, trainer):
            if trainer.global_step == after - 1:
                signal.raise_signal(signum)  # handled at the next step boundary
            return is_due(self, trainer)

        plain = ("--plots.enabled", "false", "--dashboard.enabled", "false", "--data.val_size", 50)
        short = ("--trainer.max_epochs", 2, "--data.batch_size", 30, "--model", "FastCNNClassifier")
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "is_due", is_due_or_stop)
            return cli("fit", "--config", configs / "mnist" / "cnn.yaml", *plain, *short, *flags)

    return run


def only_run() -> Path:
    (run,) = Path("logs").glob("*/version_*")
    return run


def step(run: Path, name: str = "last") -> int:
    reached: int = checkpoint.read(run / "checkpoints" / f"{name}.ckpt")["global_step"]
    return reached


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_says_how_to_resume(stopped, cli, signum, status):
    outcome = stopped(signum=signum)

    assert outcome.status == status
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("lightning-cnn:")]
    hint = re.fullmatch(rf"lightning-cnn: stopped by {signum.name}; resume from step 3 with: lightning-cnn (.*)", line)
    assert cli(*hint[1].split()).status == 0
    assert step(only_run()) == 10


@pytest.mark.parametrize("is_output", [True, False])
def test_a_run_whose_output_nobody_reads_says_how_to_resume(cli, tiny_data, configs, monkeypatch, is_output):
    def print_to_nobody(self, *args, **options):
        if self.trainer.current_epoch == 1:
            raise BrokenPipeError

    monkeypatch.setattr(Progress, "print", print_to_nobody)
    monkeypatch.setattr("lightning_cnn.signals.leave_closed_output", lambda: is_output)
    plain = ("--plots.enabled", "false", "--dashboard.enabled", "false", "--data.val_size", 50)
    command = ("fit", "--config", configs / "fashion_mnist" / "mlp.yaml", *plain, "--trainer.max_epochs", 3)

    if is_output:
        outcome = cli(*command)
        assert outcome.status == 141
        message = "stopped by SIGPIPE (nobody reads its output); resume from step 3 with: lightning-cnn fit "
        assert outcome.err.splitlines()[-1].startswith(f"lightning-cnn: {message}")
    else:  # another pipe, of a library
        with pytest.raises(BrokenPipeError):
            cli(*command)


def test_a_keyboard_interrupt_of_a_callback_says_how_to_resume(cli, tiny_data, configs, monkeypatch):
    def interrupt(module, batch, batch_idx):
        if module.global_step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ImageClassifier, "on_train_batch_start", interrupt, raising=False)
    flags = ("--data.val_size", 50, "--data.batch_size", 30, "--checkpoints.every_n_steps", 1)

    outcome = cli("fit", "--config", configs / "mnist" / "cnn.yaml", *flags)

    assert outcome.status == 130
    assert outcome.err.splitlines()[-1].startswith("lightning-cnn: stopped by SIGINT; resume from step 2 with: ")


def test_the_resume_command_keeps_test(stopped):
    assert stopped("--test", "true").err.endswith("--test true\n")


def test_the_resume_command_names_the_config_that_has_callbacks_of_the_user(stopped, cli, tmp_path, monkeypatch):
    Path("own_callback.py").write_text("from lightning.pytorch import Callback\n\n\nclass Own(Callback):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    line = stopped("--trainer.callbacks+=own_callback.Own").err.splitlines()[-1]

    command = line.partition(" with: python -m lightning_cnn ")[2].split()
    assert command[-2:] == ["--config", str(only_run() / "config.yaml")]
    assert cli(*command).status == 0
    assert step(only_run()) == 10


def test_a_resumed_run_equals_one_that_was_not_stopped(stopped, cli):
    stopped()
    assert cli("fit", "--ckpt_path", "last").status == 0
    run = only_run()
    after_a_stop = {name: (run / name).read_bytes() for name in ("metrics.csv", "config.yaml")}
    weights = checkpoint.read(run / "checkpoints" / "last.ckpt")["state_dict"]

    assert cli("fit", "--config", run / "config.yaml").status == 0

    (again,) = set(Path("logs").glob("*/version_*")) - {run}
    assert {name: (again / name).read_bytes() for name in after_a_stop} == after_a_stop
    repeated = checkpoint.read(again / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(torch.equal(weights[name], repeated[name]) for name in weights)


def test_steps_after_a_checkpoint_are_discarded_only_with_overwrite(mlp_run, cli):
    previous = mlp_run / "checkpoints" / "previous.ckpt"
    before = {path: path.read_bytes() for path in mlp_run.rglob("*") if path.is_file()}

    refused = cli("fit", "--ckpt_path", previous)

    assert refused.status == 2
    assert f"is of step {step(mlp_run, 'previous')}, but the run has reached step {step(mlp_run)}" in refused.err
    assert {path: path.read_bytes() for path in mlp_run.rglob("*") if path.is_file()} == before
    assert cli("fit", "--ckpt_path", previous, "--overwrite", "true").status == 0


def test_a_checkpoint_in_a_subfolder_belongs_to_the_run(mlp_run, cli):
    best = mlp_run / "checkpoints" / "epoch=1-val" / "acc=0.5.ckpt"  # ModelCheckpoint's name with the metric `val/acc`
    best.parent.mkdir()
    shutil.copy(mlp_run / "checkpoints" / "previous.ckpt", best)

    refused = cli("fit", best)

    assert refused.status == 2
    assert f"but the run has reached step {step(mlp_run)}; resume from there with `fit {mlp_run}`" in refused.err
    assert cli("fit", best, "--overwrite", "true").status == 0
    assert only_run() == mlp_run


def test_the_checkpoint_before_a_damaged_one_needs_no_overwrite(mlp_run, cli):
    (mlp_run / "checkpoints" / "last.ckpt").write_bytes(b"damaged")

    refused = cli("fit", "--ckpt_path", mlp_run)
    resumed = cli("fit", "--ckpt_path", "previous")

    assert refused.status == 2 and "previous.ckpt" in refused.err
    assert resumed.status == 0, resumed.err


@pytest.fixture
def stock_checkpoint(mlp_run, tmp_path):
    """The run as Lightning's Trainer would have saved it: without our entries and the settings of the Trainer."""
    content = torch.load(mlp_run / "checkpoints" / "last.ckpt", weights_only=True)
    del content["loops"]["exact_resume"]
    config = content["lightning_cnn"]["config"]
    content["lightning_cnn"]["config"] = {name: config[name] for name in ("model", "data")}
    torch.save(content, path := tmp_path / "stock.ckpt")
    return path


def test_a_checkpoint_of_lightnings_trainer_is_resumed_in_a_new_run(stock_checkpoint, cli, caplog):
    flags = ("--trainer.max_epochs", 4, "--plots.enabled", "false", "--dashboard.enabled", "false")

    resumed = cli("fit", "--ckpt_path", stock_checkpoint, "--trainer.precision", "32-true", *flags)

    assert resumed.status == 0, resumed.err
    assert "Resume may not be bit-exact" in caplog.text
    assert step(Path("logs/fashion_mnist-mlp/version_1")) == 12


def test_a_checkpoint_without_training_state_is_refused(mlp_run, cli, tmp_path):
    content = torch.load(mlp_run / "checkpoints" / "last.ckpt", weights_only=True)
    del content["loops"]
    torch.save(content, tmp_path / "weights.ckpt")

    refused = cli("fit", "--ckpt_path", tmp_path / "weights.ckpt")

    assert refused.status == 2
    assert "has no training state to resume" in refused.err


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["loops"]["exact_resume"].update(ranks=[]),
        lambda content: content["loops"]["exact_resume"].update(ranks=["evil"]),
        lambda content: content["optimizer_states"][0]["param_groups"][0].update(lr="evil"),
    ],
)
def test_a_state_that_fails_only_in_use_is_refused_in_one_line(mlp_run, cli, change):
    path = mlp_run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)

    refused = cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 4)

    assert refused.status == 2
    assert "its training state does not fit this run" in refused.err


@pytest.mark.parametrize("change", [None, "evil", {}, {"seed": "evil"}, {"seed": -1}, {"images": 1.5}, {"epoch": None}])
def test_a_state_of_the_data_loader_that_is_not_one_is_refused(mlp_run, cli, change):
    path = mlp_run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    (state,) = content["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    changed = {**state, **change} if isinstance(change, dict) and change else change
    content["loops"]["fit_loop"]["state_dict"]["combined_loader"] = [changed]
    torch.save(content, path)

    refused = cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 4)

    assert refused.status == 2
    assert "the state of the data loader in the checkpoint is not a seed and a position in an epoch" in refused.err


@pytest.mark.parametrize("argv", [("test", "evil.ckpt"), ("validate", "evil.ckpt"), ("fit", "evil.ckpt")])
def test_a_model_is_compared_before_memory_is_allocated(mlp_run, cli, argv, tmp_path):
    content = torch.load(mlp_run / "checkpoints" / "last.ckpt", weights_only=True)
    network = {"class_path": "lightning_cnn.networks.MLP", "init_args": {"num_classes": 10**10}}
    settings = content[checkpoint.KEY]["config"]["model"]["init_args"] | {"network": network}
    model = {"class_path": "lightning_cnn.classifiers.ImageClassifier", "init_args": settings}
    content[checkpoint.KEY]["config"]["model"] = model
    torch.save(content, tmp_path / "evil.ckpt")

    refused = cli(*argv)

    assert refused.status == 2
    assert "another architecture: the model has (10000000000,)" in refused.err


def test_an_optimizer_state_that_does_not_fit_is_refused(mlp_run, cli):
    path = mlp_run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["optimizer_states"] = [{}]
    torch.save(content, path)

    refused = cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 4)

    assert refused.status == 2
    assert "its training state does not fit this run" in refused.err


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (
            ("--model.optimizer.lr", 0.1),
            "--model.optimizer.lr 0.1: the run has 0.5, which it keeps",
        ),
        (("--model.optimizer", "Adam"), "--model.optimizer torch.optim.Adam: the run has torch.optim.SGD"),
        (("--data", "MNISTDataModule"), "--data lightning_cnn.data.MNISTDataModule: the run has lightning_cnn.data"),
        (("--seed_everything", 4), "--seed_everything 4: the run has 0"),
        (("--data.val_size", 60), "--data.val_size 60: the run has 50"),
        (("--data.augment", "CropAndRotate"), "--data.augment"),
        (("--data.folds", 5, "--data.fold", 1), "--data.fold"),
        (("--data.batch_size", 32), "the run has 64 images per step, which it keeps when it is resumed, not 32;"),
        (("--data.global_batch_size", 32), "the run has 64 images per step"),
        (("--trainer.max_epochs", 1), "--trainer.max_epochs 1: the run has trained 3 epochs already"),
    ],
)
def test_settings_that_a_resumed_run_keeps_cannot_be_changed(mlp_run, cli, flags, reason):
    before = {path: path.read_bytes() for path in mlp_run.rglob("*") if path.is_file()}

    refused = cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 4, *flags)

    assert refused.status == 2
    assert reason in refused.err
    assert {path: path.read_bytes() for path in mlp_run.rglob("*") if path.is_file()} == before


def test_a_checkpoint_without_optimizer_state_is_refused(mlp_run, cli):
    path = mlp_run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["optimizer_states"] = []
    torch.save(content, path)

    refused = cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 4)

    assert "has no training state to resume" in refused.err


def test_a_finished_run_says_so(mlp_run, cli):
    outcome = cli("fit", "--ckpt_path", mlp_run)

    assert outcome.status == 0
    assert "nothing left to train" in outcome.out and "--trainer.max_epochs" in outcome.out
    assert "nothing left to train" not in cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 4).out


def test_a_run_is_trained_by_one_process_at_a_time(mlp_run, cli):
    with Run(mlp_run).lock():
        refused = cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 4)

    assert refused.status == 2
    assert "is being trained by another process" in refused.err
    assert cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 4).status == 0


def test_a_lock_is_released(tmp_path):
    for _ in range(2):
        with Run(tmp_path).lock(), pytest.raises(UserError, match="another process"), Run(tmp_path).lock():
            pass


def test_another_number_of_threads_is_reported_and_recorded(mlp_run, cli, caplog, monkeypatch):
    record = json.loads((mlp_run / "environment.json").read_text())
    (mlp_run / "environment.json").write_text(json.dumps(record | {"threads": 7}))

    cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 4)

    assert f"threads 7 → {record['threads']}" in caplog.text
    (earlier,) = json.loads((mlp_run / "environment.json").read_text())["earlier"]
    assert earlier["threads"] == 7


def test_a_run_keeps_its_number_of_threads_whatever_the_machine_does(mlp_run, cli, monkeypatch):
    last = mlp_run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["lightning_cnn"]["threads"] == 1
    checkpoint["lightning_cnn"]["threads"] = 2
    torch.save(checkpoint, last)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    monkeypatch.setattr(CoreUsage, "free_cores", lambda self: 1.0)

    for command in ("validate", "test", "fit"):
        torch.set_num_threads(1)
        assert cli(command, "--ckpt_path", last, *(["--trainer.max_epochs", 4] if command == "fit" else [])).status == 0
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("flags", "number"),
    [
        ([], 1),
        (["--deterministic", "true"], 2),
        (["--trainer.deterministic", "true"], 2),  # as in the config of a deterministic run
    ],
    ids=["", "deterministic", "trainer.deterministic"],
)
def test_a_new_run_has_as_many_threads_as_free_cores_unless_it_is_deterministic(
    flags, number, fit, monkeypatch, caplog
):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    monkeypatch.setattr(CoreUsage, "free_cores", lambda self: 0.9)
    torch.set_num_threads(2)

    fit("fashion_mnist/mlp.yaml", *flags)

    assert torch.get_num_threads() == number
    said = [message for message in caplog.messages if message.startswith("Threads:")]
    assert (
        said == ["Threads: 1 (other processes leave 0.9 of 2 cores free; OMP_NUM_THREADS overrides it)"][: 2 - number]
    )


OWN = """\
from torch import nn
from torch.optim import Adam
from lightning.pytorch.cli import OptimizerCallable
from lightning_cnn.classifiers import ImageClassifier

class OwnClassifier(ImageClassifier):
    def __init__(self, optimizer: OptimizerCallable = Adam) -> None:
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), optimizer)
"""


def test_the_resume_command_names_classes_of_the_user(stopped, cli, monkeypatch, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    line = stopped("--model", "own.OwnClassifier").err.splitlines()[-1]

    assert line.endswith(" --model own.OwnClassifier")
    outcome = cli(*line.partition("with: python -m lightning_cnn ")[2].split())
    assert outcome.status == 0, outcome.err
    assert re.search(r"python -m lightning_cnn test .* --model own\.OwnClassifier", outcome.out)
    assert cli("fit", "--ckpt_path", only_run(), "--trainer.max_epochs", 3).status == 2


# --resume auto


def test_the_same_command_resumes_an_unfinished_run(stopped, caplog):
    stopped("--resume", "auto")

    again = stopped("--resume", "auto", after=100)

    assert again.status == 0
    assert f"Resumed: {only_run()}" in caplog.messages
    assert step(only_run()) == 10


def test_a_run_that_has_found_its_batch_size_is_resumed(stopped):
    finder = ("--trainer.callbacks", "BatchSizeFinder", "--trainer.callbacks.max_trials", 1)
    stopped("--resume", "auto", *finder)

    assert stopped("--resume", "auto", *finder, "--trainer.max_epochs", 2, after=1000).status == 0

    assert step(only_run()) > 10  # with the smaller batches that were found


def test_a_finished_run_is_not_resumed(stopped):
    stopped(after=100)
    first = only_run()

    stopped("--resume", "auto", after=100)

    (second,) = set(Path("logs").glob("*/version_*")) - {first}
    assert step(second) == 10


def test_a_run_that_was_killed_in_its_final_test_is_only_tested(stopped):
    stopped(after=100)

    again = stopped("--resume", "auto", "--test", "true", after=100)

    assert "Finished:   nothing left to train" in again.out and "Test accuracy" in again.out
    assert (only_run() / "test_metrics.json").is_file()


@pytest.fixture
def found(mlp_run):
    """What `--resume auto` finds with the settings of a finished run."""

    def find(**options):
        config = Run(mlp_run).read_config() | {"test": False} | options
        return run_to_resume(mlp_run.parents[1], config)

    return find


@pytest.mark.parametrize(("weights", "is_tested"), [("best", True), ("previous", False)])
def test_a_test_of_other_weights_than_the_best_does_not_count(mlp_run, found, weights, is_tested):
    best, last = (mlp_run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert (found(), found(test=True)) == (None, last)
    results = mlp_run / "test_metrics.json"
    results.write_text(json.dumps({"checkpoint_sha256": sha256(mlp_run / "checkpoints" / f"{weights}.ckpt")}))
    os.utime(results, (0, 0))  # older than the weights, as in a copy of the folder

    assert found(test=True) == (None if is_tested else last)

    os.utime(results)
    assert found(test=True) is None
    best.unlink()
    assert found(test=True) is None


def test_many_finished_runs_are_neither_parsed_nor_read(mlp_run, found, monkeypatch):
    for n in range(1, 5):
        copy = shutil.copytree(mlp_run, mlp_run.with_name(f"version_{n}"))
        seed = f"seed_everything: {n // 2}\n"
        (copy / "config.yaml").write_text((mlp_run / "config.yaml").read_text().replace("seed_everything: 0\n", seed))
    parsed, read = [], []
    monkeypatch.setattr(Run, "read_config", lambda run, original=Run.read_config: parsed.append(run) or original(run))
    for module in (checkpoint, checkpoint.reading):
        monkeypatch.setattr(module, "read", read.append)

    assert found() is None
    assert (len(parsed), read) == (2, [])  # once for the settings to compare with, once for all runs that have them


def test_a_run_with_other_settings_is_not_resumed(stopped):
    stopped("--model.optimizer.lr", 0.01)

    stopped("--resume", "auto")

    assert len(list(Path("logs").glob("*/version_*"))) == 2


def test_devices_and_the_probed_precision_may_differ(stopped):
    stopped("--trainer.precision", "32-true")

    assert stopped("--resume", "auto", "--trainer.accelerator", "cpu", "--trainer.devices", 1, after=100).status == 0

    assert step(only_run()) == 10


def test_another_requested_precision_starts_another_run(stopped):
    stopped("--trainer.precision", "32-true")

    stopped("--resume", "auto", "--trainer.precision", "bf16-mixed")

    assert len(list(Path("logs").glob("*/version_*"))) == 2


def test_a_torchrun_job_finds_its_run_also_when_it_is_finished(stopped, monkeypatch):
    for name, value in {"RUN_ID": "digits", "RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    for name, value in {"LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    stopped(after=100)

    again = stopped("--resume", "auto", after=100)  # it was killed while it was tested

    assert "Finished:   nothing left to train" in again.out
    assert step(only_run()) == 10


def test_a_checkpoint_and_auto_cannot_be_combined(mlp_run, cli):
    refused = cli("fit", "--ckpt_path", mlp_run, "--resume", "auto")

    assert refused.status == 2
    assert "--resume auto finds the run itself; leave out the checkpoint, or --resume" in refused.err


# SLURM


@pytest.fixture
def requeued(monkeypatch):
    """Be a SLURM job that was restarted this often."""

    def be(restarts, job="7"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))

    return be


def test_a_requeued_slurm_job_resumes(stopped, cli, requeued, configs):
    requeued(0)
    stopped()
    requeued(1)

    assert stopped(after=100).status == 0

    assert step(only_run()) == 10


def test_the_run_of_a_job_is_found_below_the_root_of_the_config(stopped, requeued, tmp_path):
    (tmp_path / "where.yaml").write_text("trainer: {default_root_dir: elsewhere}")
    requeued(0)
    stopped("--config", tmp_path / "where.yaml")
    requeued(1)

    stopped("--config", tmp_path / "where.yaml", after=100)

    (run,) = Path("elsewhere").glob("*/version_*")
    assert step(run) == 10


def test_another_job_starts_a_new_run(stopped, requeued):
    requeued(0)
    stopped()
    requeued(1, job="8")

    stopped(after=100)

    assert len(list(Path("logs").glob("*/version_*"))) == 2


# --deterministic


def test_deterministic_runs_are_bit_identical(fit):
    few = ("--data.batch_size", 25, "--data.val_size", 20, "--trainer.limit_train_batches", 2)
    flags = ("mnist/deep_cnn.yaml", *few, "--deterministic", "true")

    first, second = (checkpoint.read(fit(*flags) / "checkpoints" / "last.ckpt") for _ in range(2))

    assert all(torch.equal(weight, second["state_dict"][name]) for name, weight in first["state_dict"].items())
    trainer = first["lightning_cnn"]["config"]["trainer"]
    assert trainer["deterministic"] is True and trainer["precision"] == "32-true"


def test_deterministic_keeps_a_given_precision(fit):
    run = fit("fashion_mnist/mlp.yaml", "--deterministic", "true", "--trainer.precision", "bf16-mixed")

    assert checkpoint.read(run / "checkpoints" / "last.ckpt")["lightning_cnn"]["config"]["trainer"]["precision"] == (
        "bf16-mixed"
    )
