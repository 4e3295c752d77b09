"""What of Lightning can be set for a Trainer: callbacks, loggers, profilers, plugins and flags, each with arguments.

The names come from Lightning itself, so that one that a new release adds has no entry here and fails.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from lightning.pytorch import Trainer, accelerators, callbacks, loggers, plugins, profilers, strategies
from lightning.pytorch.plugins import environments

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Member:
    """One thing that can be set, in one way.

    Attributes:
        kind: The setting of the Trainer that takes it, for example `callbacks`; `flag` for other settings.
        name: The class, or the setting.
        settings: The settings of the Trainer, as in a config.
    """

    kind: str
    name: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        ((_, value),) = self.settings.items()
        if self.kind != "flag":
            (value,) = [item["init_args"] for item in (value if isinstance(value, list) else [value])]
        return f"{self.name} {value}"


class Unusable(str):
    """The reason why a member cannot be used itself."""


#: Where Lightning keeps the classes of a setting.
MODULES: dict[str, tuple[ModuleType, ...]] = {
    "callbacks": (callbacks,),
    "logger": (loggers,),
    "profiler": (profilers,),
    "plugins": (plugins, environments),
    "strategy": (strategies,),
    "accelerator": (accelerators,),
}
_BASE = Unusable("a base class")
#: The arguments of each class; several mappings are tried one after the other.
CLASSES: dict[str, dict[str, Unusable | Sequence[Arguments]]] = {
    "callbacks": {
        "BackboneFinetuning": [{"unfreeze_backbone_at_epoch": 1}],
        "BaseFinetuning": _BASE,
        "BasePredictionWriter": [{"write_interval": "epoch"}],
        "BatchSizeFinder": [{"max_trials": 2}],
        "Callback": [{}],
        "Checkpoint": [{}],
        "DeviceStatsMonitor": [{}, {"cpu_stats": False}],
        "EarlyStopping": [{"monitor": "val/loss", "patience": 1}],
        "EMAWeightAveraging": [{"decay": 0.9}, {"device": "cpu", "update_starting_at_step": 2}],
        "GradientAccumulationScheduler": [{"scheduling": {0: 1, 1: 4}}],
        "LambdaCallback": [{}],
        "LearningRateFinder": [{"num_training_steps": 5}],
        "LearningRateMonitor": [{"logging_interval": "step"}],
        "ModelCheckpoint": [
            {"dirpath": "kept", "monitor": "val/loss", "filename": "{epoch}-{val/loss:.2f}"},
            {"every_n_train_steps": 2, "save_top_k": -1},
            {"train_time_interval": "0:10:00"},
        ],
        "ModelPruning": [
            {"pruning_fn": "l1_unstructured", "amount": 0.25},
            {"pruning_fn": "random_unstructured", "parameter_names": ["weight"], "amount": 2},
        ],
        "ModelSummary": [{"max_depth": 2}],
        "OnExceptionCheckpoint": [{"dirpath": "broken"}],
        "ProgressBar": _BASE,
        "RichModelSummary": [{}],
        "RichProgressBar": [{"theme": {"description": "red"}}],
        "SpikeDetection": [{"window": 3}],
        "StochasticWeightAveraging": [{"swa_lrs": 0.05, "swa_epoch_start": 1}, {"swa_lrs": [0.05], "device": "cpu"}],
        "ThroughputMonitor": [{"batch_size_fn": "builtins.len"}],
        "Timer": [{"duration": "00:01:00:00"}, {"duration": {"hours": 1}, "interval": "epoch"}],
        "TQDMProgressBar": [{"refresh_rate": 2}],
        "WeightAveraging": [{}],
    },
    "logger": {
        "CometLogger": [{"online": False}],
        "CSVLogger": [{"save_dir": "csv", "flush_logs_every_n_steps": 2}],
        "LitLogger": Unusable("no subclass of Lightning's own Logger in 2.6.6"),
        "Logger": _BASE,
        "MLFlowLogger": [{"save_dir": "runs", "tags": {"mlflow.note.content": "a note"}}],
        "TensorBoardLogger": [{"save_dir": "board", "version": "json.tool", "max_queue": 5}],
        "WandbLogger": [{"offline": True, "project": "test.mnist", "log_model": "all"}],
    },
    "profiler": {
        "AdvancedProfiler": [{"dirpath": "profiles", "filename": "advanced"}],
        "PassThroughProfiler": [{}],
        "Profiler": _BASE,
        "PyTorchProfiler": [{"dirpath": "profiles", "filename": "torch", "table_kwargs": {"max_name_column_width": 5}}],
        "SimpleProfiler": [{"dirpath": "profiles", "filename": "simple"}],
        "XLAProfiler": [{}],
    },
    "plugins": {
        "AsyncCheckpointIO": [{}, {"checkpoint_io": {"class_path": "lightning.fabric.plugins.io.TorchCheckpointIO"}}],
        "BitsandbytesPrecision": [{"mode": "int8"}],
        "CheckpointIO": _BASE,
        "ClusterEnvironment": _BASE,
        "DeepSpeedPrecision": [{"precision": "32-true"}],
        "DoublePrecision": [{}],
        "FSDPPrecision": [{"precision": "32-true"}],
        "HalfPrecision": [{"precision": "bf16-true"}],
        "KubeflowEnvironment": [{}],
        "LSFEnvironment": [{}],
        "LayerSync": _BASE,
        "LightningEnvironment": [{}],
        "MPIEnvironment": [{}],
        "MixedPrecision": [
            {"precision": "bf16-mixed", "device": "cpu"},
            {"precision": "16-mixed", "device": "cpu", "scaler": {"class_path": "torch.amp.GradScaler"}},
        ],
        "Precision": [{}],
        "SLURMEnvironment": [{"auto_requeue": False}],
        "TorchCheckpointIO": [{}],
        "TorchElasticEnvironment": [{}],
        "TorchSyncBatchNorm": [{}],
        "TransformerEnginePrecision": [{"weights_dtype": "torch.bfloat16"}],
        "XLACheckpointIO": [{}],
        "XLAEnvironment": [{}],
        "XLAPrecision": [{}],
    },
    "strategy": {
        "DDPStrategy": [{"find_unused_parameters": True, "timeout": "0:10:00"}],
        "DeepSpeedStrategy": [{}],
        "FSDPStrategy": [{}],
        "ModelParallelStrategy": [{}],
        "ParallelStrategy": _BASE,
        "SingleDeviceStrategy": [{"device": "cpu"}],
        "Strategy": _BASE,
    },
    "accelerator": {
        "Accelerator": _BASE,
        "CPUAccelerator": [{}],
        "CUDAAccelerator": [{}],
        "MPSAccelerator": [{}],
        "XLAAccelerator": [{}],
    },
}
#: The values of each flag of the Trainer.
FLAGS: dict[str, Sequence[Any]] = {
    "accelerator": ["cpu", "auto"],
    "accumulate_grad_batches": [2],
    "barebones": [True],
    "benchmark": [True],
    "callbacks": [[]],
    "check_val_every_n_epoch": [2],
    "default_root_dir": ["elsewhere"],
    "deterministic": [True, "warn"],
    "detect_anomaly": [True],
    "devices": [1, "1", "auto"],
    "enable_autolog_hparams": [False],
    "enable_checkpointing": [True],
    "enable_model_summary": [True],
    "enable_progress_bar": [True],
    "fast_dev_run": [True, 2],
    "gradient_clip_algorithm": ["value"],
    "gradient_clip_val": [0.5, 1],
    "inference_mode": [False],
    "limit_predict_batches": [2],
    "limit_test_batches": [1, 0.5],
    "limit_train_batches": [4, 0.5],
    "limit_val_batches": [1, 0.5, 0],
    "log_every_n_steps": [1, 0],
    "logger": [True, False],
    "max_epochs": [3],
    "max_steps": [9, 60],
    "max_time": ["00:01:00:00", {"hours": 1}],
    "min_epochs": [1],
    "min_steps": [8],
    "model_registry": ["registry"],
    "num_nodes": [1],
    "num_sanity_val_steps": [0, -1],
    "overfit_batches": [4, 0.5],
    "plugins": [[]],
    "precision": ["32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", 32, "transformer-engine"],
    "profiler": ["simple", "advanced", "pytorch"],
    "reload_dataloaders_every_n_epochs": [1],
    "strategy": ["auto", "ddp"],
    "sync_batchnorm": [True],
    "use_distributed_sampler": [False],
    "val_check_interval": [3, 0.5, "00:00:10:00", {"minutes": 10}],
}


def members() -> Iterator[Member]:
    """Yield all members that can be used."""
    for kind, entries in CLASSES.items():
        paths = dict(classes(kind))
        for name, tries in entries.items():
            for init_args in [] if isinstance(tries, Unusable) else tries:
                chosen = {"class_path": paths[name], "init_args": init_args}
                yield Member(kind, name, {kind: [chosen] if kind == "callbacks" else chosen})
    for name, values in FLAGS.items():
        for value in values:
            yield Member("flag", name, {name: value})


def classes(kind: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the path of each class that Lightning has for a setting."""
    for module in MODULES[kind]:
        for name in getattr(module, "__all__", dir(module)):
            if inspect.isclass(getattr(module, name)):
                yield name, f"{module.__name__}.{name}"


def missing() -> list[str]:
    """Return what Lightning has and has no entry here, and what has an entry and is not there."""
    flags = list(inspect.signature(Trainer).parameters)
    return [
        *(f"{kind}: {name}" for kind in CLASSES for name in dict(classes(kind)).keys() ^ CLASSES[kind].keys()),
        *(f"flag: {name}" for name in {*flags} ^ FLAGS.keys()),
    ]
