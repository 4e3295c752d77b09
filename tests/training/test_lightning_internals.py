"""Every private name of Lightning and torchmetrics that the package uses, and what breaks if it moves.

Only `lightning_cnn/training/` may use them.
"""

import ast
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelPruning, StochasticWeightAveraging
from lightning.pytorch.callbacks.spike import SpikeDetection
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins import AsyncCheckpointIO, TorchCheckpointIO
from lightning.pytorch.plugins.io.wrapper import _WrappingCheckpointIO
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities.argparse import _parse_env_variables
from torchmetrics import MeanMetric

import lightning_cnn

PACKAGE = Path(lightning_cnn.__file__).parent
#: The private names of other libraries that other rooms use, because there are no public ones.
OF_OTHERS = {
    "classifiers/optimizers.py": {"_schedulers"},  # of torch's `SequentialLR`
    "cli.py": {"_shutdown", "_run_exitfuncs"},  # what Python does at its end
    "completion.py": {"_actions"},  # of an `ArgumentParser`
    "config/class_settings.py": {"_actions"},
    "config/options.py": {"_actions"},
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in ("_", "_exit")  # `os._exit` is public


def defined_names(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module gives to functions, classes, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def used_names(tree: ast.AST) -> Iterator[str]:
    """Yield the private names that a module imports, or uses as attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            yield from [word.value for word in node.args if isinstance(word, ast.Constant) and word.value is not None]


def foreign_privates(text: str, own: Iterable[str] = ()) -> set[str]:
    """Return the private names in a module that the package does not define itself."""
    tree = ast.parse(text)
    return {name for name in map(str, used_names(tree)) if is_private(name)} - {*own}


@pytest.fixture
def trainer():
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


def test_loops_can_be_replaced(trainer):
    """Without these classes and methods, checkpoints are not at step boundaries, and resuming is not exact."""
    assert isinstance(trainer.fit_loop, _FitLoop)
    assert isinstance(trainer.fit_loop.epoch_loop, _TrainingEpochLoop)
    assert list(inspect.signature(_FitLoop.__init__).parameters)[1:4] == ["trainer", "min_epochs", "max_epochs"]
    assert list(inspect.signature(_TrainingEpochLoop.__init__).parameters)[1:4] == ["trainer", "min_steps", "max_steps"]
    for name in ("run", "advance", "on_advance_end", "on_save_checkpoint", "on_load_checkpoint", "load_state_dict"):
        assert callable(getattr(_FitLoop, name))
    for name in ("on_run_start", "advance", "on_advance_end"):
        assert list(inspect.signature(getattr(_TrainingEpochLoop, name)).parameters) == ["self", "data_fetcher"]
    assert inspect.isclass(_DataFetcher)


def test_the_epoch_loop_says_whether_a_step_was_taken(trainer):
    """Without `_should_accumulate`, a checkpoint could be saved between accumulated batches."""
    assert isinstance(trainer.fit_loop.epoch_loop._should_accumulate(), bool)


def test_the_epoch_loop_exchanges_signals_in_one_method():
    """If `_broadcast_sigterm_tensor` is renamed, Lightning's ends ranks at different steps after SIGTERM."""
    assert list(inspect.signature(_TrainingEpochLoop._broadcast_sigterm_tensor).parameters) == ["self"]


def test_restarting_can_be_reset_with_a_limited_number_of_steps(trainer):
    """Without the setter of `_Loop`, a run with `max_steps` repeats work after it is resumed."""
    loop = trainer.fit_loop
    loop.restarting = True

    _Loop.restarting.fset(loop, False)

    assert not loop.restarting
    assert not loop.epoch_loop.restarting


def test_progress_can_be_reset(trainer):
    """Without these counters, `EpochLoop.reset_progress` leaves batches of the epoch before in a resumed run."""
    loop = trainer.fit_loop.epoch_loop
    for progress in (loop.batch_progress, loop.scheduler_progress, loop.automatic_optimization.optim_progress):
        progress.reset_on_run()
    loop.val_loop.batch_progress.total.reset()


def test_the_epoch_loop_knows_its_position(trainer):
    """Without these, training that stops inside an epoch is stored as if the epoch had ended."""
    loop = trainer.fit_loop.epoch_loop
    assert isinstance(loop._num_ready_batches_reached(), bool)
    assert isinstance(trainer.fit_loop._can_stop_early, bool)
    assert list(inspect.signature(loop._should_check_val_fx).parameters) == ["data_fetcher"]
    assert loop._batches_that_stepped == 0


def test_the_fit_loop_keeps_its_loader(trainer):
    """Without `_combined_loader`, a schedule that asks for the number of steps sets a resumed epoch to its start."""
    assert trainer.fit_loop._combined_loader is None


def test_checkpoint_io_can_be_wrapped():
    """Without `_checkpoint_io`, `AsyncCheckpointIO` does not write files atomically."""
    wrapper = AsyncCheckpointIO()
    assert isinstance(wrapper, _WrappingCheckpointIO)
    wrapper._checkpoint_io = inner = TorchCheckpointIO()

    assert wrapper.checkpoint_io is inner


def test_callback_metrics_are_one_dict(trainer):
    """If the property returns a copy, a resumed run forgets the metrics of earlier epochs."""
    trainer.callback_metrics["val/acc"] = 1

    assert trainer.callback_metrics == {"val/acc": 1}


def test_signals_are_handled_by_a_connector(trainer):
    """Without it, signals end a run in the middle of a step, and SLURM jobs are not requeued."""
    assert isinstance(trainer._signal_connector, _SignalConnector)
    assert callable(_SignalConnector.register_signal_handlers)
    assert callable(_SignalConnector._register_signal)
    assert hasattr(trainer._signal_connector, "_original_handlers")
    assert hasattr(trainer._accelerator_connector, "cluster_environment")


def test_precisions_are_a_type():
    """Without it, the command line accepts any value of `--trainer.precision`."""
    assert "bf16-mixed" in str(_PRECISION_INPUT)


def test_variables_of_the_trainer_are_read(monkeypatch):
    """Without it, our Trainer ignores `PL_TRAINER_*`."""
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "3")

    assert vars(_parse_env_variables(Trainer)) == {"max_epochs": 3}


def test_processes_are_started_by_a_launcher():
    """Without it, the processes of further devices are not monitored, and outlive a failure."""
    assert list(inspect.signature(_SubprocessScriptLauncher._call_children_scripts).parameters) == ["self"]
    assert _SubprocessScriptLauncher(LightningEnvironment(), num_processes=2, num_nodes=1).procs == []


def test_a_loaded_checkpoint_is_known_until_it_is_restored(trainer):
    """Without it, an error in restoring is reported as one of the training."""
    assert not trainer._checkpoint_connector._loaded_checkpoint


def test_averages_of_weights_have_a_state(trainer):
    """Without these, an average without updates is the untrained network, and a resumed run averages other weights."""
    running, stochastic = EMAWeightAveraging(), StochasticWeightAveraging(0.1)

    assert running._average_model is stochastic._average_model is None
    assert running._latest_update_epoch == -1
    assert stochastic._scheduler_state is None
    assert (stochastic.n_averaged, stochastic._init_n_averaged, stochastic._swa_epoch_start) == (None, 0, 0.8)
    assert callable(stochastic.pl_module_contains_batch_norm) and callable(stochastic.transfer_weights)
    assert callable(trainer._checkpoint_connector.dump_checkpoint)


def test_pruning_has_a_state():
    """Without these, pruned weights grow again in a resumed run, or are rewound again."""
    pruning = ModelPruning("l1_unstructured", use_lottery_ticket_hypothesis=False)

    assert pruning._original_layers is None
    assert not pruning._parameters_to_prune
    assert callable(pruning._make_pruning_permanent_on_state_dict)


def test_spikes_are_found_among_the_last_losses():
    """Without these, a run with `SpikeDetection` cannot be resumed; the release that mends it needs them no more."""
    spikes = SpikeDetection()

    assert (spikes.running_mean._num_vals_seen, spikes.running_mean._update_count) == (0, 0)
    assert not hasattr(spikes, "running")


def test_torchmetrics_counts_updates():
    """Without `_update_count`, a resumed run warns that a metric is computed before its first update."""
    metric = MeanMetric()
    metric.update(1.0)

    assert metric._update_count == 1


def test_no_other_room_uses_private_names_of_libraries():
    texts = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    own = {name for text in texts.values() for name in defined_names(ast.parse(text))}

    found = {name: foreign_privates(text, own) for name, text in texts.items() if not name.startswith("training/")}

    assert {name: privates for name, privates in found.items() if privates} == OF_OTHERS


@pytest.mark.parametrize(
    "line",
    [
        "from lightning.pytorch.loops.fit_loop import _FitLoop",
        "from torchmetrics.utilities._checks import x",
        "x = trainer._results",
        "self._trainer is None",
        "trainer.strategy._launcher",
        "trainer.fit_loop._data_source",
        "metric._update_count += 1",
        'getattr(model, "_current_fx_name")',
    ],
)
def test_private_names_are_found(line):
    assert foreign_privates(line)
