import signal

import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback

from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.errors import Interrupted

pytestmark = pytest.mark.usefixtures("tiny_data")


class Sends(Callback):
    """Sends signals to this process when a hook is called."""

    def __init__(self, hook, *signals):
        def send(*_):
            for signum in signals:
                signal.raise_signal(signum)

        setattr(self, hook, send)


def fit(run):
    run.fit(MLPClassifier(), datamodule=MNISTDataModule(batch_size=30, val_size=50))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_after_its_step(trainer, tmp_path, signum):
    run = trainer(ours=True, callbacks=[Checkpoints(), Sends("on_train_batch_start", signum)])

    with pytest.raises(Interrupted) as interrupted:
        fit(run)

    assert interrupted.value.exit_status == 128 + signum
    assert run.global_step == 1
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_a_second_signal_ends_the_run_at_once(trainer, tmp_path):
    run = trainer(ours=True, callbacks=[Checkpoints(), Sends("on_train_batch_start", signal.SIGINT, signal.SIGTERM)])

    with pytest.raises(Interrupted, match="SIGTERM"):
        fit(run)

    assert run.global_step == 0
    assert not (tmp_path / "checkpoints").exists()


def test_a_signal_after_the_last_step_ends_the_run(trainer, tmp_path):
    run = trainer(ours=True, callbacks=[Checkpoints(), Sends("on_train_end", signal.SIGTERM)])

    with pytest.raises(Interrupted, match="SIGTERM"):
        fit(run)

    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_a_signal_before_training_ends_the_run_at_once(trainer, tmp_path):
    run = trainer(ours=True, callbacks=[Checkpoints(), Sends("on_sanity_check_start", signal.SIGTERM)])

    with pytest.raises(Interrupted, match="SIGTERM"):
        fit(run)

    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_signal_ends_validate_and_test_at_once(trainer, command):
    run = trainer(ours=True, callbacks=[Sends(f"on_{command.replace('validate', 'validation')}_start", signal.SIGTERM)])

    with pytest.raises(Interrupted, match="SIGTERM"):
        getattr(run, command)(MLPClassifier(), datamodule=MNISTDataModule(val_size=50), verbose=False)


def test_a_signal_ends_a_run_without_checkpoints(trainer, tmp_path):
    run = trainer(ours=True, callbacks=[Sends("on_train_batch_start", signal.SIGTERM)])

    with pytest.raises(Interrupted):
        fit(run)

    assert run.global_step == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "end", [None, Interrupted(signal.SIGTERM), ValueError("another error")], ids=["none", "signal", "error"]
)
def test_signal_handlers_are_restored(trainer, end):
    class Ends(Callback):
        def on_train_batch_start(self, *_):
            if end is not None:
                raise end

    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    try:
        fit(trainer(ours=True, callbacks=[Ends()]))
    except (Interrupted, ValueError):
        assert end is not None

    assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """Run as a SLURM job, and return the file into which its `scontrol` writes its arguments."""
    calls = tmp_path / "calls"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:/usr/bin:/bin")
    for name, value in {"JOB_ID": "7", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    return calls


@pytest.mark.parametrize(
    ("plugin", "signum"),
    [(SLURMEnvironment(), signal.SIGUSR1), (SLURMEnvironment(requeue_signal=signal.SIGUSR2), signal.SIGUSR2)],
)
def test_the_signal_of_slurm_requeues_the_job(trainer, slurm, tmp_path, plugin, signum):
    run = trainer(ours=True, callbacks=[Checkpoints(), Sends("on_train_batch_start", signum)], plugins=[plugin])

    with pytest.raises(Interrupted, match=signum.name):
        fit(run)

    assert slurm.read_text() == "requeue 7\n"
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_a_run_is_saved_although_scontrol_is_missing(trainer, slurm, monkeypatch, caplog):
    monkeypatch.setenv("PATH", "/nowhere")
    sends = Sends("on_train_batch_start", signal.SIGUSR1)

    with pytest.raises(Interrupted, match="SIGUSR1"):
        fit(trainer(ours=True, callbacks=[Checkpoints(), sends], plugins=[SLURMEnvironment()]))

    assert "Could not requeue the job" in caplog.text


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_other_signals_do_not_requeue_the_job(trainer, slurm, signum):
    run = trainer(ours=True, callbacks=[Sends("on_train_batch_start", signum)], plugins=[SLURMEnvironment()])

    with pytest.raises(Interrupted):
        fit(run)

    assert not slurm.exists()
