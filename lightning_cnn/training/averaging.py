"""What Lightning's callbacks that average weights leave out.

`WeightAveraging` and `EMAWeightAveraging` use an average that was never updated, which is the untrained network, and
replace the weights of a checkpoint that is tested after training. `StochasticWeightAveraging` forgets its learning rate
when a run is resumed, and its average when training ends before the last epoch.
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.plugins.precision import DoublePrecision
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from lightning_cnn.callbacks import RunRecord
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.errors import UserError


class WeightAverages(Callback):
    """Completes the callback that averages weights, if there is one, and runs after it.

    Until its first update, the average is the current weights. An update at the end of an epoch comes before the
    validation, so that the weights that are saved are those that were validated. A resumed run averages as one that
    was not stopped.
    """

    def __init__(self) -> None:
        self._running: WeightAveraging | None = None
        self._stochastic: StochasticWeightAveraging | None = None
        self._is_swapped = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the callback.

        Raises:
            UserError: If there are two.
        """
        kinds = (WeightAveraging, StochasticWeightAveraging)
        found = [callback for callback in trainer.callbacks if isinstance(callback, kinds)]  # type: ignore[attr-defined]
        if len(found) > 1:
            names = " and ".join(type(callback).__name__ for callback in found)
            raise UserError(f"{names} would both replace the weights of the model; use only one of them")
        callback = next(iter(found), None)
        self._running = callback if isinstance(callback, WeightAveraging) else None
        self._stochastic = callback if isinstance(callback, StochasticWeightAveraging) else None
        self._is_swapped = False
        if self._running is not None and stage != "fit":
            self._running._average_model = None  # of a training before; it would replace the weights to be evaluated
        if self._stochastic is not None and isinstance(pl_module, ImageClassifier):
            # Lightning would compute the statistics in one more epoch, which cannot be resumed; `finish` does it.
            self._stochastic.pl_module_contains_batch_norm = lambda _: False  # type: ignore[method-assign, assignment]
        if callback is not None and isinstance(trainer.precision_plugin, DoublePrecision):
            (callback._average_model or nn.Module()).double()  # Lightning copies the model before it is converted

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start stochastic averaging again, if the run is resumed after its start."""
        swa = self._stochastic
        if swa is None or swa._scheduler_state is None:
            return
        assert isinstance(swa._swa_epoch_start, int)
        swa._swa_epoch_start = min(swa._swa_epoch_start, trainer.current_epoch + 1)  # a share of another `max_epochs`
        groups = [dict(group) for group in trainer.optimizers[0].param_groups]
        swa.on_train_epoch_start(trainer, pl_module)  # Lightning calls it only when an epoch begins
        for group, restored in zip(trainer.optimizers[0].param_groups, groups, strict=True):
            group.update(restored)  # the schedule has just set its first learning rate

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep an average without updates at the current weights."""
        self._follow(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the average the one that is saved after the validation, on all ranks."""
        if self._running is None or self._running._average_model is None:
            return
        if not trainer.sanity_checking and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            # The update for this epoch, after which Lightning makes none; the hook of a subclass is called later.
            WeightAveraging.on_train_epoch_end(self._running, trainer, pl_module)
        self._follow(pl_module)
        if trainer.world_size > 1:  # batch normalisation has other statistics on each rank
            for buffer in self._running._average_model.module.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the model has the average until the end of the validation."""
        self._is_swapped = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the model has its own weights again."""
        self._is_swapped = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the weights of the model, also in the middle of a validation."""
        running = self._running
        if running is None or running._average_model is None:
            return
        if self._is_swapped:
            names = ("state_dict", "current_model_state")
            checkpoint.update(zip(names, [checkpoint[name] for name in reversed(names)], strict=True))
        else:
            self._follow(pl_module)
        checkpoint["callbacks"][running.state_key]["latest_update_epoch"] = running._latest_update_epoch

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the last epoch with an update: an interrupted validation is repeated after it."""
        if self._running is not None:
            state = checkpoint["callbacks"].get(self._running.state_key, {})
            self._running._latest_update_epoch = state.get("latest_update_epoch", -1)

    def _follow(self, pl_module: LightningModule) -> None:
        """Copy the current weights to an average that was never updated."""
        running, swa = self._running, self._stochastic
        if running is not None and running._average_model is not None and running._average_model.n_averaged == 0:
            _copy(pl_module, running._average_model.module)
        if swa is not None and swa._average_model is not None and not _n_averaged(swa):
            _copy(pl_module, swa._average_model)

    @torch.no_grad()
    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give a classifier its stochastic average after training, with the statistics of batch normalisation."""
        swa = self._stochastic
        if swa is None or not isinstance(pl_module, ImageClassifier):
            return
        if not _n_averaged(swa):
            rank_zero_info("StochasticWeightAveraging: training has ended before the epoch in which averaging starts")
            return
        assert swa._average_model is not None
        swa.transfer_weights(swa._average_model, pl_module)
        with torch.random.fork_rng(), trainer.precision_plugin.train_step_context():
            torch.manual_seed(0)  # of dropout: the same statistics when only this is repeated after a resume
            update_bn(_training_images(trainer), pl_module)

    @property
    def is_stochastic(self) -> bool:
        """Whether the model has its stochastic average when training has ended."""
        return self._stochastic is not None and bool(_n_averaged(self._stochastic))


@torch.no_grad()
def _copy(source: nn.Module, target: nn.Module) -> None:
    pairs = zip(chain(source.parameters(), source.buffers()), chain(target.parameters(), target.buffers()), strict=True)
    for of_source, of_target in pairs:
        of_target.copy_(of_source)


def _n_averaged(swa: StochasticWeightAveraging) -> int:
    """Return the number of updates; until averaging starts again, a resumed run has it in another attribute."""
    return swa._init_n_averaged if swa.n_averaged is None else int(swa.n_averaged)


def _training_images(trainer: Trainer) -> Iterator[Tensor]:
    """Yield the images of each training batch of one epoch."""
    loader: Any = trainer.train_dataloader
    set_epoch = getattr(getattr(loader, "sampler", None), "set_epoch", None)
    if set_epoch is not None:
        set_epoch(trainer.current_epoch)  # from its beginning
    for batch in islice(loader, int(trainer.num_training_batches)):
        images, _ = trainer.strategy.batch_to_device(batch)
        yield images


def save_weights(trainer: Trainer, record: RunRecord, path: Path) -> None:
    """Save the weights of the model with the config of the run; without a training state, `fit` refuses to resume."""
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=True)
    record.on_save_checkpoint(trainer, trainer.lightning_module, checkpoint)
    trainer.strategy.save_checkpoint(checkpoint, path)
    trainer.strategy.barrier()  # until rank 0 has written it
