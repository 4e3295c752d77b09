import io
import logging
import os
import pickle
import re
import signal
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, Timer
from small import SmallClassifier
from torch.utils.data import DataLoader, IterableDataset

from lightning_cnn.callbacks.checkpoints import Checkpoints
from lightning_cnn.callbacks.progress import Progress
from lightning_cnn.data import MNISTDataModule, sharing
from lightning_cnn.errors import Interrupted

pytestmark = pytest.mark.usefixtures("tiny_data")

#: What validation adds to a line.
VAL = r" · val/loss \d+\.\d{4} · val/acc [01]\.\d{4}, best [01]\.\d{4}"
TRAIN = r" · train/loss \d+\.\d{4}"


class Clock(Callback):
    """A clock that advances by one tick with each training batch and each validation."""

    def __init__(self):
        self.now = 100.0
        self.tick = 1.0  # seconds

    def __call__(self):
        return self.now

    def on_train_batch_start(self, *_):
        self.now += self.tick

    on_validation_start = on_train_batch_start


class Terminal(io.StringIO):
    """A terminal that keeps everything written to it."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def fileno(self):
        return 1

    @property
    def frames(self):
        """Every state of every line."""
        return [frame.strip() for frame in re.split(r"[\r\n]", self.getvalue()) if frame.strip()]

    @property
    def screen(self):
        """The lines at the end."""
        lines, column = [""], 0
        for char in self.getvalue():
            if char == "\n":
                lines.append("")
            elif char != "\r":
                lines[-1] = lines[-1][:column].ljust(column) + char + lines[-1][column + 1 :]
            column = 0 if char in "\r\n" else column + 1
        return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("lightning_cnn.callbacks.progress.perf_counter", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch):
    """Make standard output a terminal of this width."""

    def make(columns=200):
        terminal = Terminal()
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((columns, 24)))
        return terminal

    return make


@pytest.fixture
def watched(trainer, clock, tmp_path):
    """Make a trainer with a clock, a `Progress` and a checkpoint callback."""

    def make(*others, progress=None, monitor="val/acc", mode="max", **options):
        callbacks = [clock, progress or Progress(refresh_rate=1), *others]
        if monitor is not None and not any(isinstance(callback, Checkpoints) for callback in others):
            callbacks.append(ModelCheckpoint(tmp_path / "kept", monitor=monitor, mode=mode))
            options["enable_checkpointing"] = True
        return trainer(enable_progress_bar=True, callbacks=callbacks, **{"max_epochs": 2, **options})

    return make


class StopAfter(Callback):
    """Stops training after this many epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


def steps(terminal):
    """The steps at which the bar was refreshed."""
    found = re.findall(r"(\d+)/\d+ steps", terminal.getvalue())
    return [int(step) for step in dict.fromkeys(found)]


def data():
    return MNISTDataModule(val_size=50, batch_size=30)  # 150 training images: five batches


def test_one_line_per_epoch(watched, capsys):
    run = watched()
    run.fit(SmallClassifier(), datamodule=data())

    first, second = (out := capsys.readouterr().out).splitlines()
    assert "\r" not in out
    assert re.fullmatch(rf"epoch 1/2 · 5 steps · 6\.0 s · 25 images/s · 0:06 left{TRAIN}{VAL}", first)
    assert re.fullmatch(rf"epoch 2/2 · 5 steps · 6\.0 s · 25 images/s{TRAIN}{VAL}", second)
    for name in ("train/loss", "val/loss", "val/acc"):
        assert f" {name} {run.callback_metrics[name]:.4f}" in second


def test_a_line_has_the_loss_of_its_epoch(watched, capsys):
    class Losses(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch:
                self.first = trainer.callback_metrics["train/loss"].item()

    losses = Losses()
    run = watched(losses)
    run.fit(SmallClassifier(), datamodule=data())

    lines = capsys.readouterr().out.splitlines()
    assert [re.search(r"train/loss (\S+)", line)[1] for line in lines] == [
        f"{losses.first:.4f}",
        f"{run.callback_metrics['train/loss']:.4f}",
    ]
    assert losses.first != run.callback_metrics["train/loss"].item()


class Logs(Callback):
    """Logs these values of `val/acc` or another metric, one per validation."""

    def __init__(self, *values, name="val/acc"):
        self.values, self.name = iter(values), name

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log(self.name, next(self.values))


def ends(capsys, name):
    """The end of each line, from the name of a metric on."""
    return [re.search(rf"{name} .*", line)[0] for line in capsys.readouterr().out.splitlines()]


def test_best_is_the_highest_accuracy_so_far(watched, capsys, monkeypatch):
    monkeypatch.setattr(SmallClassifier, "on_validation_epoch_end", lambda self: None)
    run = watched(Logs(0.5, 0.25, 0.75), max_epochs=3, num_sanity_val_steps=0)
    run.fit(SmallClassifier(), datamodule=data())

    assert ends(capsys, "val/acc") == [
        "val/acc 0.5000, best 0.5000",
        "val/acc 0.2500, best 0.5000",
        "val/acc 0.7500, best 0.7500",
    ]


def test_the_monitored_metric_and_its_mode_decide_on_the_best(watched, capsys, terminal):
    run = watched(
        Logs(3, 2, 4, name="val/error"), monitor="val/error", mode="min", max_epochs=3, num_sanity_val_steps=0
    )
    run.fit(SmallClassifier(), datamodule=data())

    lines = capsys.readouterr().out.splitlines()
    assert [re.findall(r", best [\d.]+", line) for line in lines] == [
        [", best 3.0000"],
        [", best 2.0000"],
        [", best 2.0000"],
    ]
    assert re.search(r" · val/error 2\.0000, best 2\.0000 · val/loss \d\.\d{4} · val/acc [01]\.\d{4}$", lines[1])

    screen = terminal()
    run = watched(Logs(3, 2, name="val/error"), monitor="val/error", mode="min", num_sanity_val_steps=0)
    run.fit(SmallClassifier(), datamodule=data())
    assert any(frame.endswith(" · val/error 3.000 · best 3.000") for frame in screen.frames)


def test_without_a_monitored_metric_there_is_no_best(watched, capsys):
    watched(monitor=None, max_epochs=1).fit(SmallClassifier(), datamodule=data())

    assert re.search(r"val/loss \d\.\d{4} · val/acc [01]\.\d{4}$", capsys.readouterr().out)


def test_metrics_of_a_skipped_validation_are_left_out(watched, capsys):
    watched(max_epochs=2, check_val_every_n_epoch=2).fit(SmallClassifier(), datamodule=data())

    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"epoch 1/2 · 5 steps · 5\.0 s · 30 images/s · 0:05 left{TRAIN}", first)
    assert re.fullmatch(rf"epoch 2/2 · 5 steps · 6\.0 s · 25 images/s{TRAIN}{VAL}", second)


def test_several_validations_per_epoch(watched, capsys):
    run = watched(val_check_interval=0.4)  # after two and after four batches
    run.fit(SmallClassifier(), datamodule=data())

    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"epoch 1/2 · 5 steps · 7\.0 s · 21 images/s · 0:07 left{TRAIN}{VAL}", first)
    assert f"val/acc {run.callback_metrics['val/acc']:.4f}" in second


@pytest.mark.parametrize("limits", [{"max_epochs": -1}, {"max_epochs": 9}])
def test_max_steps_can_end_a_run_within_an_epoch(watched, capsys, limits):
    watched(max_steps=8, **limits).fit(SmallClassifier(), datamodule=data())

    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"epoch 1/2 · 5 steps · 6\.0 s · 25 images/s · 0:04 left", first)  # 3 of 8 steps are left
    assert re.fullmatch(rf"epoch 2/2 · 3 steps · 3\.0 s · 30 images/s{TRAIN}", second)


def test_accumulated_batches(watched, capsys):
    watched(accumulate_grad_batches=2).fit(SmallClassifier(), datamodule=data())

    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"epoch 1/2 · 3 steps · 6\.0 s · 25 images/s · 0:06 left", first)
    assert second.startswith("epoch 2/2 · 3 steps · 6.0 s")


def test_a_fast_dev_run(watched, capsys):
    watched(fast_dev_run=True).fit(SmallClassifier(), datamodule=data())

    assert re.search(rf"^epoch 1/1 · 1 step · 2\.0 s · 15 images/s{TRAIN}{VAL}$", capsys.readouterr().out, re.M)


def test_max_time_can_end_a_run(watched, capsys):
    watched(Timer(timedelta(hours=2)), StopAfter(2), max_epochs=-1).fit(SmallClassifier(), datamodule=data())

    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"epoch 1 · 5 steps · 6\.0 s · 25 images/s · (2:00:00|1:59:\d\d) left · train", first)
    assert "left" not in second  # training ended before the time limit


def test_the_time_left_ends_at_the_first_limit(watched, capsys):
    watched(Timer(timedelta(hours=2))).fit(SmallClassifier(), datamodule=data())

    assert "· 0:06 left ·" in capsys.readouterr().out


def test_an_unknown_number_of_batches(watched, capsys):
    class Stream(IterableDataset):
        def __iter__(self):
            for n in range(4):
                yield torch.full((30, 1, 28, 28), n, dtype=torch.uint8), torch.zeros(30, dtype=torch.int64)

    loader = DataLoader(Stream(), batch_size=None)
    watched().fit(SmallClassifier(), loader, loader)

    first, _ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"epoch 1/2 · 4 steps · 5\.0 s · 24 images/s{TRAIN}{VAL}", first)


def test_the_speed_counts_the_images_of_all_processes(watched, capsys, monkeypatch):
    monkeypatch.setattr(Trainer, "world_size", 2)
    monkeypatch.setattr(sharing, "share", lambda mine, machine: mine)  # there is no other process
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: None)
    watched(max_epochs=1).fit(SmallClassifier(), datamodule=data())  # this process has 75 of the images: three batches

    assert re.match(r"epoch 1/1 · 3 steps · 4\.0 s · 38 images/s", capsys.readouterr().out)


def test_only_rank_zero_shows_anything(watched, terminal, monkeypatch):
    screen = terminal()
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    run = watched()
    run.fit(SmallClassifier(), datamodule=data())
    run.test(SmallClassifier(), datamodule=data(), verbose=False)

    assert screen.getvalue() == ""


@pytest.fixture
def checkpoint(trainer, tmp_path):
    """Train, set the best accuracy in the checkpoint to one that is never reached, and return the file."""

    def make(**options):
        run = trainer(ours=True, callbacks=[Checkpoints()], **options)
        run.fit(SmallClassifier(), datamodule=data())
        path = tmp_path / "checkpoints" / "last.ckpt"
        content = torch.load(path, weights_only=True)
        (state,) = (state for key, state in content["callbacks"].items() if key.startswith("Checkpoints"))
        state["best_model_score"] = torch.tensor(2.0)
        torch.save(content, path)
        return path

    return make


def resume(run, path):
    run.fit(SmallClassifier(), datamodule=data(), ckpt_path=path, weights_only=True)


def test_the_lines_of_a_resumed_run(watched, checkpoint, capsys):
    path = checkpoint(max_epochs=1)
    capsys.readouterr()
    resume(watched(Checkpoints(), ours=True, max_epochs=3), path)

    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"epoch 2/3 · 5 steps · 6\.0 s · 25 images/s · 0:06 left", first)
    assert second.startswith("epoch 3/3 · 5 steps") and second.endswith(", best 2.0000")


def test_the_bar_of_a_resumed_run(watched, checkpoint, terminal):
    path = checkpoint(max_epochs=1)
    screen = terminal()
    resume(watched(Checkpoints(), ours=True, max_epochs=3), path)

    assert re.fullmatch(r"epoch 2/3 [^|]*\| 5/15 steps · best 2\.000", screen.frames[0])


class StopAtStep(Callback):
    """Stops training after this many steps, as SIGTERM does."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.signals.received = signal.SIGTERM


def test_a_run_that_is_resumed_within_an_epoch(watched, checkpoint, trainer, tmp_path, terminal):
    stopped = trainer(ours=True, callbacks=[Checkpoints(), StopAtStep(3)])
    with pytest.raises(Interrupted):
        stopped.fit(SmallClassifier(), datamodule=data())
    screen = terminal()
    resume(watched(Checkpoints(), ours=True, check_val_every_n_epoch=2), tmp_path / "checkpoints" / "last.ckpt")

    assert re.match(r"epoch 1/2 [^|]*\| 4/10 steps · 30 images/s · 0:06 left", screen.frames[0])
    assert screen.screen[0].startswith("epoch 1/2 · 2 steps · 2.0 s")


def test_a_bar_for_the_whole_run(watched, terminal):
    class Losses(Callback):
        values = ()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.values += (outputs["loss"].item(),)

    losses = Losses()
    screen = terminal()
    torch.manual_seed(0)  # with some seeds, rounding decides the third digit of the mean
    run = watched(losses, progress=Progress(refresh_rate=2))
    run.fit(SmallClassifier(), datamodule=data())

    (frame,) = [f for f in screen.frames if "| 9/10 steps" in f]
    assert frame.startswith("epoch 2/2 ████")
    loss = sum(losses.values[7:9]) / 2
    acc = r"val/acc [01]\.\d{3} · best [01]\.\d{3}"
    assert re.search(rf"\| 9/10 steps · 27 images/s · 0:01 left · loss {loss:.3f} · {acc}$", frame)
    assert re.fullmatch(r"epoch 1/2 +\| 0/10 steps", screen.frames[0])  # nothing of the sanity check


def test_the_terminal_keeps_one_line_per_epoch(watched, terminal):
    screen = terminal()
    watched().fit(SmallClassifier(), datamodule=data())

    first, second = screen.screen
    assert re.fullmatch(rf"epoch 1/2 · 5 steps · 6\.0 s · 25 images/s{TRAIN}{VAL}", first)
    assert re.fullmatch(rf"epoch 2/2 · 5 steps · 6\.0 s · 25 images/s{TRAIN}{VAL}", second)


@pytest.mark.parametrize(
    ("columns", "last"),
    [
        (200, r"epoch 2/2 █{100,}\| 10/10 steps · 25 images/s · 0:00 left · loss {loss} · val/acc {acc} · best {acc}"),
        (104, r"epoch 2/2 █{8,12}\| 10/10 steps · 25 images/s · 0:00 left · loss {loss} · val/acc {acc} · best {acc}"),
        (95, r"epoch 2/2 · 10/10 steps · 25 images/s · 0:00 left · loss {loss} · val/acc {acc} · best {acc}"),
        (80, r"epoch 2/2 · 10/10 · 0:00 left · loss {loss} · val/acc {acc} · best {acc}"),
        (62, r"epoch 2/2 · 10/10 · 0:00 left · loss {loss} · val/acc {acc}"),
        (50, r"epoch 2/2 · 10/10 · 0:00 left · loss {loss}"),
        (40, r"epoch 2/2 █{8}\| 10/10 · 0:00 left"),
        (36, r"epoch 2/2 · 10/10 · 0:00 left"),
        (12, r"epoch 2/2 .*"),
    ],
)
def test_the_bar_fits_the_terminal(watched, terminal, columns, last):
    screen = terminal(columns)
    watched().fit(SmallClassifier(), datamodule=data())

    bars = [frame for frame in screen.frames if ", best" not in frame]
    assert max(map(len, bars)) <= columns
    assert re.fullmatch(last.replace("{loss}", r"\d\.\d{3}").replace("{acc}", r"[01]\.\d{3}"), bars[-1])


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (200, rf"epoch 2/2 · 5 steps · 6\.0 s · 25 images/s{TRAIN}{VAL}"),
        (100, rf"epoch 2/2 · 5 steps · 6\.0 s{TRAIN}{VAL}"),
        (80, rf"epoch 2/2{TRAIN}{VAL}"),
        (64, rf"epoch 2/2{VAL}"),
        (40, r"epoch 2/2 · val/acc [01]\.\d{4}, best [01]\.\d{4}"),
        (12, r"epoch 2/2 · val/acc .*"),
    ],
)
def test_a_line_fits_the_terminal(watched, terminal, columns, line):
    screen = terminal(columns)
    watched().fit(SmallClassifier(), datamodule=data())

    assert re.fullmatch(line, screen.screen[-1])


def test_lines_are_whole_without_a_terminal(watched, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    watched().fit(SmallClassifier(), datamodule=data())

    assert re.fullmatch(
        rf"epoch 2/2 · 5 steps · 6\.0 s · 25 images/s{TRAIN}{VAL}", capsys.readouterr().out.splitlines()[-1]
    )


def test_an_endless_run_has_no_bar(watched, terminal):
    screen = terminal()
    watched(StopAfter(1), max_epochs=-1).fit(SmallClassifier(), datamodule=data())

    assert screen.frames[0] == "epoch 1 · 0 steps"
    assert any(re.fullmatch(r"epoch 1 · 4 steps · 30 images/s · loss \d\.\d{3}", frame) for frame in screen.frames)


def test_the_bar_is_refreshed_every_n_batches(watched, terminal, clock):
    clock.tick = 0.1
    screen = terminal()
    watched(progress=Progress(refresh_rate=3), max_epochs=1).fit(SmallClassifier(), datamodule=data())

    assert steps(screen) == [0, 3, 5]  # 5: after the validation


def test_slow_batches_refresh_the_bar_once_a_second(watched, terminal, clock):
    clock.tick = 0.6
    screen = terminal()
    watched(progress=Progress(refresh_rate=100), max_epochs=1).fit(SmallClassifier(), datamodule=data())

    assert steps(screen) == [0, 2, 4, 5]


def test_the_loss_of_accumulated_batches_is_not_divided(watched, terminal):
    class Three(SmallClassifier):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * 0 + 3

    screen = terminal()
    watched(accumulate_grad_batches=2, max_epochs=1).fit(Three(), datamodule=data())

    assert "| 1/3 steps · 30 images/s · 0:04 left · loss 3.000" in " ".join(screen.frames)


def test_printing_goes_above_the_bar(watched, terminal):
    class Prints(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            pl_module.print("batch", batch_idx, sep="#")

    screen = terminal()
    watched(Prints(), max_epochs=1).fit(SmallClassifier(), datamodule=data())

    *printed, line = screen.screen
    assert printed == [f"batch#{n}" for n in range(5)]
    assert line.startswith("epoch 1/1 · 5 steps")


def test_printing_without_a_bar(watched, capsys):
    class Prints(Callback):
        def on_train_start(self, trainer, pl_module):
            pl_module.print("to", "go", sep="-", end="!\n")

    watched(Prints(), max_epochs=1).fit(SmallClassifier(), datamodule=data())

    assert capsys.readouterr().out.startswith("to-go!\nepoch 1/1")


def test_messages_of_lightning_go_above_the_bar(watched, terminal, monkeypatch):
    screen = terminal()
    handler = logging.StreamHandler(screen)
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "handlers", [handler])

    class LogsMessages(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            logging.getLogger("lightning.pytorch").warning("batch %d", batch_idx)

    watched(LogsMessages(), max_epochs=1).fit(SmallClassifier(), datamodule=data())

    assert {"batch 0", "batch 1"} <= set(screen.screen)
    assert logging.getLogger("lightning.pytorch").handlers == [handler]


@pytest.mark.parametrize(("raised", "seen"), [(RuntimeError, RuntimeError), (KeyboardInterrupt, SystemExit)])
def test_the_bar_is_removed_after_an_exception(watched, terminal, raised, seen):
    class Fails(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 7:
                raise raised("enough")

    screen = terminal()
    with pytest.raises(seen):
        watched(Fails()).fit(SmallClassifier(), datamodule=data())

    (line,) = screen.screen
    assert line.startswith("epoch 1/2 · 5 steps")
    assert screen.getvalue().endswith("\r")


@pytest.mark.parametrize(("command", "bar"), [("validate", "validation"), ("test", "test")])
def test_evaluation_has_a_bar_that_is_removed(watched, terminal, command, bar):
    screen = terminal(40)
    getattr(watched(), command)(SmallClassifier(), datamodule=data(), verbose=False)

    assert any(re.fullmatch(rf"{bar} +\| 0/1 batches", frame) for frame in screen.frames)
    assert screen.screen == []


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluation_prints_nothing_without_a_terminal(watched, capsys, command):
    getattr(watched(), command)(SmallClassifier(), datamodule=data(), verbose=False)

    assert capsys.readouterr().out == ""


def test_a_test_after_training(watched, capsys):
    run = watched(max_epochs=1)
    run.fit(model := SmallClassifier(), datamodule=data())
    run.test(model, datamodule=data(), verbose=False)

    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_disabled_progress_shows_nothing(watched, terminal):
    screen = terminal()
    run = watched(max_epochs=1)
    run.progress_bar_callback.disable()
    run.fit(SmallClassifier(), datamodule=data())
    assert screen.getvalue() == ""

    run.progress_bar_callback.enable()
    run.test(SmallClassifier(), datamodule=data(), verbose=False)
    assert screen.frames != []


def test_lightning_adds_no_other_bar(watched):
    progress = Progress()

    assert [c for c in watched(progress=progress).callbacks if isinstance(c, ProgressBar)] == [progress]


def test_it_can_be_pickled():
    assert pickle.loads(pickle.dumps(Progress(refresh_rate=7))).refresh_rate == 7


def test_refresh_rate_must_be_positive():
    with pytest.raises(ValueError, match="refresh_rate must be at least 1, got 0"):
        Progress(refresh_rate=0)


# In a notebook


class Output(Terminal):
    """The output of a notebook: no terminal, but a line can be replaced."""

    def isatty(self):
        return False

    def fileno(self):
        raise io.UnsupportedOperation("fileno")


@pytest.fixture
def notebook(monkeypatch):
    """Make this process the kernel of a notebook, or only an IPython shell, and return its output."""

    def make(kernel=True):
        output = Output()
        shell = SimpleNamespace(config={"IPKernelApp": {}} if kernel else {})
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setattr("sys.stdout", output)
        return output

    return make


def test_a_notebook_has_a_bar_below_the_lines(watched, notebook):
    output = notebook()
    run = watched()

    run.fit(SmallClassifier(), datamodule=data())

    assert any(re.match(r"epoch 2/2 .*7/10", frame) for frame in output.frames)
    assert [line.partition(" · ")[0] for line in output.screen] == ["epoch 1/2", "epoch 2/2"]  # the bar is removed
    assert "images/s" in output.screen[-1] and ", best " in output.screen[-1]


def test_a_notebook_has_a_bar_for_a_test(watched, notebook):
    output = notebook()
    run = watched(monitor=None)

    run.test(SmallClassifier(), datamodule=data(), verbose=False)

    assert re.fullmatch(r"test .*\| \d/[1?] batches", output.frames[-1])
    assert output.screen == []


def test_a_shell_whose_output_is_piped_has_lines_only(watched, notebook):
    output = notebook(kernel=False)

    watched().fit(SmallClassifier(), datamodule=data())

    assert "\r" not in output.getvalue() and len(output.screen) == 2
