# ruff: noqa: E501  # each line is one that users see
"""What is expected of the cells that do not end with the same weights as an uninterrupted run."""

#: By member and mode.
EXPECTED: dict[tuple[str, str], str] = {
    (
        "BackboneFinetuning {'unfreeze_backbone_at_epoch': 1}",
        "command line",
    ): "refused: BackboneFinetuning finetunes the module `backbone` of the model, which FastCNNClassifier has not; give a model that has one with --model",
    (
        "CometLogger {'online': False}",
        "command line",
    ): "refused: --trainer.logger CometLogger needs the package comet_ml, which is not installed; install it, or choose another",
    (
        "MLFlowLogger {'save_dir': 'runs', 'tags': {'mlflow.note.content': 'a note'}}",
        "command line",
    ): "refused: --trainer.logger MLFlowLogger needs the package mlflow, which is not installed; install it, or choose another",
    (
        "WandbLogger {'offline': True, 'project': 'test.mnist', 'log_model': 'all'}",
        "command line",
    ): "refused: --trainer.logger WandbLogger needs the package wandb, which is not installed; install it, or choose another",
    (
        "XLAProfiler {}",
        "command line",
    ): "refused: --trainer.profiler XLAProfiler needs the package torch_xla, which is not installed; install it, or choose another",
    (
        "BitsandbytesPrecision {'mode': 'int8'}",
        "command line",
    ): "refused: --trainer.plugins BitsandbytesPrecision needs the package bitsandbytes, which is not installed; install it, or choose another",
    (
        "DeepSpeedPrecision {'precision': '32-true'}",
        "command line",
    ): "refused: --trainer.plugins DeepSpeedPrecision needs --trainer.strategy deepspeed; give it, or leave it out",
    (
        "LSFEnvironment {}",
        "command line",
    ): "refused: LSFEnvironment: Did not find the environment variable `LSB_DJOB_RANKFILE`",
    (
        "MPIEnvironment {}",
        "command line",
    ): "refused: --trainer.plugins MPIEnvironment needs the package mpi4py, which is not installed; install it, or choose another",
    (
        "TransformerEnginePrecision {'weights_dtype': 'torch.bfloat16'}",
        "command line",
    ): "refused: --trainer.plugins TransformerEnginePrecision needs the package transformer_engine, which is not installed; install it, or choose another",
    (
        "XLACheckpointIO {}",
        "command line",
    ): "refused: --trainer.plugins XLACheckpointIO needs the package torch_xla, which is not installed; install it, or choose another",
    (
        "XLAEnvironment {}",
        "command line",
    ): "refused: --trainer.plugins XLAEnvironment needs the package torch_xla, which is not installed; install it, or choose another",
    (
        "XLAPrecision {}",
        "command line",
    ): "refused: --trainer.plugins XLAPrecision needs the package torch_xla, which is not installed; install it, or choose another",
    (
        "DeepSpeedStrategy {}",
        "command line",
    ): "refused: --trainer.strategy DeepSpeedStrategy needs the package deepspeed, which is not installed; install it, or choose another",
    (
        "FSDPStrategy {}",
        "command line",
    ): 'refused: --trainer.accelerator cpu, --trainer.strategy {"class_path": "lightning.pytorch.strategies.FSDPStrategy", "init_args": {}}: The strategy `fsdp` requires a GPU accelerator, but received `acce…',
    (
        "ModelParallelStrategy {}",
        "command line",
    ): "refused: --trainer.strategy ModelParallelStrategy needs a classifier that parallelises itself in `configure_model`; choose another strategy, such as ddp",
    (
        "CUDAAccelerator {}",
        "command line",
    ): 'refused: --trainer.accelerator {"class_path": "lightning.pytorch.accelerators.CUDAAccelerator", "init_args": {}: `CUDAAccelerator` can not run on your system since the accelerator is not available. T…',
    (
        "MPSAccelerator {}",
        "command line",
    ): 'refused: --trainer.accelerator {"class_path": "lightning.pytorch.accelerators.MPSAccelerator", "init_args": {}}: `MPSAccelerator` can not run on your system since the accelerator is not available. Th…',
    (
        "XLAAccelerator {}",
        "command line",
    ): "refused: --trainer.accelerator XLAAccelerator needs the package torch_xla, which is not installed; install it, or choose another",
    ("barebones True", "command line"): "no run folder",
    ("fast_dev_run True", "command line"): "no run folder",
    ("fast_dev_run 2", "command line"): "no run folder",
    (
        "precision transformer-engine",
        "command line",
    ): "refused: --trainer.precision transformer-engine needs the package transformer_engine, which is not installed; install it, or choose another",
    (
        "BackboneFinetuning {'unfreeze_backbone_at_epoch': 1}",
        "Python",
    ): "AttributeError: 'FastCNNClassifier' object has no attribute 'backbone'",
    (
        "BatchSizeFinder {'max_trials': 2}",
        "Python",
    ): "other weights (5e+01)",  # Lightning looks for the batch size again when it resumes
    (
        "GradientAccumulationScheduler {'scheduling': {0: 1, 1: 4}}",
        "Python",
    ): "other weights (9e-03)",  # Lightning sets the accumulation of an epoch only at its beginning
    (
        "ModelPruning {'pruning_fn': 'l1_unstructured', 'amount': 0.25}",
        "Python",
    ): "RuntimeError: view size is not compatible with input tensor's size and stride (at least one dimension spans across two contiguous subspaces). Use .reshape(...) instead.",
    (
        "ModelPruning {'pruning_fn': 'random_unstructured', 'parameter_names': ['weight'], 'amount': 2}",
        "Python",
    ): "RuntimeError: view size is not compatible with input tensor's size and stride (at least one dimension spans across two contiguous subspaces). Use .reshape(...) instead.",
    (
        "RichProgressBar {'theme': {'description': 'red'}}",
        "Python",
    ): "AttributeError: 'dict' object has no attribute 'metrics'",  # in Python a theme is an object
    (
        "SpikeDetection {'window': 3}",
        "Python",
    ): "AttributeError: 'SpikeDetection' object has no attribute 'running'",  # Lightning's fault: it restores the state before it makes what holds it
    (
        "CometLogger {'online': False}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'comet-ml>=3.44.4' not met. HINT: Try running `pip install -U 'comet-ml>=3.44.4'`",
    (
        "MLFlowLogger {'save_dir': 'runs', 'tags': {'mlflow.note.content': 'a note'}}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'mlflow>=1.0.0' not met. HINT: Try running `pip install -U 'mlflow>=1.0.0'`",
    (
        "WandbLogger {'offline': True, 'project': 'test.mnist', 'log_model': 'all'}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb>=0.12.10'`",
    (
        "XLAProfiler {}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'torch_xla>=1.13' not met. HINT: Try running `pip install -U 'torch_xla>=1.13'`",
    (
        "BitsandbytesPrecision {'mode': 'int8'}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'bitsandbytes' not met. HINT: Try running `pip install -U 'bitsandbytes'`",
    (
        "DeepSpeedPrecision {'precision': '32-true'}",
        "Python",
    ): "AttributeError: 'FastCNNClassifier' object has no attribute 'step'",  # it needs the strategy of DeepSpeed
    (
        "DoublePrecision {}",
        "Python",
    ): "other weights (6e-08)",  # Lightning loads the weights before it makes the model one of 64 bits
    ("LSFEnvironment {}", "Python"): "ValueError: Did not find the environment variable `LSB_DJOB_RANKFILE`",
    (
        "MPIEnvironment {}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'mpi4py' not met. HINT: Try running `pip install -U 'mpi4py'`",
    (
        "TransformerEnginePrecision {'weights_dtype': 'torch.bfloat16'}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'transformer_engine>=0.11.0' not met. HINT: Try running `pip install -U 'transformer_engine>=0.11.0'`",
    (
        "XLACheckpointIO {}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'torch_xla>=1.13' not met. HINT: Try running `pip install -U 'torch_xla>=1.13'`",
    (
        "XLAEnvironment {}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'torch_xla>=1.13' not met. HINT: Try running `pip install -U 'torch_xla>=1.13'`",
    (
        "XLAPrecision {}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'torch_xla>=1.13' not met. HINT: Try running `pip install -U 'torch_xla>=1.13'`",
    (
        "DeepSpeedStrategy {}",
        "Python",
    ): "MisconfigurationException: To use the `DeepSpeedStrategy`, you must have DeepSpeed installed. Install it by running `pip install -U deepspeed`.",
    (
        "FSDPStrategy {}",
        "Python",
    ): "ValueError: The strategy `fsdp` requires a GPU accelerator, but received `accelerator='cpu'`. Please set `accelerator='cuda'`, `accelerator='gpu'`, or pass a `CUDAAccelerator()` instance to use FSDP.",
    (
        "ModelParallelStrategy {}",
        "Python",
    ): "TypeError: When using the ModelParallelStrategy, you are required to override the `configure_model()` hook in the LightningModule and apply parallelization there.",
    (
        "CUDAAccelerator {}",
        "Python",
    ): "MisconfigurationException: `CUDAAccelerator` can not run on your system since the accelerator is not available. The following accelerator(s) is available and can be passed into `accelerator` argument…",
    (
        "MPSAccelerator {}",
        "Python",
    ): "MisconfigurationException: `MPSAccelerator` can not run on your system since the accelerator is not available. The following accelerator(s) is available and can be passed into `accelerator` argument …",
    (
        "XLAAccelerator {}",
        "Python",
    ): "ModuleNotFoundError: Requirement 'torch_xla>=1.13' not met. HINT: Try running `pip install -U 'torch_xla>=1.13'`",
    (
        "barebones True",
        "Python",
    ): "MisconfigurationException: Trainer was configured with `enable_checkpointing=False` but found `ModelCheckpoint` in callbacks list.",  # the cell needs a checkpoint
    ("fast_dev_run True", "Python"): "ends before the stop",
    ("fast_dev_run 2", "Python"): "ends before the stop",
    (
        "precision 64-true",
        "Python",
    ): "other weights (6e-08)",  # Lightning loads the weights before it makes the model one of 64 bits
    (
        "precision transformer-engine",
        "Python",
    ): "ModuleNotFoundError: Requirement 'transformer_engine>=0.11.0' not met. HINT: Try running `pip install -U 'transformer_engine>=0.11.0'`",
    (
        "LearningRateFinder {'num_training_steps': 5}",
        "Python",
    ): "other weights (8e+00)",  # Lightning looks for the rate again when it resumes
    (
        "PyTorchProfiler {'dirpath': 'profiles', 'filename': 'torch', 'table_kwargs': {'max_name_column_width': 5}}",
        "Python",
    ): "not tried: torch's profiler crashes after an exception",  # Lightning's fault: it ends twice after an exception
    ("profiler pytorch", "Python"): "not tried: torch's profiler crashes after an exception",
}
