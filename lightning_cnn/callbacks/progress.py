"""Progress of a run: a bar on a terminal and in a notebook, one plain line per epoch in logs and pipes."""

import logging
import math
import sys
from collections import deque
from contextlib import ExitStack
from time import perf_counter
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.utilities.types import STEP_OUTPUT
from tqdm.contrib.logging import logging_redirect_tqdm
from tqdm.std import tqdm

from lightning_cnn.callbacks.monitor import monitor_of
from lightning_cnn.environment import in_notebook
from lightning_cnn.text import encodable

#: The bar is also refreshed after this many seconds, for slow batches.
_MAX_SECONDS = 1.0
_MIN_BAR_WIDTH = 8
#: Free columns at the right for the `^C` that a terminal echoes, so that it does not begin a new line.
_MARGIN = 2
#: Used if the terminal does not report its width.
_DEFAULT_WIDTH = 80


class _Point(NamedTuple):
    """A position in the run; the images are those that this process has trained on since it was started."""

    seconds: float
    step: int
    images: int


class Progress(TQDMProgressBar):
    """Shows position, speed, time left, loss, and the monitored metric with its best value.

    On a terminal and in a notebook, training has one bar for the whole run, below a line for each finished epoch;
    `validate` and `test` have a short bar that is removed at the end. Elsewhere only the lines are printed, for example
    `epoch 1/5 · 860 steps · 8.4 s · 6,540 images/s · 0:34 left · train/loss 0.5123 · val/loss 0.3512 · val/acc 0.8740,
    best 0.8740`.

    Steps are optimizer steps: of the epoch in a line, of the whole run on the bar. `images/s` counts the training
    images of all processes per second of the epoch (line) or of the run so far (bar), validation included. The time
    left, m:ss or h:mm:ss, assumes that the remaining steps take as long as those so far, with their validation. `loss`
    on the bar is the mean over the last `refresh_rate` batches. Unknown values are left out; narrow terminals show the
    most important values only.

    Args:
        refresh_rate: Batches between two refreshes of the bar, at least 1; slow batches refresh it once a second. Each
            refresh takes time from training.

    Raises:
        ValueError: If `refresh_rate` is below 1.
    """

    def __init__(self, refresh_rate: int = 50) -> None:
        if refresh_rate < 1:
            raise ValueError(f"refresh_rate must be at least 1, got {refresh_rate}")
        super().__init__(refresh_rate)
        self._open_bars = ExitStack()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar, or as Python's `print` if there is no bar."""
        with tqdm.external_write_mode():
            print(*args, **kwargs)

    def init_sanity_tqdm(self) -> Tqdm:
        """Return no bar for the sanity check."""
        return Tqdm(disable=True)

    def init_train_tqdm(self) -> Tqdm:
        """Return the bar for training; `_refresh` sets its text."""
        return self._bar(" ")

    def init_validation_tqdm(self) -> Tqdm:
        """Return the bar for `validate`; while training, there is one already."""
        return self._bar("validation {bar}| {n_fmt}/{total_fmt} batches", self.trainer.state.fn != "fit")

    def init_test_tqdm(self) -> Tqdm:
        """Return the bar for `test`."""
        return self._bar("test {bar}| {n_fmt}/{total_fmt} batches")

    def _bar(self, bar_format: str, is_visible: bool = True) -> Tqdm:
        """Return a new bar, which is disabled where standard output is neither a terminal nor that of a notebook."""
        disable = (False if in_notebook() else None) if self.is_enabled and is_visible else True
        # In a notebook, Lightning's would be a widget, which has no text of ours.
        bar: Any = tqdm(bar_format=bar_format, disable=disable, file=sys.stdout, leave=False, dynamic_ncols=True)
        if not bar.disable:
            names = ("lightning", "lightning.pytorch")
            loggers = [logger for name in names if (logger := logging.getLogger(name)).handlers]
            self._open_bars.enter_context(logging_redirect_tqdm(loggers))
            self._open_bars.enter_context(bar)
        return bar  # type: ignore[no-any-return]  # which Lightning uses like its own

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and open the bar."""
        super().on_train_start(trainer, pl_module)
        self._images = 0
        self._losses: deque[torch.Tensor] = deque(maxlen=self.refresh_rate)
        self._monitored = self._best = ""
        if (monitor := monitor_of(trainer)) is not None and monitor.best is not None:
            self._best = f"best {monitor.best:.3f}"
        self._run_start = self._now(trainer)
        self._start_epoch(trainer, trainer.fit_loop.batch_idx + 1)  # not 0 if it resumes in the middle of an epoch
        self._refreshed = -math.inf

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch before, whose last metrics are logged after its `on_train_epoch_end`."""
        self._print_epoch(trainer, self._line_width())
        self._start_epoch(trainer, 0)
        self._refresh(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and refresh the bar if that is due."""
        self._images += batch[1].shape[0]  # takes a third of the time of `len`
        if self.train_progress_bar.disable:
            return
        if isinstance(outputs, dict) and "loss" in outputs:
            self._losses.append(outputs["loss"])
        if (batch_idx + 1) % self.refresh_rate == 0 or perf_counter() - self._refreshed > _MAX_SECONDS:
            self._refresh(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the bar by the line of the last epoch."""
        width = self._line_width()
        self._open_bars.close()
        self._print_epoch(trainer, width, is_last=True)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Advance the bar: there are too few batches for `refresh_rate`."""
        self.val_progress_bar.update()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar of `validate`; while training, note the metrics."""
        self.val_progress_bar.close()
        self.reset_dataloader_idx_tracker()
        if trainer.state.fn != "fit":
            self._open_bars.close()
        elif not trainer.sanity_checking:
            self._note_validation(trainer)
            self._refresh(trainer)

    def on_test_batch_end(self, *_: Any) -> None:
        """Advance the bar."""
        self.test_progress_bar.update()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        super().on_test_end(trainer, pl_module)
        self._open_bars.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._open_bars.close()

    def _now(self, trainer: Trainer) -> _Point:
        return _Point(perf_counter(), trainer.global_step, self._images)

    def _start_epoch(self, trainer: Trainer, batches_done: int) -> None:
        self._epoch_start = self._now(trainer)
        self._validation: dict[str, str] = {}
        self._last_step, epochs = _end(trainer, batches_done)
        self._epoch = f"epoch {trainer.current_epoch + 1}" + (f"/{epochs}" if epochs < math.inf else "")

    def _note_validation(self, trainer: Trainer) -> None:
        metrics = {name: v.item() for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
        self._validation = {name: f"{name} {value:.4f}" for name, value in metrics.items()}
        monitor = monitor_of(trainer)
        if monitor is not None and (value := metrics.get(monitor.metric)) is not None:
            self._monitored = f"{monitor.metric} {value:.3f}"
            if (best := value if monitor.is_better(value) else monitor.best) is not None:
                self._validation[monitor.metric] += f", best {best:.4f}"
                self._best = f"best {best:.3f}"

    def _print_epoch(self, trainer: Trainer, width: float, is_last: bool = False) -> None:
        start, now = self._epoch_start, self._now(trainer)
        if not self.is_enabled or (now.images == start.images and not self._validation):
            return  # the run was resumed at the end of the epoch
        steps, loss = now.step - start.step, trainer.callback_metrics.get("train/loss")
        length = f"{steps:,} step{'' if steps == 1 else 's'}"
        seconds = f"{now.seconds - start.seconds:,.1f} s"
        speed = _speed(trainer, start, now)
        left = "" if is_last or not self.train_progress_bar.disable else self._time_left(trainer, now)  # the bar has it
        training = "" if loss is None else f"train/loss {loss.item():.4f}"
        parts = [self._epoch, length, seconds, speed, left, training, *self._validation.values()]
        others = (text for text in self._validation.values() if "best" not in text)
        for part in (speed, length, seconds, training, *others):  # `metrics.csv` has all values
            if len(_join(parts)) > width:
                parts.remove(part)
        self.print(_join(parts), flush=True)

    def _refresh(self, trainer: Trainer) -> None:
        """Update the bar. Reading the loss waits for the device."""
        bar, now, ending = self.train_progress_bar, self._now(trainer), self._last_step
        if bar.disable:
            return
        bar.n, bar.total = now.step, None if ending == math.inf else int(ending)
        steps = f"{now.step:,}" + ("" if bar.total is None else f"/{bar.total:,}")
        values = [self._time_left(trainer, now), self._mean_loss(trainer), self._monitored, self._best]
        short = [self._epoch, steps, *values]
        forms = [[self._epoch, f"{steps} steps", _speed(trainer, self._run_start, now), *values]]
        forms += [short[:n] for n in range(len(short), 1, -1)]
        width = self._width()
        text = next((text for form in forms if len(text := _join(form)) <= width), _join(forms[-1]))
        if bar.total is not None and len(text) + _MIN_BAR_WIDTH <= width:
            text = text.replace(encodable(" · ", sys.stdout.encoding), " {bar}| ", 1) + " " * _MARGIN
        bar.bar_format = text
        bar.refresh()
        self._refreshed = perf_counter()

    def _width(self) -> int:
        """Return how many columns a text may take."""
        return (self.train_progress_bar.format_dict["ncols"] or _DEFAULT_WIDTH) - _MARGIN

    def _line_width(self) -> float:
        """Return how long a line may be: a terminal would wrap it, a file or a notebook does not."""
        is_terminal = not (self.train_progress_bar.disable or in_notebook())
        return self._width() if is_terminal else math.inf

    def _mean_loss(self, trainer: Trainer) -> str:
        if not self._losses:
            return ""
        mean = torch.stack(tuple(self._losses)).mean().item()
        return f"loss {mean * trainer.accumulate_grad_batches:.3f}"  # Lightning has divided it by that number

    def _time_left(self, trainer: Trainer, now: _Point) -> str:
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
        seconds = [left for timer in timers if (left := timer.time_remaining()) is not None]
        steps = now.step - self._run_start.step
        if self._last_step < math.inf and steps:
            seconds.append((now.seconds - self._run_start.seconds) / steps * (self._last_step - now.step))
        return f"{tqdm.format_interval(round(max(0.0, min(seconds)))).removeprefix('0')} left" if seconds else ""


def _end(trainer: Trainer, batches_done: int) -> tuple[float, float]:
    """Return the last step and the number of epochs of the run, infinite where unknown.

    `trainer.estimated_stepping_batches` would be wrong for a run that was resumed with another batch size.
    """
    steps: float = math.inf if trainer.max_steps == -1 else trainer.max_steps
    epochs: float = math.inf if trainer.max_epochs in (-1, None) else trainer.max_epochs
    if trainer.num_training_batches < math.inf:
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        before = trainer.global_step - batches_done // trainer.accumulate_grad_batches
        steps = min(steps, before + (epochs - trainer.current_epoch) * per_epoch)
        if steps < math.inf:
            epochs = trainer.current_epoch + math.ceil((steps - before) / per_epoch)
    return steps, epochs


def _speed(trainer: Trainer, start: _Point, end: _Point) -> str:
    images = (end.images - start.images) * trainer.world_size
    return f"{images / (end.seconds - start.seconds):,.0f} images/s" if images else ""


def _join(parts: list[str]) -> str:
    return encodable(" · ".join(part for part in parts if part), sys.stdout.encoding)
