import pytest

from lightning_cnn.callbacks import Plots
from lightning_cnn.config.schema import Schema
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
        (
            {"model": None},
            "model not given; use --config with a file or a name such as mnist/cnn",
        ),
        ({"model": 3}, "--model 3: there is no such model class"),
        ({"model": {"class_path": "CNNClassifier", "init_args": {"std": None}}}, "--model.std null: expected float"),
        ({"model": {"init_args": {"std": 1}}}, "--model.std: --model has no class yet"),
        ({"data": {"class_path": "CNNClassifier"}}, "--data CNNClassifier: there is no such data class"),
    ],
)
def test_a_wrong_tree_is_refused(tree, message):
    assert message in refusal(**tree)


def test_a_setting_is_found_with_its_type():
    tree = {"model": {"class_path": "CNNClassifier", "init_args": {"std": 0.5, "optimizer": {"class_path": "SGD"}}}}

    assert SCHEMA.find(tree, ["model", "std"]) == (0.5, float | list[float])
    assert SCHEMA.find({"seed_everything": "x"}, ["seed_everything"]) == ("x", bool | int)
    with pytest.raises(LookupError):
        SCHEMA.find(tree, ["model", "mean"])
