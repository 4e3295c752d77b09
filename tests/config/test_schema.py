import inspect
from typing import Literal

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ThroughputMonitor
from lightning.pytorch.profilers import PyTorchProfiler
from lightning.pytorch.strategies import DDPStrategy
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from lightning_cnn.callbacks import Plots
from lightning_cnn.classifiers import CNNClassifier
from lightning_cnn.config.schema import Schema, arguments, describe_type, find_class
from lightning_cnn.errors import UserError

SCHEMA = Schema({"plots": Plots}, {"seed_everything": bool | int})
MODEL = {"class_path": "CNNClassifier", "init_args": {"optimizer": {"class_path": "torch.optim.SGD"}}}
DATA = {"class_path": "lightning_cnn.data.MNISTDataModule"}


def refusal(**tree: object) -> str:
    with pytest.raises(UserError) as caught:
        SCHEMA.check({"model": MODEL, "data": DATA} | tree)
    return str(caught.value)


def test_a_valid_tree_is_accepted():
    SCHEMA.check({"model": MODEL, "data": DATA, "plots": {"enabled": False}, "seed_everything": 1})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"plot": {}}, "there is no option --plot; did you mean '--plots'?"),
        ({"plots": {"enable": True}}, "there is no option --plots.enable; did you mean '--plots.enabled'?"),
        ({"plots": 3}, "--plots 3: this is a group of settings; give one of them, such as --plots.enabled"),
        ({"seed_everything": None}, "--seed_everything null: expected bool or int"),
        ({"model": None}, "model not given; use --config FILE"),
        ({"model": 3}, "--model 3: there is no such model class"),
        ({"model": {"class_path": "CNNClassifier", "init_args": {"std": None}}}, "--model.std null: expected float"),
        ({"model": {"init_args": {"std": 1}}}, "--model.std: --model has no class yet"),
        ({"data": {"class_path": "CNNClassifier"}}, "--data CNNClassifier: there is no such data class"),
    ],
)
def test_a_wrong_tree_is_refused(tree, message):
    assert message in refusal(**tree)


def test_a_class_is_found_by_its_name_and_by_its_path():
    assert find_class(("model", "optimizer"), "SGD") is SGD
    assert find_class(("model", "optimizer"), "torch.optim.SGD") is SGD


@pytest.mark.parametrize(
    ("place", "name", "message"),
    [
        (("model", "optimizer"), "Adamm", "--model.optimizer Adamm: there is no such optimizer class; did you mean"),
        (("model", "optimizer"), "torch.nn.Linear", "there is no such optimizer class"),
        (("model", "optimizer"), "os.system", "there is no such optimizer class"),
        (("model", "optimizer"), "..SGD", "--model.optimizer ..SGD: there is no such optimizer class"),
        (("model",), "nowhere.Class", "there is no module 'nowhere' on Python's path"),
        (("model", "scheduler"), "ReduceLROnPlateau", "give lightning.pytorch.cli.ReduceLROnPlateau"),
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
        (list[int] | None, "list"),
        (Literal["a", 2], "one of 'a', 2"),
        (Literal["a"] | Literal["b"] | None, "one of 'a', 'b'"),
    ],
)
def test_types_have_short_descriptions(annotation, text):
    assert describe_type(annotation) == text


def test_a_setting_is_found_with_its_type():
    tree = {"model": {"class_path": "CNNClassifier", "init_args": {"std": 0.5, "optimizer": {"class_path": "SGD"}}}}

    assert SCHEMA.find(tree, ["model", "std"]) == (0.5, float)
    assert SCHEMA.find({"seed_everything": "x"}, ["seed_everything"]) == ("x", bool | int)
    with pytest.raises(LookupError):
        SCHEMA.find(tree, ["model", "mean"])
