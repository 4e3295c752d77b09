"""Progress of a run: a bar where somebody watches, and one plain line an epoch for logs and pipes."""

import logging
import math
import sys
from collections import deque
from contextlib import ExitStack
from time import perf_counter
from typing import Any, NamedTuple, NoReturn

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from lightning_cnn.callbacks.checkpoints import Checkpoints

#: Seconds after which slow batches are looked at, however few they were.
_LONGEST_PAUSE = 1.0
_SMALLEST_BAR = 8
#: Columns left free at the right, for the `^C` that a terminal echoes behind the bar: it must not begin a new line.
_MARGIN = 2
#: Where a terminal does not tell its width.
_USUAL_WIDTH = 80
#: Whose messages go above the bar: those that write to the terminal by themselves.
_LOGGERS = ("lightning", "lightning.pytorch")


class _Point(NamedTuple):
    """How far a run is at a time; the images are those of this process since the run was started."""

    seconds: float
    step: int
    images: int


class Progress(ProgressBar):
    """Shows how far a run is, how fast, how long it will take, and what it has come to.

    On a terminal, training has one bar for the whole run, and above it a line for each epoch that is over; `validate`
    and `test` have a short bar, which vanishes. Elsewhere there are the lines alone, for example
    `epoch 1/5 · 860 steps · 8.4 s · 6,540 images/s · 0:34 left · train/loss 0.5123 · val/loss 0.3512 · val/acc 0.8740,
    best 0.8740`.

    Steps are those of the optimizer: of the epoch in a line, of the whole run on the bar. `images/s` are the training
    images of all processes per second of the epoch or, on the bar, of the run so far, validation included. The time
    left, in m:ss or h:mm:ss, supposes that all steps to come take as long as those so far with their validation. On the
    bar, `loss` is the mean over the last `refresh_rate` batches. What is not known is left out, and so is, where the
    terminal is narrow, what matters least.

    Args:
        refresh_rate: Batches between two looks at the training, at least 1; slow ones are looked at once a second. A
            look takes time that training could use.

    Raises:
        ValueError: If `refresh_rate` is below 1.
    """

    def __init__(self, refresh_rate: int = 50) -> None:
        if refresh_rate < 1:
            raise ValueError(f"refresh_rate must be at least 1, got {refresh_rate}")
        super().__init__()
        self.refresh_rate = refresh_rate
        self.is_enabled = True
        self._on_screen = ExitStack()
        self._train_bar: tqdm[NoReturn] | None = None
        self._eval_bar: tqdm[NoReturn] | None = None

    def disable(self) -> None:
        """Show nothing: Lightning asks for this while it tries settings, and in all processes but the first."""
        self.is_enabled = False

    def enable(self) -> None:
        """Show progress again."""
        self.is_enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print as Python's `print` does, above the bar if there is one."""
        with tqdm.external_write_mode():
            print(*args, **kwargs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and show the bar."""
        self._images = 0
        self._losses: deque[torch.Tensor] = deque(maxlen=self.refresh_rate)
        self._measured: dict[str, float] = {}
        self._acc: float | None = None
        self._best = _best_so_far(trainer)
        self._started = self._here(trainer)
        self._begin_epoch(trainer, trainer.fit_loop.batch_idx + 1)  # more than 0 if it goes on within an epoch
        self._train_bar = self._open()
        self._drawn = -math.inf  # not yet: an epoch that goes on may be over already

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch before: it was not complete until everybody had logged what it came to."""
        self._print_epoch(trainer)
        self._begin_epoch(trainer, 0)
        self._draw(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and look at the rest where a look is due."""
        self._images += batch[1].shape[0]  # a third of the time of `len`
        if self._train_bar is None:
            return
        if isinstance(outputs, dict) and "loss" in outputs:
            self._losses.append(outputs["loss"])
        if (batch_idx + 1) % self.refresh_rate == 0 or perf_counter() - self._drawn > _LONGEST_PAUSE:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the line of the last epoch in the place of the bar."""
        self._close()
        self._print_epoch(trainer, is_last=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show a bar, but not while training, which has one."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._eval_bar = self._open("validation", sum(trainer.num_val_batches))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the bar."""
        if self._eval_bar is not None:
            self._eval_bar.update()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away or, while training, note what the validation came to."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._close()
        elif not trainer.sanity_checking:
            self._measured = _metrics(trainer, "val/loss", "val/acc")
            if (acc := self._measured.get("val/acc")) is not None:
                self._acc = acc
                self._best = acc if self._best is None else max(acc, self._best)
            self._draw(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show a bar."""
        self._eval_bar = self._open("test", sum(trainer.num_test_batches))

    on_test_batch_end = on_validation_batch_end

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away, whatever happened."""
        self._close()

    def _open(self, what: str = "", batches: float = math.inf) -> "tqdm[NoReturn] | None":
        """Return a new bar if there is somebody to see it."""
        if not self.is_enabled or not sys.stdout.isatty():
            return None
        loggers = [logger for name in _LOGGERS if (logger := logging.getLogger(name)).handlers]
        self._on_screen.enter_context(logging_redirect_tqdm(loggers))
        bar = tqdm(
            desc=what,
            total=None if batches == math.inf else int(batches),
            file=sys.stdout,
            dynamic_ncols=True,
            leave=False,
            bar_format="{desc} {bar}| {n_fmt}/{total_fmt} batches" if what else " ",
        )
        return self._on_screen.enter_context(bar)

    def _close(self) -> None:
        self._on_screen.close()
        self._train_bar = self._eval_bar = None

    def _here(self, trainer: Trainer) -> _Point:
        return _Point(perf_counter(), trainer.global_step, self._images)

    def _begin_epoch(self, trainer: Trainer, batches_done: int) -> None:
        self._epoch_began = self._here(trainer)
        self._measured = {}
        self._last_step, epochs = _end(trainer, batches_done)
        self._epoch = f"epoch {trainer.current_epoch + 1}" + (f"/{epochs}" if epochs else "")

    def _print_epoch(self, trainer: Trainer, is_last: bool = False) -> None:
        began, here = self._epoch_began, self._here(trainer)
        if not self.is_enabled or (here.images == began.images and not self._measured):
            return  # the run has gone on where nothing of the epoch was left
        steps = here.step - began.step
        metrics = _metrics(trainer, "train/loss") | self._measured
        parts = [
            self._epoch,
            f"{steps:,} step{'' if steps == 1 else 's'}",
            f"{here.seconds - began.seconds:,.1f} s",
            _speed(trainer, began, here),
            "" if is_last or self._train_bar is not None else self._time_left(trainer, here),  # the bar has it
            *(f"{name} {value:.4f}" for name, value in metrics.items()),
        ]
        if "val/acc" in metrics:
            parts[-1] += f", best {self._best:.4f}"
        self.print(_join(parts), flush=True)

    def _draw(self, trainer: Trainer) -> None:
        """Bring the bar up to date; to read the loss is to wait for the device."""
        bar = self._train_bar
        if bar is None:
            return
        loss = _mean(self._losses, trainer)
        here = self._here(trainer)
        bar.n, bar.total = here.step, self._last_step
        steps = f"{here.step:,}" + ("" if self._last_step is None else f"/{self._last_step:,}")
        speed, left = _speed(trainer, self._started, here), self._time_left(trainer, here)
        acc = "" if self._acc is None else f"val/acc {self._acc:.3f}"
        best = "" if self._best is None else f"best {'' if acc else 'val/acc '}{self._best:.3f}"
        accs = ", ".join(part for part in (acc, best) if part)
        forms = [
            _join([f"{steps} steps", speed, left, loss, accs]),
            _join([steps, left, loss, accs]),
            _join([steps, left, loss, acc]),
        ]
        bar.bar_format = self._fitting(forms, (bar.format_dict["ncols"] or _USUAL_WIDTH) - _MARGIN)
        bar.refresh()
        self._drawn = perf_counter()

    def _fitting(self, forms: list[str], width: int) -> str:
        """The longest of these forms that fits, with a bar if there is room for it and an end to measure it by."""
        room = [width - len(f"{self._epoch} · {form}") for form in forms]
        form, rest = next((pair for pair in zip(forms, room, strict=True) if pair[1] >= 0), (forms[-1], 0))
        if rest < _SMALLEST_BAR or self._last_step is None:
            return _join([self._epoch, form])
        return f"{self._epoch} {{bar:{rest}}}| {form}"

    def _time_left(self, trainer: Trainer, here: _Point) -> str:
        seconds = [timer.time_remaining() for timer in trainer.callbacks if isinstance(timer, Timer)]  # type: ignore[attr-defined]
        steps = here.step - self._started.step
        if self._last_step is not None and steps:
            seconds.append((here.seconds - self._started.seconds) / steps * (self._last_step - here.step))
        known = [s for s in seconds if s is not None]
        return f"{_clock(max(0.0, min(known)))} left" if known else ""


def _end(trainer: Trainer, batches_done: int) -> tuple[int | None, int | None]:
    """The steps and epochs of the run at its end, None where unknown, when so many batches of this epoch are done."""
    max_steps = None if trainer.max_steps == -1 else trainer.max_steps
    max_epochs = None if trainer.max_epochs == -1 else trainer.max_epochs
    if trainer.num_training_batches == math.inf:
        return max_steps, max_epochs
    per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    before = trainer.global_step - batches_done // trainer.accumulate_grad_batches
    ends = [] if max_steps is None else [max_steps]
    if max_epochs is not None:
        ends.append(before + (max_epochs - trainer.current_epoch) * per_epoch)
    if not ends:
        return None, None
    return min(ends), trainer.current_epoch + math.ceil((min(ends) - before) / per_epoch)


def _best_so_far(trainer: Trainer) -> float | None:
    """The best validation accuracy that the checkpoints of the run remember."""
    kept = (callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))  # type: ignore[attr-defined]
    score = next((checkpoints.best_model_score for checkpoints in kept), None)
    return None if score is None else float(score)


def _metrics(trainer: Trainer, *names: str) -> dict[str, float]:
    """Those of the metrics that have been logged."""
    return {name: trainer.callback_metrics[name].item() for name in names if name in trainer.callback_metrics}


def _mean(losses: deque[torch.Tensor], trainer: Trainer) -> str:
    if not losses:
        return ""
    # Lightning hands a loss on as its share in the step.
    return f"loss {torch.stack(tuple(losses)).mean().item() * trainer.accumulate_grad_batches:.3f}"


def _speed(trainer: Trainer, start: _Point, end: _Point) -> str:
    images = (end.images - start.images) * trainer.world_size
    return f"{images / (end.seconds - start.seconds):,.0f} images/s" if images else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _join(parts: list[str]) -> str:
    return " · ".join(part for part in parts if part)
