"""Lightning callbacks and loggers: what a run shows, records and saves."""

from lightning_cnn.callbacks.checkpoints import Checkpoints
from lightning_cnn.callbacks.dashboard import Dashboard
from lightning_cnn.callbacks.plots import Plots
from lightning_cnn.callbacks.print_loss import PrintLoss
from lightning_cnn.callbacks.progress import Progress
from lightning_cnn.callbacks.run_record import RunRecord
from lightning_cnn.callbacks.save_weights import SaveWeights
from lightning_cnn.callbacks.test_results import TestResults

__all__ = ["Checkpoints", "Dashboard", "Plots", "PrintLoss", "Progress", "RunRecord", "SaveWeights", "TestResults"]
