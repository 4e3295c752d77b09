"""Five published image classifiers on MNIST and Fashion-MNIST, trained and compared from one command line.

In Python, `load` opens a trained classifier:

    import lightning_cnn as lc

    classifier = lc.load("best")
    classifier.predict("digit.png")

What this module offers is imported when it is first asked for, so that the command line starts without it.
"""

__version__ = "0.1.0"

__all__ = ["Prediction", "PredictionList", "TrainedClassifier", "TrainedRun", "UserError", "fit", "load"]

TYPE_CHECKING = False  # as in `typing`, which is not imported for this alone
if TYPE_CHECKING:
    from lightning_cnn.api import TrainedRun, fit
    from lightning_cnn.errors import UserError
    from lightning_cnn.predict.prediction import Prediction, PredictionList
    from lightning_cnn.predict.trained import TrainedClassifier, load

#: The module of each name.
_MODULES = {
    "Prediction": "lightning_cnn.predict.prediction",
    "PredictionList": "lightning_cnn.predict.prediction",
    "TrainedClassifier": "lightning_cnn.predict.trained",
    "TrainedRun": "lightning_cnn.api",
    "UserError": "lightning_cnn.errors",
    "fit": "lightning_cnn.api",
    "load": "lightning_cnn.predict.trained",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = value = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | {*__all__})
