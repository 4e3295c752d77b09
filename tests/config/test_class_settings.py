import inspect
from typing import Literal

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ThroughputMonitor
from lightning.pytorch.profilers import PyTorchProfiler
from lightning.pytorch.strategies import DDPStrategy
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from lightning_cnn.classifiers import CNNClassifier
from lightning_cnn.config.class_settings import arguments, describe_type, find_class
from lightning_cnn.errors import UserError


def test_a_class_is_found_by_its_name_and_by_its_path():
    assert find_class(("model", "optimizer"), "SGD") is SGD
    assert find_class(("model", "optimizer"), "torch.optim.SGD") is SGD


@pytest.mark.parametrize(
    ("place", "name", "message"),
    [
        (("model", "optimizer"), "Adamm", "--model.optimizer Adamm: there is no such optimizer class; did you mean"),
        (
            ("model", "optimizer"),
            "torch.nn.Linear",
            "this class is not a subclass of torch's Optimizer; name another",
        ),
        (
            ("model", "optimizer"),
            "os.system",
            "this is not a class, but of the type builtin_function_or",
        ),
        (("model", "optimizer"), "..SGD", "--model.optimizer ..SGD: there is no such optimizer class"),
        (("model",), "nowhere.Class", "there is no module 'nowhere' on Python's path"),
        (
            ("model", "scheduler"),
            "ReduceLROnPlateau",
            "give torch.optim.lr_scheduler.ReduceLROnPlateau or lightning.pytorch.cli.ReduceLROnPlateau",
        ),
    ],
)
def test_an_unknown_or_ambiguous_class_is_named(place, name, message):
    with pytest.raises(UserError) as caught:
        find_class(place, name)

    assert message in str(caught.value)


def test_arguments_include_those_that_are_passed_on_to_the_base():
    class Base:
        def __init__(self, a: int, b: float = 1.0) -> None: ...

    class Middle(Base):
        pass

    class Derived(Middle):
        def __init__(self, c: str, *args: int, **kwargs: float) -> None: ...

    assert set(arguments(Derived)) == {"a", "b", "c"}
    assert arguments(Derived)["a"].default is inspect.Parameter.empty


@pytest.mark.parametrize(
    ("cls", "argument"),
    [(ThroughputMonitor, "window_size"), (PyTorchProfiler, "record_shapes"), (DDPStrategy, "find_unused_parameters")],
)
def test_arguments_include_those_that_are_passed_on_to_something_else(cls, argument):
    assert argument in arguments(cls)


def test_injected_arguments_are_not_settings():
    assert "params" not in arguments(SGD)
    assert "optimizer" not in arguments(StepLR)
    assert "network" not in arguments(CNNClassifier)
    assert "monitor" in arguments(EarlyStopping)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (int | float | None, "int or float"),
        (list[int] | None, "[int, …]"),
        (Literal["a", 2], "one of 'a', 2"),
        (Literal["a"] | Literal["b"] | None, "one of 'a', 'b'"),
    ],
)
def test_types_have_short_descriptions(annotation, text):
    assert describe_type(annotation) == text
