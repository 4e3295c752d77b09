"""All figures of the package, drawn from plain arrays without pyplot: no global state, no window, no backend to choose.

Importing this module imports matplotlib, which takes a third of a second: import it in the function that draws.
"""

from lightning_cnn.plots.confusion_matrix import confusion_matrix
from lightning_cnn.plots.curves import calibration, comparison, history, stacked_history
from lightning_cnn.plots.images import mistakes, predictions, samples, seen
from lightning_cnn.plots.network import feature_maps, filters

__all__ = [
    "calibration",
    "comparison",
    "confusion_matrix",
    "feature_maps",
    "filters",
    "history",
    "mistakes",
    "predictions",
    "samples",
    "seen",
    "stacked_history",
]
