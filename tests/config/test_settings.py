from pathlib import Path

import pytest

from lightning_cnn.callbacks import Plots
from lightning_cnn.config.flags import Flag
from lightning_cnn.config.schema import Schema
from lightning_cnn.config.settings import apply_flags, merge, read_settings, texts
from lightning_cnn.data import datamodules  # noqa: F401  # short names are those of imported classes
from lightning_cnn.errors import UserError
from lightning_cnn.training.trainer import Trainer

SCHEMA = Schema({"trainer": Trainer, "plots": Plots}, {"seed_everything": bool | int, "test": bool})
ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1, "betas": [0.8, 0.9]}}
CNN = {"class_path": "lightning_cnn.classifiers.CNNClassifier", "init_args": {"optimizer": ADAM, "std": 0.5}}


def applied(tree: dict, *flags: str) -> dict:
    """Apply flags, each as `name=value`; `name+=value` appends."""
    pairs = (flag.partition("=") for flag in flags)
    return apply_flags(tree, [Flag(n.removesuffix("+"), v, appends=n.endswith("+")) for n, _, v in pairs], SCHEMA)


# Merging


def test_later_trees_override_earlier_ones():
    assert merge({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 3}}, {"a": 4}) == {"a": 4, "b": {"c": 3, "d": 2}}


def test_lists_are_replaced():
    assert merge({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}


def test_a_mapping_that_is_a_value_is_replaced():
    assert merge({"trainer": {"max_time": {"minutes": 1}}}, {"trainer": {"max_time": {"hours": 2}}}) == {
        "trainer": {"max_time": {"hours": 2}}
    }


def test_arguments_of_a_class_in_an_argument_are_merged():
    first = {
        "trainer": {"plugins": {"class_path": "a", "init_args": {"io": {"class_path": "b", "init_args": {"x": 1}}}}}
    }

    tree = merge(first, {"trainer": {"plugins": {"init_args": {"io": {"init_args": {"y": 2}}}}}})

    assert tree["trainer"]["plugins"]["init_args"]["io"] == {"class_path": "b", "init_args": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("path", "arguments"),
    [("torch.amp.GradScaler", {"init_scale": 2, "enabled": True}), ("another.Scaler", {"enabled": True})],
)
def test_a_class_of_whatever_kind_is_merged_with_itself_only(path, arguments):
    first, second = (
        {"trainer": {"plugins": {"class_path": "a", "init_args": {"scaler": {"class_path": cls, "init_args": given}}}}}
        for cls, given in (("torch.amp.GradScaler", {"init_scale": 2}), (path, {"enabled": True}))
    )
    second["trainer"]["plugins"].pop("class_path")

    scaler = merge(first, second)["trainer"]["plugins"]["init_args"]["scaler"]

    assert scaler == {"class_path": path, "init_args": arguments}


def test_merging_does_not_change_its_arguments():
    first, second = {"a": {"b": 1}}, {"a": {"c": [2]}}

    merge(first, second)["a"]["b"] = 3

    assert (first, second) == ({"a": {"b": 1}}, {"a": {"c": [2]}})


def test_the_same_class_keeps_its_arguments():
    tree = merge({"model": CNN}, {"model": {"class_path": "CNNClassifier", "init_args": {"mean": 0.1}}})

    assert tree["model"]["init_args"] == CNN["init_args"] | {"mean": 0.1}


def test_another_class_keeps_the_arguments_that_it_has():
    tree = merge({"model": CNN}, {"model": {"init_args": {"optimizer": {"class_path": "SGD"}}}})

    assert tree["model"]["init_args"]["optimizer"] == {"class_path": "SGD", "init_args": {"lr": 0.1}}
    assert tree["model"]["init_args"]["std"] == 0.5


def test_a_class_may_be_given_by_its_name_alone():
    assert merge({"model": CNN}, {"model": "MLPClassifier"})["model"]["class_path"] == "MLPClassifier"


def test_a_single_callback_is_a_list_of_one():
    assert merge({}, {"trainer": {"callbacks": "PrintLoss"}}) == {"trainer": {"callbacks": ["PrintLoss"]}}


# Flags


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("trainer.max_epochs=3", 3),
        ("trainer.max_epochs=null", None),
        ("trainer.limit_train_batches=1.0", 1.0),
        ("trainer.limit_train_batches=1", 1),
        ("trainer.logger=false", False),
        ("trainer.devices=[0, 1]", [0, 1]),
        ("trainer.default_root_dir=12", "12"),  # always text
        ("trainer.default_root_dir=null", None),
        ("trainer.strategy=ddp", "ddp"),
        ("trainer.max_time=00:00:01:00", "00:00:01:00"),
        ("trainer.max_time={minutes: 1}", {"minutes": 1}),
        ("trainer.max_time={1: 2}", {1: 2}),
    ],
)
def test_values_are_read_as_yaml_or_as_text(flag, value):
    ((_, found),) = applied({}, flag)["trainer"].items()

    assert found == value
    assert type(found) is type(value)


def test_arguments_of_a_class_need_no_init_args():
    spellings = ("model.optimizer.lr=0.5", "model.init_args.optimizer.init_args.lr=0.5")

    for spelling in spellings:
        assert applied({"model": CNN}, spelling)["model"]["init_args"]["optimizer"] == {
            "class_path": "torch.optim.Adam",
            "init_args": {"lr": 0.5, "betas": [0.8, 0.9]},
        }


def test_the_default_class_of_an_argument_is_known():
    tree = applied({}, "model=MLPClassifier", "model.optimizer.lr=0.5")

    assert tree["model"]["init_args"] == {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.5}}}


def test_a_flag_chooses_another_class():
    tree = applied({"model": CNN}, "model.optimizer=SGD", "model.optimizer.momentum=0.9")

    assert tree["model"]["init_args"]["optimizer"] == {"class_path": "SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}


def test_callbacks_are_appended_and_flags_change_the_last_one():
    first = {"trainer": {"callbacks": [{"class_path": "Progress"}]}}

    tree = applied(first, "trainer.callbacks+=PrintLoss", "trainer.callbacks.every_n_batches=3")

    assert tree["trainer"]["callbacks"] == [
        {"class_path": "Progress"},
        {"class_path": "PrintLoss", "init_args": {"every_n_batches": 3}},
    ]
    assert first == {"trainer": {"callbacks": [{"class_path": "Progress"}]}}


@pytest.mark.parametrize("before", [{}, {"callbacks": None}])
def test_callbacks_are_appended_to_an_empty_list(before):
    assert applied({"trainer": before}, "trainer.callbacks+=Timer")["trainer"]["callbacks"] == ["Timer"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("trainr.x=1", "there is no option --trainr.x"),
        ("trainer.max_epochs.x=1", "there is no option --trainer.max_epochs.x; did you mean '--trainer.max_epochs'?"),
        ("seed_everything={a: 1, a: 2}", "'a' is given twice (line 1); keep one"),
        ("trainer.max_epochs=.nan", "--trainer.max_epochs '.nan': .nan (line 1) is not a finite number"),
    ],
)
def test_flags_that_cannot_be_applied_are_refused(flag, message):
    with pytest.raises(UserError) as caught:
        applied({"model": CNN}, flag)

    assert message in str(caught.value)


def test_unknown_arguments_of_a_class_are_left_to_the_schema():
    assert applied({"model": CNN}, "model.x=1")["model"]["init_args"]["x"] == 1


def test_a_flag_without_a_value_is_refused():
    with pytest.raises(UserError, match=r"^--seed_everything needs a value: --seed_everything VALUE$"):
        apply_flags({}, [Flag("seed_everything", None)], SCHEMA)


# Files


def test_a_file_name_is_replaced_by_its_content_where_a_group_or_class_is_expected():
    Path("parts").mkdir()
    Path("main.yaml").write_text("trainer: parts/trainer.yaml\nmodel: {class_path: x, init_args: {optimizer: o.yaml}}")
    Path("parts/trainer.yaml").write_text("callbacks: [timer.yaml]\n")
    Path("parts/timer.yaml").write_text("class_path: Timer\n")
    Path("o.yaml").write_text("class_path: SGD\n")

    assert read_settings("main.yaml", SCHEMA) == {
        "trainer": {"callbacks": [{"class_path": "Timer"}]},
        "model": {"class_path": "x", "init_args": {"optimizer": {"class_path": "SGD"}}},
    }


def test_a_flag_may_name_a_file():
    Path("trainer.yaml").write_text("max_epochs: 2\n")

    assert applied({"trainer": {"devices": 1}}, "trainer=trainer.yaml")["trainer"] == {"devices": 1, "max_epochs": 2}


@pytest.mark.parametrize("name", ["mnist/cnn", "mnist/cnn.yaml", "configs/mnist/cnn.yaml"])
def test_a_config_of_this_package_has_a_name_in_any_folder(name, configs):
    assert not Path(name).exists()

    assert read_settings(name, SCHEMA) == read_settings(str(configs / "mnist" / "cnn.yaml"), SCHEMA)


def test_a_file_of_the_user_comes_before_a_config_of_this_package():
    Path("mnist").mkdir()
    Path("mnist/cnn").write_text("seed_everything: 3\n")

    assert read_settings("mnist/cnn", SCHEMA) == {"seed_everything": 3}
    assert read_settings("mnist/deep_cnn", SCHEMA)["model"]["class_path"].endswith("DeepCNNClassifier")


@pytest.mark.parametrize("name", ["default", "sweeps/cnn", "../configs/mnist/cnn", "mnist"])
def test_other_names_are_files(name):
    with pytest.raises(UserError, match=r"^config '.*' cannot be read \(no such file or directory\); give a YAML file"):
        read_settings(name, SCHEMA)


def test_settings_may_be_given_as_text():
    assert read_settings("{seed_everything: 3}", SCHEMA) == {"seed_everything": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("modell: 1", "c.yaml: there is no setting 'modell'; did you mean 'model'?"),
        ("config: x", "c.yaml: there is no setting 'config'"),
        ("trainer: 5", "c.yaml: trainer must map settings to values, got 5"),
        ("trainer: {1: 2}", "c.yaml: 1 is not the name of a setting"),
        ("trainer: {__class__: 2}", "c.yaml: '__class__' is not the name of a setting"),
        ("model: {class_path: 3}", "c.yaml: class_path must be the name of a class, got 3"),
        ("model: {class_path: a, init_args: [1]}", "c.yaml: init_args must map arguments to values, got list"),
    ],
)
def test_a_malformed_config_is_refused(content, message):
    Path("c.yaml").write_text(content)

    with pytest.raises(UserError) as caught:
        read_settings("c.yaml", SCHEMA)

    assert message in str(caught.value)


def test_all_text_of_a_tree_is_found():
    assert set(texts({"a": "x", "b": [1, "y", {"c": "z"}], "d": None})) == {"x", "y", "z"}


@pytest.mark.parametrize("text", ["trainer: c.yaml", "trainer: {callbacks: [c.yaml, c.yaml, c.yaml]}"])
def test_a_config_that_names_itself_is_refused(text, tmp_path):
    (tmp_path / "c.yaml").write_text(text)

    with pytest.raises(UserError, match=r"c\.yaml is one of more than 50 files, or names itself; name fewer$"):
        read_settings("c.yaml", SCHEMA)


@pytest.mark.parametrize("name", ["class_path", "init_args"])
def test_the_keys_of_a_class_are_no_settings(name):
    with pytest.raises(UserError, match=f"there is no option --{name}"):
        applied({}, f"{name}=x")


def test_text_names_files_as_seen_from_the_current_folder(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "trainer.yaml").write_text("max_epochs: 3")

    assert read_settings("{trainer: parts/trainer.yaml}", SCHEMA) == {"trainer": {"max_epochs": 3}}
