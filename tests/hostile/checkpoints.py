"""Checkpoints whose settings, sizes, states or weights mean harm, in every command that reads them."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from chaos.common import saved
from hostile.common import OUTSIDE, Case
from PIL import Image

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import KEY

Content = dict[str, Any]
#: The commands that read a checkpoint. `fit` is to train for two more epochs of four steps.
COMMANDS = {
    "test": ("test", "c.ckpt"),
    "validate": ("validate", "--ckpt_path", "c.ckpt"),
    "fit": ("fit", "c.ckpt", "--trainer.max_epochs", "3"),
    "predict": ("predict", "c.ckpt", "image.png", "--output", "out.json"),
    "export": ("export", "c.ckpt", "--output", "out.safetensors"),
}
#: What a command writes if it works.
WRITES = {
    "test": ("test_*", "plots", "plots/*", "[0-9]*/**", "[0-9]*", "projector*"),
    "validate": (),
    "fit": ("logs", "logs/**/*", "lightning_logs/**/*", "lightning_logs"),
    "predict": ("out.json",),
    "export": ("out.safetensors", "out.safetensors.md"),
}
EVERY, BUILDS = " ".join(COMMANDS), "test validate fit predict"
RUNS = "test validate fit"
HUGE = 10**9


def cases(run: Path) -> Iterator[Case]:
    """Yield a case for each checkpoint and each command that reads it."""
    path = run / "checkpoints/last.ckpt"
    for name, (change, refusing) in CHANGES.items():
        for command, argv in COMMANDS.items():
            if command not in (*refusing.split(), "fit", "test"):
                continue  # it would do its work, as `test` does
            yield Case(
                f"{name}, {command}",
                argv,
                _writer(path, change),
                writes=WRITES[command],
                may_work=command not in refusing.split(),
            )


def _writer(path: Path, change: Callable[[Content], object]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        content = copy.deepcopy(checkpoints.read(path))
        change(content)
        (folder / "c.ckpt").write_bytes(saved(content))
        Image.linear_gradient("L").resize((28, 28)).save(folder / "image.png")

    return write


def _set(*keys: object, to: Any) -> Callable[[Content], None]:
    """Return a change of the value that the keys lead to."""

    def change(content: Content) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
        place[keys[-1]] = to

    return change


def _config(*keys: str, to: Any) -> Callable[[Content], None]:
    return _set(KEY, "config", *keys, to=to)


def _trainer(name: str, to: Any) -> Callable[[Content], None]:
    return _config("trainer", name, to=to)


def _data(name: str, to: Any) -> Callable[[Content], None]:
    return _config("data", "init_args", name, to=to)


def _model(name: str, to: Any) -> Callable[[Content], None]:
    """Return a change of an argument of the model, in the config and in the hyperparameters."""

    def change(content: Content) -> None:
        content["hyper_parameters"][name] = to
        _config("model", "init_args", name, to=to)(content)

    return change


def _network(path: str, **arguments: Any) -> Callable[[Content], None]:
    """Return a change of the model to another network."""

    def change(content: Content) -> None:
        content[KEY]["config"]["model"] = {
            "class_path": "lightning_cnn.classifiers.ImageClassifier",
            "init_args": {"network": {"class_path": path, "init_args": arguments}},
        }
        content["hyper_parameters"] = {"num_classes": 10, "in_channels": 1, "image_size": 28}
        content["state_dict"] = {name: content["state_dict"][name] for name in ("mean", "std")}

    return change


def _folder(**arguments: Any) -> Callable[[Content], None]:
    return _config("data", to={"class_path": "lightning_cnn.data.ImageFolderDataModule", "init_args": arguments})


def _weights(change: Callable[[torch.Tensor], torch.Tensor], *names: str) -> Callable[[Content], None]:
    """Return a change of the weights with these names, or of the first one."""

    def changed(content: Content) -> None:
        weights = content["state_dict"]
        for name in names or [next(name for name in weights if name.startswith("network."))]:
            weights[name] = change(weights[name])

    return changed


def _optimizer(*keys: object, to: Any) -> Callable[[Content], None]:
    return _set("optimizer_states", 0, *keys, to=to)


def _in_loops(key: str, to: Any) -> Callable[[Content], None]:
    """Return a change of all entries of this name in the state of the loops."""

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for name in value:
                if name == key:
                    value[name] = to
                else:
                    walk(value[name])
        elif isinstance(value, list):
            for item in value:
                walk(item)

    return lambda content: walk(content["loops"])


def _callback(path: str, **arguments: Any) -> Callable[[Content], None]:
    return _trainer("callbacks", [{"class_path": f"lightning.pytorch.callbacks.{path}", "init_args": arguments}])


def _nothing(content: Content) -> None:
    """Change nothing: all commands must work."""


#: Each change of a sound checkpoint, and the commands that must refuse it; others may do their work without it.
CHANGES: dict[str, tuple[Callable[[Content], object], str]] = {
    "sound": (_nothing, ""),
    # Processes
    "5 devices": (_trainer("devices", 5), ""),
    "1,000 devices": (_trainer("devices", 1000), ""),
    "a billion devices": (_trainer("devices", HUGE), ""),
    "a list of devices": (_trainer("devices", list(range(1000))), ""),
    "devices as text": (_trainer("devices", "100000"), ""),
    "2 nodes": (_trainer("num_nodes", 2), ""),
    "a billion nodes": (_trainer("num_nodes", HUGE), ""),
    "ddp with two devices": (lambda c: (_trainer("devices", 2)(c), _trainer("strategy", "ddp")(c)), ""),
    "ddp_spawn": (_trainer("strategy", "ddp_spawn"), ""),
    "fsdp": (_trainer("strategy", "fsdp"), ""),
    "another accelerator": (_trainer("accelerator", "tpu"), ""),
    "an environment of a cluster": (
        _trainer("plugins", [{"class_path": "lightning.pytorch.plugins.environments.TorchElasticEnvironment"}]),
        "",
    ),
    "threads": (_set(KEY, "threads", to=HUGE), ""),
    # Places
    "default_root_dir": (_trainer("default_root_dir", OUTSIDE), ""),
    "data_dir outside": (_data("data_dir", f"{OUTSIDE}/data"), ""),
    "data_dir at the root": (_data("data_dir", "/evil/data"), ""),
    "data_dir in the home": (_data("data_dir", "~/evil"), ""),
    "data_dir with an address": (_data("data_dir", "https://example.com/x"), ""),
    "root outside": (_folder(root=OUTSIDE), RUNS),
    "root of the machine": (_folder(root="/"), RUNS),
    "labels outside": (_folder(root=".", labels="/etc/passwd"), RUNS),
    "a logger outside": (
        _trainer("logger", {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": OUTSIDE}}),
        "",
    ),
    "a logger in the folder": (
        _trainer("logger", {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "evil"}}),
        "",
    ),
    "a profiler outside": (
        _trainer(
            "profiler",
            {"class_path": "lightning.pytorch.profilers.SimpleProfiler", "init_args": {"dirpath": OUTSIDE}},
        ),
        "",
    ),
    "checkpoints outside": (_callback("ModelCheckpoint", dirpath=OUTSIDE), "fit"),
    "a checkpoint's name outside": (_callback("ModelCheckpoint", filename=f"{OUTSIDE}/evil"), "fit"),
    "a callback's path outside": (_set("callbacks", "ModelCheckpoint", to={"kth_best_model_path": "a/../../b"}), EVERY),
    "ckpt_path": (_config("ckpt_path", to=f"{OUTSIDE}/other.ckpt"), ""),
    "config": (_config("config", to="/etc/passwd"), "fit"),
    # Sizes
    "eval_batch_size": (_data("eval_batch_size", HUGE), ""),
    "batch_size": (_data("batch_size", HUGE), "fit"),
    "global_batch_size": (_data("global_batch_size", HUGE), "fit"),
    "a negative batch_size": (_data("batch_size", -1), "fit"),
    "folds": (lambda c: (_data("folds", HUGE)(c), _data("fold", 0)(c)), "validate fit"),
    "val_size": (_data("val_size", HUGE), "validate fit"),
    "hidden units": (_model("hidden", HUGE), BUILDS),
    "channels": (_model("channels", 100_000), BUILDS),
    "negative channels": (_model("channels", -1), BUILDS),
    "classes": (_model("num_classes", 6_000_000), EVERY),
    "classes without names": (
        lambda c: (_model("num_classes", 6_000_000)(c), _set(KEY, "class_names", to=None)(c)),
        BUILDS,
    ),
    "classes of a network": (_network("lightning_cnn.networks.MLP", num_classes=6_000_000), BUILDS),
    "hidden units of a network": (_network("lightning_cnn.networks.MLP", hidden=HUGE), BUILDS),
    "a linear layer": (_network("torch.nn.Linear", in_features=100_000, out_features=1_000_000), BUILDS),
    "a convolution": (_network("torch.nn.Conv2d", in_channels=100_000, out_channels=100_000, kernel_size=99), BUILDS),
    "upsampling": (_network("torch.nn.Upsample", scale_factor=10_000), BUILDS),
    "pooling": (_network("torch.nn.AdaptiveAvgPool2d", output_size=100_000), BUILDS),
    "padding": (_network("torch.nn.ZeroPad2d", padding=HUGE), BUILDS),
    "identity": (_network("torch.nn.Identity"), BUILDS),
    "a transformer": (_network("torch.nn.Transformer", d_model=8192, num_encoder_layers=1000), BUILDS),
    "a million layers": (
        _network(
            "torchvision.models.VisionTransformer",
            **{"image_size": 28, "patch_size": 7, "num_layers": 10**6, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8},
        ),
        BUILDS,
    ),
    "a loss that is a network": (
        _config(
            *("model", "init_args", "loss"),
            to={"class_path": "torch.nn.Transformer", "init_args": {"num_encoder_layers": HUGE}},
        ),
        RUNS,
    ),
    "a large torchvision network": (_network("torchvision.models.vit_h_14"), BUILDS),
    "a network of torchvision with sizes": (_network("torchvision.models.resnet18", width_per_group=10**6), BUILDS),
    "images": (_model("image_size", HUGE), "predict"),
    "images of 4096 pixels": (_model("image_size", 4096), BUILDS),
    "negative images": (_model("image_size", -28), BUILDS),
    "channels of images": (_model("in_channels", 10**7), BUILDS),
    "images of a folder": (_folder(root=".", image_size=HUGE), RUNS),
    "metrics with many thresholds": (
        _config(
            *("model", "init_args", "metrics"),
            to={"x": {"class_path": "torchmetrics.classification.MulticlassAUROC", "init_args": {"thresholds": HUGE}}},
        ),
        RUNS,
    ),
    "a loss with weights": (
        _config(
            *("model", "init_args", "loss"),
            to={
                "class_path": "torch.nn.AdaptiveLogSoftmaxWithLoss",
                "init_args": {"in_features": 10**6, "n_classes": 10**6, "cutoffs": [10]},
            },
        ),
        RUNS,
    ),
    "padding of an augmentation": (
        _data("augment", {"class_path": "lightning_cnn.data.augment.RandomCrop", "init_args": {"padding": 50_000}}),
        RUNS,
    ),
    "resizing of an augmentation": (
        _data(
            "augment",
            {
                "class_path": "lightning_cnn.data.augment.Transform",
                "init_args": {
                    "transform": {
                        "class_path": "torchvision.transforms.v2.Resize",
                        "init_args": {"size": [60_000, 60_000]},
                    }
                },
            },
        ),
        RUNS,
    ),
    "test images of plots": (_config("plots", "test_images", to=HUGE), ""),
    "10,000 settings": (_trainer("callbacks", ["EarlyStopping"] * 20_000), "fit"),
    "max_epochs": (_trainer("max_epochs", -7), ""),
    # Weights and statistics
    "NaN in weights": (_weights(lambda w: w * float("nan")), EVERY),
    "one infinite weight": (_weights(lambda w: w.index_fill(0, torch.tensor([0]), float("inf"))), EVERY),
    "huge weights": (_weights(lambda w: w * 0 + 1e38), "test validate predict"),
    "std of 0": (_weights(lambda w: w * 0, "std"), EVERY),
    "std below 0": (_weights(lambda w: w * 0 - 1, "std"), EVERY),
    "NaN in std": (_weights(lambda w: w * float("nan"), "std"), EVERY),
    "tiny std": (_weights(lambda w: w * 0 + 1e-38, "std"), EVERY),
    "mean of 10^30": (_weights(lambda w: w * 0 + 1e30, "mean"), EVERY),
    "infinite mean": (_weights(lambda w: w + float("inf"), "mean"), EVERY),
    "std of 0 among settings": (_model("std", 0.0), BUILDS),
    "mean of 10^30 among settings": (_model("mean", 1e30), BUILDS),
    "std of 0 in the description": (_set(KEY, "preprocessing", "std", to=0.0), EVERY),
    "a mean with 10^7 channels": (_weights(lambda w: torch.zeros(10**7, 1, 1), "mean"), BUILDS),
    "weights of integers": (_weights(lambda w: w.long()), BUILDS),
    "weights of complex numbers": (_weights(lambda w: w.to(torch.complex64)), BUILDS),
    "weights of another shape": (_weights(lambda w: w[:1]), BUILDS),
    "no weights": (_set("state_dict", to={}), BUILDS),
    "other weights": (_set("state_dict", "x" * 100_000, to=torch.zeros(1)), BUILDS),
    # Names and framing
    "ten equal class names": (_set(KEY, "class_names", to=["a"] * 10), EVERY),
    "three class names": (_set(KEY, "class_names", to=["a", "b", "c"]), EVERY),
    "a million class names": (_set(KEY, "class_names", to=[str(i) for i in range(100_000)]), EVERY),
    "no class names": (_set(KEY, "class_names", to=[]), EVERY),
    "empty class names": (_set(KEY, "class_names", to=["", *"123456789"]), EVERY),
    "class names of control characters": (_set(KEY, "class_names", to=["\x1b[31m", *"123456789"]), EVERY),
    "long class names": (_set(KEY, "class_names", to=["x" * 10_000, *"123456789"]), EVERY),
    "class names of formulas": (_set(KEY, "class_names", to=['=HYPERLINK("http://x")', *"123456789"]), ""),
    "framing of side 10^9": (_set(KEY, "framing", to={"side": HUGE, "by_mass": True}), EVERY),
    "framing of side 100": (_set(KEY, "framing", to={"side": 100, "by_mass": True}), "predict"),
    "framing of text": (_set(KEY, "framing", to={"side": "20", "by_mass": "no"}), "predict"),
    "framing of another kind": (_set(KEY, "framing", to={"evil": 1}), "predict"),
    "framing to 10^9 pixels": (_set(KEY, "framing", to={"size": [HUGE, HUGE], "mode": "pad", "channels": 1}), EVERY),
    "framing to 4,096 pixels": (
        _set(KEY, "framing", to={"size": [4096, 4096], "mode": "pad", "channels": 1}),
        "predict",
    ),
    "framing of many values": (_set(KEY, "framing", to={"side": list(range(1000))}), EVERY),
    # Progress and training state
    "a negative epoch": (_set("epoch", to=-1), EVERY),
    "an epoch of text": (_set("epoch", to="1"), EVERY),
    "an epoch of 10^30": (_set("epoch", to=10**30), EVERY),
    "an epoch of a fraction": (_set("epoch", to=0.5), EVERY),
    "a huge step": (_set("global_step", to=2**61), ""),
    "a step of true": (_set("global_step", to=True), EVERY),
    "metrics of 10^400": (_set(KEY, "metrics", "val/acc", to=10**400), EVERY),
    "NaN among metrics": (_set(KEY, "metrics", "val/acc", to=float("nan")), ""),
    "no loops": (_set("loops", to={}), "fit"),
    "loops of text": (_set("loops", to="evil"), EVERY),
    "loops without their parts": (_set("loops", "fit_loop", to={"state_dict": {}}), ""),
    "completed steps of text": (_in_loops("completed", "evil"), "fit"),
    "completed steps of 10^18": (_in_loops("completed", 10**18), ""),
    "negative completed steps": (_in_loops("completed", -5), ""),
    "a position of the loader of text": (_in_loops("images", "evil"), "fit"),
    "a negative seed of the loader": (_in_loops("seed", -1), "fit"),
    "no random state": (_in_loops("ranks", []), ""),
    "a number of random states": (_in_loops("ranks", 5), EVERY),
    "random states of text": (_in_loops("ranks", ["evil"]), "fit"),
    "random states of other tensors": (_in_loops("ranks", [{"torch": torch.zeros(3)}]), "fit"),
    "no optimizer": (_set("optimizer_states", to=[]), "fit"),
    "an optimizer of text": (_optimizer("state", to="evil"), "fit"),
    "an optimizer without groups": (_optimizer("param_groups", to=[]), "fit"),
    "a learning rate of text": (_optimizer("param_groups", 0, "lr", to="evil"), "fit"),
    "a learning rate of NaN": (_optimizer("param_groups", 0, "lr", to=float("nan")), "fit"),
    "state of other shapes": (_optimizer("state", 0, to={"step": torch.zeros(1), "exp_avg": torch.zeros(3)}), "fit"),
    "a schedule of text": (_set("lr_schedulers", to=[{"step": "evil", "last_epoch": "x"}]), "fit"),
    "a schedule that replaces methods": (_set("lr_schedulers", 0, "get_lr", to=5), ""),
    "callbacks of text": (_set("callbacks", to={"Checkpoints": "evil", "EarlyStopping": 5}), ""),
    "hyperparameters of text": (_set("hyper_parameters", to="evil"), EVERY),
    # Classes
    "a class of the system": (_config("model", "class_path", to="os.system"), BUILDS),
    "a model that is data": (_config("model", "class_path", to="lightning_cnn.data.MNISTDataModule"), BUILDS),
    "no model": (_config("model", to=None), BUILDS),
    "arguments of a model in a list": (_config("model", "init_args", to=[1]), EVERY),
    "arguments of data of text": (_config("data", "init_args", to="evil"), EVERY),
    "arguments of a network of text": (_config("model", "init_args", "network", "init_args", to="evil"), ""),
    "data of the folder": (_config("data", "class_path", to="evil.Data"), RUNS),
    "an optimizer of the system": (
        _config("model", "init_args", "optimizer", to={"class_path": "subprocess.Popen", "init_args": {"args": "id"}}),
        "fit",
    ),
    "text that is YAML": (_trainer("precision", "{class_path: os.system}"), RUNS),
    "a later format": (_set(KEY, "format", to=99), EVERY),
    "an unknown setting": (_trainer("evil", 1), ""),
}
