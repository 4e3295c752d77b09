"""What callbacks of Lightning forget when a run is resumed, besides those that average weights."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning, GradientAccumulationScheduler, ModelPruning
from lightning.pytorch.callbacks.spike import SpikeDetection
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import prune

#: The key of a checkpoint for this state.
_KEY = "lightning_cnn_callbacks"


class CallbackStates(Callback):
    """Restores accumulation of gradients, frozen parameters, pruned weights, and losses among which spikes are found.

    It runs after the callbacks. Lightning sets the accumulation of an epoch only at its beginning, freezes again what
    was unfrozen, lets pruned weights grow until the end of the epoch, and cannot load the state of `SpikeDetection`.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}
        self._order: dict[str, int] = {}  # of the weights

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the weights contiguous if they are pruned: torch flattens them, which `channels_last` does not allow."""
        self._order = {name.removesuffix("_orig"): index for index, name in enumerate(pl_module.state_dict())}
        for callback in _of(trainer, ModelPruning):
            pl_module.to(memory_format=torch.contiguous_format)
            for layer in (callback._original_layers or {}).values():  # copies, to which pruning rewinds
                layer["data"].to(memory_format=torch.contiguous_format)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the names of frozen parameters, pruned weights with their masks, and the last losses."""
        state: dict[str, Any] = {}
        if _of(trainer, BaseFinetuning):
            state["frozen"] = [name for name, value in pl_module.named_parameters() if not value.requires_grad]
        for callback in _of(trainer, ModelPruning):
            weights = pl_module.state_dict()
            names = [name.removesuffix("_mask") for name in weights if name.endswith("_mask")]
            state["pruned"] = {name: (weights[f"{name}_orig"], weights[f"{name}_mask"]) for name in names}
            state["rewound"] = [initial.data_ptr() == now.data_ptr() for initial, now in _initial_weights(callback)]
            # With the names that the network has when it is built, also where the masks are kept after training, and in
            # the same order; Lightning's order, that of a set, differs between processes.
            permanent = callback._make_pruning_permanent_on_state_dict(pl_module)
            names = sorted(permanent, key=lambda name: self._order.get(name, len(self._order)))
            checkpoint["state_dict"] = {name: permanent[name] for name in names}
        for callback in _of(trainer, SpikeDetection):
            mean = callback.running_mean
            state["losses"] = {"seen": mean._num_vals_seen, "updates": mean._update_count, "values": mean.metric_state}
        if state:
            checkpoint[_KEY] = state

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        self._state = checkpoint.get(_KEY, {})
        for callback in _of(trainer, SpikeDetection):
            callback.running = callback.running_mean  # Lightning loads its state, which is empty, under this name

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state if the run is resumed."""
        state, self._state = self._state, {}
        for callback in _of(trainer, GradientAccumulationScheduler):
            callback.on_train_epoch_start(trainer, pl_module)
        for callback in _of(trainer, SpikeDetection) if "losses" in state else []:
            mean = callback.running_mean
            mean._num_vals_seen, mean._update_count = state["losses"]["seen"], state["losses"]["updates"]
            for name, value in state["losses"]["values"].items():
                setattr(mean, name, value.to(pl_module.device))
        if "frozen" in state:
            for name, parameter in pl_module.named_parameters():
                parameter.requires_grad = name not in state["frozen"]
        for path, (weight, mask) in state.get("pruned", {}).items():
            place, _, name = path.rpartition(".")
            module = pl_module.get_submodule(place)
            prune.custom_from_mask(module, name, mask.to(pl_module.device))  # type: ignore[no-untyped-call]
            original = getattr(module, f"{name}_orig")
            assert isinstance(original, Parameter)
            original.data.copy_(weight)
        for callback in _of(trainer, ModelPruning):
            for layer in (callback._original_layers or {}).values():  # copied before the model got its precision
                layer["data"].to(dtype=pl_module.dtype)
            for (initial, now), is_rewound in zip(_initial_weights(callback), state.get("rewound", []), strict=False):
                if is_rewound:
                    initial.data = now.data


def _initial_weights(callback: ModelPruning) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the weights to which pruning rewinds, with those of the model, whose memory they share when it has done so.

    From then on, Lightning rewinds to the current weights, that is, no more.
    """
    for layer in (callback._original_layers or {}).values():
        for index, name in layer["names"]:
            module, _ = callback._parameters_to_prune[index]
            yield getattr(layer["data"], name), getattr(module, f"{name}_orig", getattr(module, name))


def _of(trainer: Trainer, kind: type[Any]) -> list[Any]:
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]
