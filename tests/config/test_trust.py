"""Settings in a checkpoint must be plain values and known classes; nothing is imported to check them."""

import sys
from collections import OrderedDict
from pathlib import Path
from shlex import quote

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_cnn.config.trust import require_recordable, trusted_settings
from lightning_cnn.errors import UserError

OPTIMIZER = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001, "betas": [0.9, 0.999]}}
MODEL = {"class_path": "lightning_cnn.classifiers.CNNClassifier", "init_args": {"optimizer": OPTIMIZER, "std": 0.5}}
DATA = {"class_path": "lightning_cnn.data.MNISTDataModule", "init_args": {"data_dir": "/data", "augment": None}}


@pytest.fixture
def planted(tmp_path, monkeypatch) -> str:
    """The name of a module that can be imported, and leaves the file `imported` if it is."""
    name = f"planted_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'imported')!r}).touch()\n"
        "from subprocess import Popen\nfrom torch.optim import SGD\n"
        "class Mine(SGD): pass\nclass Other: pass\ndef function(): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def refusal(config: object, *named: str) -> str:
    with pytest.raises(UserError) as caught:
        trusted_settings(config, set(named))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def with_model(**init_args: object) -> dict:
    return {"model": {**MODEL, "init_args": init_args}}


def with_trainer(**trainer: object) -> dict:
    return {"trainer": trainer}


# Settings that are trusted


def test_plain_settings_are_returned_unchanged():
    config = {"seed_everything": 0, "model": MODEL, "data": DATA, "trainer": {"max_epochs": 5, "precision": "32-true"}}

    assert trusted_settings(config, set()) == config


def test_other_containers_become_plain_ones():
    config = trusted_settings({"model": OrderedDict(MODEL), "trainer": {"devices": (0, 1)}}, set())

    assert type(config["model"]) is dict
    assert config["trainer"] == {"devices": [0, 1]}


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("logger", "lightning.pytorch.loggers.CSVLogger"),
        ("profiler", "lightning.pytorch.profilers.SimpleProfiler"),
        ("strategy", "lightning.pytorch.strategies.DDPStrategy"),
        ("strategy", "lightning.pytorch.strategies.ddp.DDPStrategy"),
        ("plugins", "lightning.pytorch.plugins.MixedPrecision"),
        ("plugins", "lightning.pytorch.plugins.TorchCheckpointIO"),  # defined in lightning.fabric
        ("plugins", "lightning.fabric.plugins.io.TorchCheckpointIO"),
    ],
)
def test_classes_of_lightning_are_known(setting, path):
    config = with_trainer(**{setting: {"class_path": path}})

    assert trusted_settings(config, set()) == config
    assert trusted_settings(with_trainer(**{setting: path}), set()) == with_trainer(**{setting: path})


@pytest.mark.parametrize(
    "scheduler",
    ["torch.optim.lr_scheduler.StepLR", "torch.optim.swa_utils.SWALR", "lightning.pytorch.cli.ReduceLROnPlateau"],
)
def test_schedules_are_known(scheduler):
    config = with_model(scheduler={"class_path": scheduler})

    assert trusted_settings(config, set()) == config


@pytest.mark.parametrize(
    "callback",
    [
        {"class_path": "lightning_cnn.callbacks.SaveWeights", "init_args": {"filename": "torch.pth"}},
        {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val/acc"}},
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "{epoch}"}},
    ],
)
def test_callbacks_are_known(callback):
    config = with_trainer(callbacks=[callback])

    assert trusted_settings(config, set()) == config


def callback(name: str, **init_args: object) -> dict:
    return with_trainer(callbacks=[{"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": init_args}])


@pytest.mark.parametrize(
    "config",
    [
        callback("GradientAccumulationScheduler", scheduling={0: 1, 4: 2}),
        callback("BackboneFinetuning", lambda_func="lightning.pytorch.callbacks.finetuning.multiplicative"),
        callback("ModelPruning", pruning_fn="l1_unstructured"),
        callback("Timer", duration={"hours": 1}),
        with_trainer(max_time={"hours": 1}),
        with_trainer(
            logger={
                "class_path": "lightning.pytorch.loggers.MLFlowLogger",
                "init_args": {"run_name": "json.tool", "tags": {"mlflow.note.content": "a note"}},
            }
        ),
        with_trainer(
            strategy={
                "class_path": "lightning.pytorch.strategies.DeepSpeedStrategy",
                "init_args": {"nvme_path": "/local_nvme"},
            }
        ),
    ],
    ids=["numbers as keys", "default function", "name of a function", "mapping", "flag", "text", "default path"],
)
def test_what_an_argument_takes_is_trusted(config):
    assert trusted_settings(config, set()) == config


def test_text_is_no_file_where_only_text_is_taken():
    Path("min").write_text("class_path: os.system")

    config = callback("EarlyStopping", monitor="val/loss", mode="min")

    assert trusted_settings(config, set()) == config


@pytest.mark.parametrize(
    "config",
    [
        callback("GradientAccumulationScheduler", scheduling={"__class__": 1}),
        callback("GradientAccumulationScheduler", scheduling={None: 1}),
        callback("GradientAccumulationScheduler", scheduling={2**63: 1}),
        callback("GradientAccumulationScheduler", scheduling={0: "os.system"}),
        callback("EarlyStopping", mode={0: "min"}),
        callback("LambdaCallback", on_fit_start="lightning.pytorch.callbacks.finetuning.multiplicative"),
        callback("ModelCheckpoint", dirpath="memory://elsewhere"),
        with_trainer(strategy={"model.class_path": "os.system"}),
        with_trainer(**{"max_epochs": {0: 1}}),
    ],
)
def test_mappings_and_functions_elsewhere_are_refused(config):
    refusal(config)


@pytest.mark.parametrize("place", ["default_root_dir", "model_registry"])
def test_output_folders_are_dropped(place):
    assert trusted_settings(with_trainer(**{place: "/home/me", "max_epochs": 1}), set()) == with_trainer(max_epochs=1)


def test_the_checkpoint_path_is_dropped():
    assert trusted_settings({"ckpt_path": "/elsewhere.ckpt"}, set()) == {}


# Classes


FORMS = {
    "class": lambda path: {"model": {"class_path": path}},
    "optimizer": lambda path: with_model(optimizer={"class_path": path}),
    "optimizer, as text": lambda path: with_model(optimizer=path),
    "callback": lambda path: with_trainer(callbacks=[{"class_path": path}]),
    "callback, as text": lambda path: with_trainer(callbacks=[path]),
    "callbacks, as text": lambda path: with_trainer(callbacks=path),
    "profiler, as text": lambda path: with_trainer(profiler=path),
    "model, as text": lambda path: {"model": path},
    "function": lambda path: with_trainer(
        callbacks=[{"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": path}}]
    ),
    "dict_kwargs": lambda path: {"model": {**MODEL, "dict_kwargs": {"extra": {"class_path": path}}}},
    "YAML in text": lambda path: with_model(optimizer=f"{{class_path: {path}}}"),
    "YAML in lines of text": lambda path: with_model(optimizer=f"class_path: {path}\ninit_args: {{}}"),
    "nested": lambda path: with_trainer(
        strategy={
            "class_path": "lightning.pytorch.strategies.DDPStrategy",
            "init_args": {"checkpoint_io": {"class_path": path}},
        }
    ),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@every_form
@pytest.mark.parametrize("name", ["Mine", "Other", "function", "Popen", "missing", "Mine.step"])
def test_classes_that_a_checkpoint_names_are_not_imported(planted, form, name):
    refusal(form(f"{planted}.{name}"))

    assert planted not in sys.modules
    assert not Path("imported").exists()


@every_form
@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "lightning_cnn.os.system",
        "lightning_cnn.cli.main",
        "lightning_cnn.cli.os.system",
        "lightning_cnn.__main__.run",
        "lightning_cnn.errors.UserError",
        "torch.optim.sys",
        "torch.optim.lr_scheduler.Counter",
        "torch.hub.load",
        "torch.nn.Linear",
        "lightning.pytorch.os",
        "lightning.pytorch.cli.LightningCLI",
        "lightning.pytorch.callbacks.lambda_function.Callable",
        "lightning.pytorch.callbacks.nothing.Callback",
    ],
)
def test_other_names_in_known_packages_are_refused(form, path):
    refusal(form(path))


@pytest.mark.parametrize(
    ("config", "flag"),
    [
        (with_model(optimizer={"class_path": "lightning.pytorch.callbacks.Timer"}), "--model.optimizer"),
        (with_model(scheduler={"class_path": "torch.optim.Adam"}), "--model.scheduler"),
        (with_trainer(callbacks=[{"class_path": "torch.optim.Adam"}]), "--trainer.callbacks"),
        ({"data": {"class_path": "lightning_cnn.classifiers.CNNClassifier"}}, "--data"),
    ],
)
def test_a_class_must_be_a_subclass_of_what_its_setting_takes(config, flag):
    assert f" for {flag}, which takes no such class" in refusal(config)


def test_the_message_says_how_to_name_a_class(planted):
    assert refusal(with_model(optimizer={"class_path": f"{planted}.Mine"})) == (
        f"the checkpoint names the class '{planted}.Mine', which is not one of lightning-cnn, PyTorch or Lightning, "
        f"so it is not imported; if it is yours, add --model.optimizer {planted}.Mine"
    )


def test_a_module_of_the_user_that_is_not_found_is_named():
    config = with_model(optimizer={"class_path": "elsewhere.Mine"})

    assert refusal(config, "elsewhere.Mine") == (
        "elsewhere.Mine: there is no module 'elsewhere' on Python's path; "
        "`python -m lightning_cnn` finds modules in the current folder"
    )


def test_a_class_that_the_user_names_is_trusted(planted):
    config = with_model(optimizer={"class_path": f"{planted}.Mine"})

    assert trusted_settings(config, {f"{planted}.Mine"}) == config


@pytest.mark.parametrize("name", ["Popen", "function", "missing", "SGD"])
def test_only_classes_defined_in_a_named_module_are_trusted(planted, name):
    refusal(with_model(optimizer={"class_path": f"{planted}.{name}"}), f"{planted}.Mine")


@pytest.mark.parametrize("text", ["planted.function", "memory://a/b", "c.yaml"])
def test_what_the_user_names_is_trusted_as_a_value(planted, text):
    Path("c.yaml").write_text("class_path: os.system")
    text = text.replace("planted", planted)
    config = callback("LambdaCallback", on_fit_start=text)

    assert refusal(config).endswith("add --config FILE, with a file that has it")
    assert trusted_settings(config, {text}) == config


@pytest.mark.parametrize(
    ("config", "advice"),
    [
        (with_model(optimizer={"class_path": "mine.Adam"}), "--model.optimizer mine.Adam"),
        (with_trainer(callbacks=[{"class_path": "mine.Timer"}]), "--config 'a run/config.yaml'"),
        (
            with_trainer(plugins={"class_path": "mine.IO", "init_args": {"checkpoint_io": {"class_path": "mine.A"}}}),
            "--trainer.plugins mine.IO",
        ),
        (
            with_trainer(
                plugins={
                    "class_path": "lightning.pytorch.plugins.AsyncCheckpointIO",
                    "init_args": {"checkpoint_io": {"class_path": "mine.IO"}},
                }
            ),
            "--config 'a run/config.yaml'",
        ),
    ],
)
def test_the_message_names_a_flag_only_where_it_changes_nothing_else(config, advice):
    with pytest.raises(UserError) as caught:
        trusted_settings(config, set(), Path("a run/config.yaml"))

    assert str(caught.value).endswith(f"add {advice}")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (with_trainer(devices=list(range(10_000))), "too many settings"),
        (with_trainer(devices=["long text" * 100] * 200), "its config would have 18"),
        (callback("Timer", duration={"a": {"b.c": 1}}), "'b.c' below --trainer.callbacks.duration"),
    ],
)
def test_settings_that_would_not_be_accepted_back_are_refused(settings, reason):
    with pytest.raises(UserError, match=reason):
        require_recordable(settings)


def test_a_class_of_the_user_can_be_recorded(planted):
    require_recordable(with_trainer(callbacks=[{"class_path": f"{planted}.Mine"}]))


def test_naming_a_class_does_not_make_other_modules_trusted(planted):
    refusal(with_model(optimizer={"class_path": "other.Mine"}), f"{planted}.Mine")


def test_numbers_that_allocate_memory_have_limits():
    curve = {"class_path": "torchmetrics.classification.MulticlassAUROC", "init_args": {"thresholds": 10**9}}
    crop = {"class_path": "lightning_cnn.data.augment.RandomCrop", "init_args": {"padding": 50_000}}
    data = {"class_path": "lightning_cnn.data.MNISTDataModule", "init_args": {"augment": [crop]}}

    assert "has 1,000,000,000 for --model.metrics.thresholds" in refusal(with_model(metrics={"auroc": curve}))
    assert "has 50,000 for --data.augment" in refusal({"data": data})


@pytest.mark.parametrize("setting", ["network", "loss"])
def test_a_layer_is_neither_a_network_nor_a_loss(setting):
    layers = {"class_path": "torch.nn.Transformer", "init_args": {"num_encoder_layers": 10**9}}

    assert f"'torch.nn.Transformer' for --model.{setting}, which takes no such" in refusal(
        with_model(**{setting: layers})
    )
    assert trusted_settings(with_model(loss={"class_path": "torch.nn.MultiMarginLoss", "init_args": {}}), set())


# Files, hosts and paths


@pytest.mark.parametrize("text", ["m.yaml", "./m.yaml", "http://127.0.0.1/m.yaml", "simplecache::http://x", "file://m"])
def test_files_and_addresses_that_a_checkpoint_names_are_not_read(text):
    Path("m.yaml").write_text("class_path: torch.optim.SGD\n")

    assert "that a checkpoint names are not read" in refusal(with_model(optimizer=text))


@pytest.mark.parametrize("path", ["/etc/cron.d", "../elsewhere", "logs/../../x", "~/x"])
@pytest.mark.parametrize("key", ["dirpath", "save_dir", "anything"])
def test_paths_outside_the_folder_must_be_given_by_the_user(path, key):
    config = with_trainer(logger={"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {key: path}})

    assert refusal(config).endswith(f"if you trust it, add --trainer.logger.{key} {quote(path)}")
    assert trusted_settings(config, {path}) == config


# Invalid settings


def exponential() -> dict:
    value: object = "boom"
    for _ in range(40):
        value = [value] * 10
    return with_trainer(devices=value)


def cycle() -> dict:
    config = with_trainer()
    config["trainer"]["again"] = config
    return config


def deep() -> dict:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    return with_trainer(devices=value)


@pytest.mark.parametrize("config", [exponential(), cycle(), deep(), with_trainer(devices=list(range(100_000)))])
def test_too_many_or_too_deeply_nested_settings_are_refused(config):
    assert refusal(config).startswith("the checkpoint has too many settings, or too deeply nested ones")


def nested(value: object, levels: int) -> object:
    return nested([value], levels - 1) if levels else value


@pytest.mark.parametrize(
    ("largest", "larger"),
    [
        ([0] * 9_997, [0] * 9_998),  # 10,000 values with the list, the trainer and the config
        (nested(1, 28), nested(1, 29)),
        ("a" * 10_000, "a" * 10_001),
        (2**63 - 1, 2**63),
    ],
    ids=["values", "levels", "characters", "bits"],
)
def test_settings_are_read_up_to_the_limits(largest, larger):
    assert trusted_settings(with_trainer(devices=largest), set()) == with_trainer(devices=largest)
    refusal(with_trainer(devices=larger))


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(2),
        {1, 2},
        b"bytes",
        10**400,
        float("nan"),
        float("inf"),
        1j,
        torch.float32,
        "x" * 100_000,
        object(),
        "a\nb",
        "\x1b[31m",
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_not_plain_are_refused(value):
    assert "--trainer.max_epochs" in refusal(with_trainer(max_epochs=value))


@pytest.mark.parametrize("key", [1, None, "a.b", "__path__", "__class__", "a b", "", ("a",), "--config", "x\ny"])
def test_invalid_names_of_settings_are_refused(key):
    assert "below --trainer, which is not the name of a setting" in refusal(
        with_trainer(**{"max_epochs": 1}) | {"trainer": {key: 1}}
    )


@pytest.mark.parametrize(
    "key", ["config", "--config", "print_config", "overwrite", "test", "model.class_path", 1, None]
)
def test_unknown_settings_are_refused(key):
    assert "which is not a setting of a run" in refusal({key: "evil.yaml"})


@pytest.mark.parametrize("config", [None, [], "text", 3, [("model", MODEL)]])
def test_a_config_that_is_not_a_mapping_is_refused(config):
    assert "does not say what it was trained with" in refusal(config)


@pytest.mark.parametrize("path", [None, 3, [], {}, "", "a b", "os;system", "x" * 500, "CNN Classifier", "rm -rf\n"])
def test_invalid_class_paths_are_refused(path):
    assert "--model" in refusal({"model": {"class_path": path}})


texts = st.text(max_size=30) | st.sampled_from(
    ["os.system", "{class_path: os.system}", "/etc", "torch.optim.Adam", "..."]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | texts | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.just("class_path"), inner, max_size=4),
)


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(["model", "data", "trainer", "plots"]), values))
def test_any_config_is_trusted_or_refused_in_one_line(config):
    before = set(sys.modules)
    message = ""
    try:
        trusted_settings(config, set())
    except UserError as error:
        message = str(error)
    assert message.splitlines() in ([], [message])
    assert set(sys.modules) == before


# Networks, losses, metrics and transforms


def with_network(path: str, **init_args: object) -> dict:
    return with_model(network={"class_path": path, "init_args": init_args})


@pytest.mark.parametrize(
    "path", ["lightning_cnn.networks.CNN", "torchvision.models.resnet18", "torchvision.models.resnet.resnet18"]
)
def test_networks_of_known_packages_are_trusted(path):
    assert trusted_settings(with_network(path), set()) == with_network(path)


@pytest.mark.parametrize("name", ["weights", "weights_backbone", "pretrained"])
def test_a_checkpoint_does_not_load_other_weights(name):
    config = with_network("torchvision.models.resnet18", **{name: "DEFAULT"}, zero_init_residual=True)

    kept = trusted_settings(config, set())["model"]["init_args"]["network"]["init_args"]
    assert kept == {"zero_init_residual": True}
    assert trusted_settings(config, {"DEFAULT"}) == config  # the user's own


EXECUTED = {
    "setting": ["network", "loss", "metrics", "transform"],
    "path": [
        "os.system",
        "subprocess.call",
        "torch.hub.load",
        "torchvision.models.get_model",
        "torchvision.models.segmentation.fcn_resnet50",  # downloads weights by default
        "torchvision.models.detection.fasterrcnn_resnet50_fpn",
        "torchmetrics.text.BERTScore",  # downloads a model
        "torchmetrics.text.bert.BERTScore",
        "torchmetrics.functional.accuracy",
        "lightning_cnn.cli.main",
        "torch.nn.init.ones_",
        "mynet.<lambda>",
    ],
}


@pytest.mark.parametrize("setting", EXECUTED["setting"])
@pytest.mark.parametrize("path", EXECUTED["path"])
def test_what_does_something_else_is_not_trusted(setting, path):
    of_class = {"class_path": path, "init_args": {"weights": "DEFAULT"}}
    for value in (of_class, path):
        if setting == "transform":
            init_args = {
                "augment": {"class_path": "lightning_cnn.data.augment.Transform", "init_args": {"transform": value}}
            }
            config = {"data": {**DATA, "init_args": init_args}}
        else:
            config = with_model(**{setting: {"f1": value} if setting == "metrics" else value})
        if "<" in path and not isinstance(value, dict):
            assert trusted_settings(config, set()) == config  # no name: nothing is found by it
        else:
            refusal(config)


@pytest.mark.parametrize("setting", ["loss", "metrics", "transform"])
def test_only_networks_are_built_by_functions(setting):
    value = {"class_path": "torchvision.models.resnet18", "init_args": {"weights": "DEFAULT"}}
    init_args = {"augment": {"class_path": "lightning_cnn.data.augment.Transform", "init_args": {"transform": value}}}
    configs = {
        "transform": {"data": {**DATA, "init_args": init_args}},
        "metrics": with_model(metrics={"f1": value}),
        "loss": with_model(loss=value),
    }

    assert "takes no such class" in refusal(configs[setting])


def test_of_the_users_functions_only_the_named_one_is_trusted(planted):
    config = with_network(f"{planted}.function")

    assert trusted_settings(config, {f"{planted}.function"}) == config
    assert "is not imported" in refusal(config, f"{planted}.Mine")
    assert trusted_settings(with_network(f"{planted}.Other"), {f"{planted}.function"})  # classes of its module are


def test_the_module_of_a_network_is_not_imported(planted, tmp_path):
    for config in (with_network(f"{planted}.Mine"), with_model(loss=f"{planted}.Mine")):
        assert f"names the class '{planted}.Mine'" in refusal(config)
    assert not (tmp_path / "imported").exists()
    assert planted not in sys.modules


@pytest.mark.parametrize("setting", ["loss", "metrics"])
def test_losses_and_metrics_are_known(setting):
    value = {
        "loss": {"class_path": "lightning_cnn.classifiers.losses.FocalLoss", "init_args": {"gamma": 1.5}},
        "metrics": {"f1": {"class_path": "torchmetrics.classification.MulticlassF1Score"}},
    }[setting]

    assert trusted_settings(with_model(**{setting: value}), set()) == with_model(**{setting: value})
