import math
import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from chaos.common import differences, saved
from chaos.damaged_checkpoints import FORMATS, content

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import read, read_description, read_progress, require_same_shapes
from lightning_cnn.errors import UserError


def test_read_returns_the_weights_and_the_description(fit):
    path = fit("mnist/cnn.yaml") / "checkpoints" / "best.ckpt"

    content = read(path)

    assert content[checkpoints.KEY] == read_description(path)
    assert content["state_dict"].keys() == torch.load(path, weights_only=True)["state_dict"].keys()
    assert content[checkpoints.KEY]["framing"] == {"side": 20, "by_mass": True}


@pytest.mark.parametrize("first", [("epoch", "global_step"), ("global_step", "epoch"), ("state_dict",)])
def test_the_progress_is_found_wherever_it_is(tmp_path, valid, first):
    valid |= {"epoch": 300, "global_step": 70_000}
    path = tmp_path / "a.ckpt"
    torch.save({name: valid[name] for name in dict.fromkeys((*first, *valid))}, path)

    assert read_progress(path) == (300, 70_000)

    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"a\.ckpt cannot be read as a checkpoint: "):
        read_progress(path)


# Files that are not checkpoints


def test_text_is_refused(tmp_path):
    (tmp_path / "a.ckpt").write_text("hello")

    with pytest.raises(UserError, match=r"a\.ckpt cannot be read as a checkpoint"):
        read_description(tmp_path / "a.ckpt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.zeros(2), {checkpoints.KEY: "hello"}])
def test_checkpoints_of_other_programs_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.ckpt")

    with pytest.raises(UserError, match=r"a\.ckpt cannot be read as a checkpoint: it was not written by lightning-cnn"):
        read_description(tmp_path / "a.ckpt")


@pytest.fixture
def valid() -> dict:
    return content(seed=0)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read(tmp_path, valid, suffix):
    (tmp_path / f"a{suffix}").write_bytes(FORMATS[suffix](valid))

    found = read(tmp_path / f"a{suffix}")

    assert found[checkpoints.KEY] == valid[checkpoints.KEY]
    assert found["hyper_parameters"] == valid["hyper_parameters"]
    assert {name: found[name] for name in ("epoch", "global_step", "pytorch-lightning_version")} == {
        "epoch": 0,
        "global_step": 1,
        "pytorch-lightning_version": "2.6.6",
    }
    assert found["state_dict"].keys() == valid["state_dict"].keys()
    weights = {name: valid["state_dict"][name] for name in found["state_dict"]}
    assert not [*differences(found["state_dict"], weights)]


FOREIGN = {
    "empty": b"",
    "HTML": b"<!DOCTYPE html><html></html>",
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "a legacy pickle": pickle.dumps({"state_dict": {}}),
    "an empty archive": b"PK\5\6" + bytes(18),
    "the beginning of an archive": b"PK\3\4",
    "the beginning of safetensors": b"\xff\0\0\0\0\0\0\0{",
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_other_files_are_refused(tmp_path, data):
    (tmp_path / "a.ckpt").write_bytes(data)

    line = refusal(tmp_path / "a.ckpt")

    assert line.startswith(f"{tmp_path}/a.ckpt cannot be read as a checkpoint: ")
    assert line.endswith("; give one that `fit` wrote")


@pytest.mark.timeout(20)
def test_folders_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        assert refusal(path) == f"{path} is not a regular file; give a checkpoint that `fit` wrote"


def test_a_file_larger_than_the_limit_is_not_read(tmp_path):
    with (tmp_path / "a.ckpt").open("wb") as file:
        file.truncate(2**33)

    assert "a.ckpt is too large for a checkpoint (8,589,934,592 bytes)" in refusal(tmp_path / "a.ckpt")


def test_a_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "a.ckpt") == f"checkpoint {tmp_path}/a.ckpt cannot be read (no such file or directory)"


def test_safetensors_of_other_programs_are_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(safetensors.torch.save({"a": torch.zeros(2)}))

    assert "a.safetensors cannot be read as a checkpoint: it was not written by lightning-cnn" in refusal(
        tmp_path / "a.safetensors"
    )


@pytest.mark.parametrize("dump", FORMATS.values(), ids=FORMATS)
def test_a_newer_format_is_refused(tmp_path, valid, dump):
    valid[checkpoints.KEY] |= {"format": checkpoints.FORMAT + 1, "versions": {"lightning-cnn": "7.0"}, "config": "?"}
    (tmp_path / "a.ckpt").write_bytes(dump(valid))

    assert refusal(tmp_path / "a.ckpt") == (
        f"{tmp_path}/a.ckpt cannot be read as a checkpoint: it needs a newer lightning-cnn (upgrade to read it); "
        "give one that `fit` wrote"
    )


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"state_dict": None}, "its state_dict is missing or invalid"),
        ({"state_dict": [torch.zeros(1)]}, "its state_dict is missing or invalid"),
        ({"state_dict": {"a": 1.0}}, "its state_dict is missing or invalid"),
        ({"state_dict": {1: torch.zeros(1)}}, "its state_dict is missing or invalid"),
        ({"hyper_parameters": [1]}, "its hyper_parameters is missing or invalid"),
        ({"pytorch-lightning_version": None}, "its pytorch-lightning_version is missing or invalid"),
        ({"pytorch-lightning_version": "0.1.0"}, "its pytorch-lightning_version is missing or invalid"),
        ({"epoch": -1}, "its epoch is missing or invalid"),
        ({"global_step": 2**2000}, "its global_step is missing or invalid"),
        ({"epoch": 2**62}, "its epoch is missing or invalid"),
        ({"global_step": True}, "its global_step is missing or invalid"),
        ({"loops": 5}, "its loops is missing or invalid"),
        ({"callbacks": [1]}, "its callbacks is missing or invalid"),
        ({"callbacks": {"a": [{"kth_best_model_path": "b/../../c"}]}}, "its callbacks is missing or invalid"),
        ({"optimizer_states": [1]}, "its optimizer_states is missing or invalid"),
        ({"lr_schedulers": "a"}, "its lr_schedulers is missing or invalid"),
        ({checkpoints.KEY: {"config": {"model": "\ud800"}}}, "it has invalid Unicode text"),
        ({"more": torch.zeros(1).expand(2**50)}, "it has a tensor with more elements than its storage"),
        ({"more": torch.zeros(2, 2).to_sparse()}, "its pickle has GLOBAL 'torch._utils _rebuild_sparse_tensor', which"),
        ({"more": torch.zeros(2, device="meta")}, "its pickle has GLOBAL 'torch._utils _rebuild_meta_tensor"),
        ({"more": Path("a")}, "its pickle has GLOBAL 'pathlib"),
    ],
)
def test_content_of_wrong_types_is_refused(tmp_path, valid, entries, reason):
    (tmp_path / "a.ckpt").write_bytes(saved(valid | entries))

    assert f"a.ckpt cannot be read as a checkpoint: {reason}" in refusal(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("network.features.0.weight", math.nan, "its weights are NaN or infinite ('network.features.0.weight')"),
        ("network.features.0.weight", -math.inf, "its weights are NaN or infinite ('network.features.0.weight')"),
        ("std", 0.0, "it normalises images with mean [0.0] and std [0.0], with which nothing can be predicted"),
        ("std", -1.0, "it normalises images with mean [0.0] and std [-1.0], with"),
        ("std", math.nan, "it normalises images with mean [0.0] and std [nan], with"),
        ("mean", 1e30, "it normalises images with mean [1.0"),
    ],
)
def test_weights_with_which_nothing_can_be_predicted_are_refused(tmp_path, valid, name, value, reason):
    valid["state_dict"][name] = torch.full_like(valid["state_dict"][name], value)
    (tmp_path / "a.ckpt").write_bytes(saved(valid))

    assert f"a.ckpt cannot be read as a checkpoint: {reason}" in refusal(tmp_path / "a.ckpt")


def test_class_names_must_be_those_of_the_outputs(tmp_path, valid):
    valid["hyper_parameters"]["num_classes"] = 6_000_000
    (tmp_path / "a.ckpt").write_bytes(saved(valid))

    assert "it has 10 class names, but its model has 6,000,000 classes" in refusal(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"format": "1"}, "format"),
        ({"format": True}, "format"),
        ({"config": 5}, "config"),
        ({"config": {"model": "CNNClassifier"}}, "config"),
        ({"config": {"trainer": [1]}}, "config"),
        ({"class_names": "0123456789"}, "class_names"),
        ({"class_names": [0, 1]}, "class_names"),
        ({"class_names": ["a\x1b[2J"]}, "class_names"),
        ({"class_names": ["a" * 201]}, "class_names"),
        ({"class_names": []}, "class_names"),
        ({"class_names": ["a"] * 10}, "class_names"),
        ({"class_names": ["", *"123456789"]}, "class_names"),
        ({"framing": 28}, "framing"),
        ({"framing": {}}, "framing"),
        ({"framing": {"side": 10**9}}, "framing"),
        ({"framing": {"side": [20] * 100}}, "framing"),
        ({"framing": {"side": {"a": 20}}}, "framing"),
        ({"metrics": {"val/acc": 10**400}}, "metrics"),
        ({"metrics": {"val/acc": "high"}}, "metrics"),
        ({"metrics": {"val/acc\n": 0.5}}, "metrics"),
        ({"preprocessing": [0.5, 0.5]}, "preprocessing"),
        ({"preprocessing": {"mean\n": 0.5}}, "preprocessing"),
        ({"preprocessing": {"mean": 0.5, "std": 0.0}}, "preprocessing"),
        ({"preprocessing": {"mean": 0.5, "std": [1.0, -1.0]}}, "preprocessing"),
        ({"preprocessing": {"mean": float("nan"), "std": 1.0}}, "preprocessing"),
        *(({"threads": threads}, "threads") for threads in (0, -1, 2.0, "2", None, True)),
        ({"versions": {"torch": 2}}, "versions"),
        ({"versions": {"torch": "2\n"}}, "versions"),
        ({"versions": {"torch\n": "2"}}, "versions"),
    ],
)
def test_a_description_of_wrong_types_is_refused(tmp_path, valid, entries, named):
    valid[checkpoints.KEY] |= entries
    (tmp_path / "a.ckpt").write_bytes(saved(valid))

    assert f"a.ckpt cannot be read as a checkpoint: its lightning_cnn.{named} is missing" in refusal(
        tmp_path / "a.ckpt"
    )


def test_every_entry_of_a_description_is_required(tmp_path, valid):
    valid[checkpoints.KEY] = {"format": checkpoints.FORMAT}
    (tmp_path / "a.ckpt").write_bytes(saved(valid))

    names = ("config", "class_names", "framing", "metrics", "preprocessing", "versions")
    listed = " and ".join(f"lightning_cnn.{name}" for name in names)
    assert f": its {listed} are missing or invalid; give" in refusal(tmp_path / "a.ckpt")


def test_class_names_and_framing_may_be_none(tmp_path, valid):
    valid[checkpoints.KEY] |= {"class_names": None, "framing": None}
    (tmp_path / "a.ckpt").write_bytes(saved(valid))

    assert read_description(tmp_path / "a.ckpt") == valid[checkpoints.KEY]


def test_the_longest_names_and_numbers_are_read(tmp_path, valid):
    valid["global_step"] = 2**62 - 1
    valid[checkpoints.KEY]["class_names"] = ["a" * 200, *"123456789"]
    (tmp_path / "a.ckpt").write_bytes(saved(valid))

    assert read(tmp_path / "a.ckpt")["global_step"] == 2**62 - 1


def test_a_description_that_expands_to_too_many_values_is_refused(tmp_path, valid):
    shared = ["x" * 1_000]
    for _ in range(12):
        shared = [shared, shared]
    valid[checkpoints.KEY]["config"]["more"] = shared
    (tmp_path / "a.ckpt").write_bytes(saved(valid))

    assert "it has too many values, or too many levels of nesting" in refusal(tmp_path / "a.ckpt")


def test_a_description_that_contains_itself_is_refused(tmp_path, valid):
    valid[checkpoints.KEY]["config"]["model"]["config"] = valid[checkpoints.KEY]["config"]
    (tmp_path / "a.ckpt").write_bytes(saved(valid))

    assert "it has too many values, or too many levels of nesting" in refusal(tmp_path / "a.ckpt")


def test_the_message_about_a_damaged_last_checkpoint_names_the_previous_one(tmp_path, valid):
    (tmp_path / "last.ckpt").write_bytes(saved(valid)[:-100])
    assert refusal(tmp_path / "last.ckpt").endswith("; give one that `fit` wrote")

    (tmp_path / "previous.ckpt").write_bytes(saved(valid))

    assert refusal(tmp_path / "last.ckpt").endswith(f"; the one before it is --ckpt_path {tmp_path}/previous.ckpt")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_not_run(tmp_path, save):
    save({checkpoints.KEY: Malicious(str(tmp_path / "hacked"))}, tmp_path / "a.ckpt")

    with pytest.raises(UserError, match=r"a\.ckpt cannot be read as a checkpoint"):
        read_description(tmp_path / "a.ckpt")

    assert not (tmp_path / "hacked").exists()


# Shapes and types of weights


def test_weights_of_the_same_shapes_fit():
    require_same_shapes({"a": torch.zeros(2, 3)}, {"a": torch.ones(2, 3)})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a": torch.zeros(3, 2)}, r"\(2, 3\) for a, the checkpoint \(3, 2\)"),
        ({}, r"\(2, 3\) for a, the checkpoint none"),
        ({"a": torch.zeros(2, 3), "b": torch.zeros(1)}, r"none for b, the checkpoint \(1,\)"),
    ],
)
def test_mismatched_weights_are_named(found, message):
    with pytest.raises(UserError, match=message):
        require_same_shapes({"a": torch.zeros(2, 3)}, found)


@pytest.mark.parametrize(("dtype", "kind"), [("int64", "integer"), ("complex64", "complex"), ("bool", "integer")])
def test_integer_and_complex_weights_do_not_fit(dtype, kind):
    with pytest.raises(UserError, match=rf"the model has \(2,\) for a, the checkpoint \(2,\) {kind}; leave"):
        require_same_shapes({"a": torch.zeros(2)}, {"a": torch.zeros(2, dtype=getattr(torch, dtype))})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_another_precision_fit(dtype):
    require_same_shapes({"a": torch.zeros(2)}, {"a": torch.zeros(2, dtype=dtype)})
