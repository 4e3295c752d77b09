import signal

import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback

from lightning_cnn import signals
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


@pytest.fixture
def handler():
    """A handler of the user's, and the list of the signals that it has received."""
    received: list[int] = []
    before = {signum: signal.getsignal(signum) for signum in signals.SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started with nohup

    def handle(signum, frame):
        received.append(signum)

    yield handle, received
    for signum, old in before.items():
        signal.signal(signum, old)


def test_a_signal_of_a_closed_terminal_ends_a_run_after_its_step(trainer, tmp_path, handler):
    run = trainer(ours=True, callbacks=[Checkpoints(), Sends("on_train_batch_start", signal.SIGHUP)])

    with pytest.raises(Interrupted, match="SIGHUP"):
        fit(run)

    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_a_run_started_with_nohup_goes_on_when_the_terminal_is_closed(trainer, handler):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    fit(run := trainer(ours=True, callbacks=[Sends("on_train_batch_start", signal.SIGHUP)]))

    assert run.state.finished


@pytest.mark.parametrize("signum", signals.SIGNALS)
def test_handlers_are_as_before_when_a_run_has_ended(trainer, handler, signum):
    before = signal.getsignal(signum)

    with pytest.raises(Interrupted):
        fit(trainer(ours=True, callbacks=[Sends("on_train_batch_start", signum)]))

    assert signal.getsignal(signum) == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_handler_of_the_user_is_used_in_place_of_this(trainer, handler, signum):
    signal.signal(signum, handler[0])

    fit(run := trainer(ours=True, max_steps=1, callbacks=[Sends("on_train_batch_start", signum)]))

    assert run.state.finished
    assert handler[1] == [signum]
    assert signal.getsignal(signum) == handler[0]


def test_a_handler_of_the_user_for_sigterm_is_called_first(trainer, handler, tmp_path):
    signal.signal(signal.SIGTERM, handler[0])

    with pytest.raises(Interrupted):
        fit(trainer(ours=True, callbacks=[Checkpoints(), Sends("on_train_batch_start", signal.SIGTERM)]))

    assert handler[1] == [signal.SIGTERM]
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_a_trainer_can_train_again_after_a_signal(trainer):
    sends = Sends("on_train_batch_start", signal.SIGINT)
    run = trainer(ours=True, callbacks=[sends])
    with pytest.raises(Interrupted):
        fit(run)
    del sends.on_train_batch_start

    fit(run)

    assert run.state.finished
