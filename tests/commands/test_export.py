import json
import re
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from chaos.common import write_photos
from checkout import ROOT
from PIL import Image

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import networks
from lightning_cnn.checkpoint import safetensors as shared
from lightning_cnn.data import FashionMNISTDataModule
from lightning_cnn.errors import install_extra
from lightning_cnn.export import program as export_program
from lightning_cnn.export import programs
from lightning_cnn.files import sha256
from lightning_cnn.predict.model import open_model
from lightning_cnn.serve import web

pytestmark = pytest.mark.usefixtures("quick_exports")


@pytest.fixture
def image() -> str:
    Image.linear_gradient("L").resize((28, 28)).save("image.png")
    return "image.png"


def test_an_exported_model_gives_the_same_predictions_and_metrics(run, image, tiny_data, cli):
    assert cli("export", run, "--output", "shared.safetensors").out == (
        "Compared: all weights equal to the bit\nWritten: shared.safetensors, shared.safetensors.md\n"
    )

    predicted = [cli("predict", file, image) for file in (run / "checkpoints/best.ckpt", "shared.safetensors")]
    assert predicted[0].status == 0
    assert predicted[0].out == predicted[1].out
    assert cli("test", "--ckpt_path", run).status == 0
    outcome = cli("test", "--ckpt_path", "shared.safetensors")
    assert outcome.status == 0, outcome.err
    assert Path("test_predictions.csv").read_text() == (run / "test_predictions.csv").read_text()
    metrics = [json.loads((folder / "test_metrics.json").read_text()) for folder in (run, Path())]
    assert metrics[0]["test/acc"] == metrics[1]["test/acc"]
    validated = [cli("validate", "--ckpt_path", file) for file in (run, "shared.safetensors")]
    assert validated[0].status == 0
    assert validated[0].out == validated[1].out


def test_preprocessing_is_exported_with_the_weights(run, cli):
    assert cli("export", run).status == 0

    best = run / "checkpoints" / "best.ckpt"
    written, found = (checkpoints.read(path) for path in (best, best.with_suffix(".safetensors")))
    assert {"mean", "std"} < found["state_dict"].keys()
    assert all(torch.equal(found["state_dict"][name], weight) for name, weight in written["state_dict"].items())
    assert found[checkpoints.KEY] == written[checkpoints.KEY]


def test_training_cannot_be_resumed_from_an_exported_model(run, cli):
    cli("export", run, "--output", "shared.safetensors")

    outcome = cli("fit", "--ckpt_path", "shared.safetensors")

    assert outcome.status == 2
    assert "shared.safetensors" in outcome.err.splitlines()[-1]


def test_an_existing_file_is_replaced_only_with_overwrite(run, cli):
    Path("a.safetensors").write_text("mine")

    outcome = cli("export", run, "--output", "a.safetensors")

    assert outcome.status == 2
    assert outcome.err == (
        "lightning-cnn: error: --output a.safetensors exists; add --overwrite to replace it, or name another\n"
    )
    assert Path("a.safetensors").read_text() == "mine"
    assert cli("export", run, "--output", "a.safetensors", "--overwrite", "false").status == 2
    assert cli("export", "--overwrite", run, "--output", "a.safetensors").status == 0
    assert cli("export", "--ckpt_path", run, "--output", "a.safetensors", "--overwrite", "true").status == 0
    assert checkpoints.read(Path("a.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: CHECKPOINT"),
        (["a", "--ckpt_path", "b"], "the checkpoint is given twice, as a and as --ckpt_path b; give it once"),
        (["nowhere.ckpt"], "checkpoint nowhere.ckpt does not exist"),
        (["best"], "no matching run has a checkpoint best.ckpt"),
        (
            ["text.ckpt"],
            "cannot be read as a checkpoint: it is neither an archive of `torch.save` nor a safetensors or ONNX file",
        ),
        (["text.ckpt", "--output", "a.bin"], "--output a.bin: the name must end in .safetensors, .onnx, .pt2, .pth"),
        (["text.ckpt", "--output", "a.pth", "--format", "onnx"], "--output a.pth: the name must end in .onnx"),
        (["text.ckpt", "--format", "onxx"], "did you mean 'onnx'?"),
        (["text.ckpt", "--quantize", "int8"], "--quantize int8 is for --format onnx or web, not safetensors"),
        (["text.ckpt", "--quantize", "int4"], "'int4' is not a value of --quantize (choose from int8)"),
        (["text.ckpt", "--max_accuracy_drop", "1"], "--max_accuracy_drop is for --quantize int8; add that, or leave"),
        (["text.ckpt", "--max_accuracy_drop", "-1"], "must be a number from 0 to 100, got '-1'"),
        (["text.ckpt", "--data.root", "a"], "--data.root is for --format onnx, torch_export, web"),
        (["text.ckpt", "--output", "no/a.safetensors"], "--output no/a.safetensors cannot be written"),
        (
            ["text.ckpt", "--overwrit"],
            "--max_accuracy_drop, --model); did you mean '--overwrite'?",
        ),
    ],
)
def test_wrong_arguments_are_named(cli, arguments, message):
    Path("text.ckpt").write_text("hello")

    outcome = cli("export", *arguments)

    assert outcome.status == 2
    assert message in outcome.err and outcome.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["text.ckpt"]


def test_hyperparameters_that_are_not_plain_cannot_be_exported(run, cli):
    last = run / "checkpoints" / "last.ckpt"
    content = checkpoints.read(last)
    torch.save(content | {"hyper_parameters": {"weights": torch.ones(2)}}, "a.ckpt")

    outcome = cli("export", "a.ckpt")

    assert outcome.status == 2
    assert "a.ckpt cannot be exported: hyperparameters of its model are not plain values" in outcome.err
    assert not Path("a").with_suffix(shared.SUFFIX).exists()


PROGRAMS = {"onnx": ".onnx", "torch_export": ".pt2"}


def test_an_onnx_file_is_compared_on_all_test_images_and_says_so(exported, run, tiny_data):
    found = json.loads(onnx.load(exported).metadata_props[0].value)

    agreement = found["agreement"]
    assert (agreement["dataset"], agreement["part"]) == ("Fashion-MNIST", "test")
    assert agreement["images"] == agreement["equal_classes"] == 100
    assert agreement["largest_difference"] < 1e-5
    assert agreement["accuracy"] == agreement["checkpoint_accuracy"] > 0.5
    assert found["class_names"][0] == "T-shirt/top"
    assert (found["image_shape"], found["parameters"]) == ([1, 28, 28], 669_706)
    assert found["framing"] == {"side": 28, "by_mass": False}
    assert found["checkpoint_sha256"] == sha256(run / "checkpoints" / "best.ckpt")
    assert found["config"]["data"]["class_path"] == "lightning_cnn.data.FashionMNISTDataModule"
    text = json.dumps(found)
    assert str(tiny_data) not in text and "default_root_dir" not in text


def test_an_onnx_file_predicts_like_its_checkpoint(exported, run, image, cli):
    predicted = [cli("predict", file, image, "--output", "-") for file in (run, exported)]

    assert predicted[0].status == predicted[1].status == 0
    assert predicted[0].out == predicted[1].out


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_is_written_beside_the_checkpoint(kind, run, cli, tiny_data):
    outcome = cli("export", run, "--format", kind)

    assert outcome.status == 0, outcome.err
    path = (run / "checkpoints/best.ckpt").with_suffix(PROGRAMS[kind])
    compared, written = outcome.out.splitlines()[:2]
    assert compared.startswith("Compared: 100 of 100 predicted classes equal, largest difference of a probability ")
    assert compared.endswith(" (test images of Fashion-MNIST)")
    assert written == f"Written: {path}, {path}.md"
    assert path.is_file()
    card = Path(f"{path}.md").read_text()
    assert card.startswith("# MLP on Fashion-MNIST\n") and "100 of 100 predicted classes equal" in card


def test_torch_alone_computes_a_torch_export_file(run, cli, tiny_data):
    assert cli("export", run, "--output", "a.pt2").status == 0

    extra = {"lightning_cnn": ""}
    program = torch.export.load("a.pt2", extra_files=extra).module()
    logits, probabilities = program(torch.zeros(3, 1, 28, 28, dtype=torch.uint8))
    assert logits.shape == probabilities.shape == (3, 10)
    assert json.loads(extra["lightning_cnn"])["class_names"][0] == "T-shirt/top"
    with zipfile.ZipFile("a.pt2") as archive:
        assert not any(str(ROOT).encode() in archive.read(name) for name in archive.namelist())
    refused = cli("test", "a.pt2")
    assert (
        refused.status == 2 and "it is a program of `torch.export`, which only `torch.export.load` reads" in refused.err
    )


def test_a_state_dict_has_the_weights_of_the_network_alone(run, cli):
    assert cli("export", run, "--output", "a.pth").out.startswith("Compared: all weights equal to the bit\n")
    refused = cli("test", "a.pth")
    assert refused.status == 2 and "it has weights alone, and nothing says of which network" in refused.err

    network = networks.MLP()
    network.load_state_dict(torch.load("a.pth", weights_only=True))


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_that_predicts_something_else_is_not_kept(kind, run, cli, tiny_data, monkeypatch):
    traced = export_program.Program.forward
    monkeypatch.setattr(export_program.Program, "forward", lambda self, images: traced(self, images.roll(1, dims=3)))
    monkeypatch.setattr(
        programs, "Program", lambda classifier: lambda images: (classifier(images), classifier.predict_step(images))
    )

    outcome = cli("export", run, "--format", kind, "--output", f"a{PROGRAMS[kind]}")

    assert outcome.status == 1
    assert "best.ckpt cannot be exported: the file would not predict what the checkpoint does: " in outcome.err
    assert outcome.err.count("lightning-cnn: error") == 1
    assert [path.name for path in Path().iterdir()] == ["logs"]


def test_8_bit_integers_take_a_quarter_of_the_size(run, exported, cli, image):
    outcome = cli("export", run, "--output", "small.onnx", "--quantize", "int8", "--max_accuracy_drop", "10")

    assert outcome.status == 0, outcome.err
    assert "Quantized: validation accuracy " in outcome.out and "(50 images)" in outcome.out
    assert (
        "Accuracy: " in outcome.out and "% of the test images of Fashion-MNIST, that of the checkpoint" in outcome.out
    )
    assert Path("small.onnx").stat().st_size < 0.35 * exported.stat().st_size
    assert str(ROOT).encode() not in Path("small.onnx").read_bytes()
    assert "Weights and activations are 8-bit integers" in Path("small.onnx.md").read_text()
    assert cli("predict", "small.onnx", image).status == 0


def test_8_bit_integers_that_cost_too_much_are_not_kept(run, cli, tiny_data, monkeypatch):
    def quantized(model, images):
        made = onnx.load_from_string(model)
        (bias,) = [weight for weight in made.graph.initializer if tuple(weight.dims) == (10,)]
        bias.raw_data = np.array([1e3] + [0] * 9, np.float32).tobytes()
        return made.SerializeToString()

    monkeypatch.setattr(programs, "quantized", quantized)

    outcome = cli("export", run, "--output", "small.onnx", "--quantize", "int8")

    assert outcome.status == 1
    assert "percentage points of accuracy, more than --max_accuracy_drop 0.3: validation accuracy" in outcome.err
    assert [path.name for path in Path().iterdir()] == ["logs"]


def test_a_model_card_is_replaced_only_with_overwrite(run, cli):
    Path("a.pth.md").write_text("mine")

    assert "--output a.pth.md exists; add --overwrite" in cli("export", run, "--output", "a.pth").err
    assert not Path("a.pth").exists() and Path("a.pth.md").read_text() == "mine"
    assert cli("export", run, "--output", "a.pth", "--overwrite").status == 0
    assert Path("a.pth.md").read_text().startswith("# MLP on FashionMNIST\n")


def test_other_data_are_chosen_as_for_test(run, cli, tiny_data, monkeypatch):
    monkeypatch.setenv("LIGHTNING_CNN_DATA_DIR", "nowhere")
    data = FashionMNISTDataModule.facts
    monkeypatch.setattr(
        FashionMNISTDataModule, "facts", replace(data, mirrors=(), debian_package=None, sample_sha256={})
    )

    missing = cli("export", run, "--output", "a.onnx")
    outcome = cli("export", run, "--output", "a.onnx", "--data.data_dir", tiny_data)

    assert missing.status == 1
    assert outcome.status == 0, outcome.err


def test_an_exported_program_is_not_exported_again(exported, cli):
    outcome = cli("export", exported, "--format", "torch_export")

    assert outcome.status == 2
    assert "clothes.onnx is exported already; give the checkpoint that it was made from" in outcome.err


def test_training_is_not_resumed_from_an_onnx_file(exported, cli):
    outcome = cli("fit", "--ckpt_path", exported)

    assert outcome.status == 2
    assert "clothes.onnx" in outcome.err.splitlines()[-1]


def test_an_onnx_file_is_tested_and_validated_like_its_checkpoint(exported, run, cli, tiny_data):
    assert cli("test", "--ckpt_path", run).status == 0
    outcome = cli("test", exported)

    assert outcome.status == 0, outcome.err
    assert "Written: test_metrics.json, test_predictions.csv" in outcome.out
    before, after = (json.loads((folder / "test_metrics.json").read_text()) for folder in (run, Path()))
    assert before["test/acc"] == after["test/acc"]
    assert before["test/loss"] == pytest.approx(after["test/loss"], rel=1e-5)
    assert after["checkpoint_sha256"] == sha256(exported)
    assert before["data"] == after["data"]
    assert "(validation accuracy in training: " in outcome.out
    assert {path.name for path in Path("plots").iterdir()} == {path.name for path in (run / "plots").iterdir()}
    assert {path.name for path in Path("logs").iterdir()} == {"fashion_mnist-mlp"}
    assert cli("report", exported).out == "Written: report.html\n"
    validated = [cli("validate", file) for file in (run, exported)]
    assert [outcome.status for outcome in validated] == [0, 0]
    assert validated[0].out == validated[1].out
    assert cli("test", exported, "--data", "MNISTDataModule").status == 2  # the results are not replaced


OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(784, num_classes))
"""


def test_an_exported_network_of_the_user_needs_its_module_no_more(fit, cli, user_module):
    name = f"{user_module('own', OWN)}.Net"
    own = ("--model", "lightning_cnn.classifiers.ImageClassifier", "--model.network", name, "--model.optimizer", "Adam")
    run = fit("mnist/cnn.yaml", *own, "--model.metrics.f1", "MulticlassF1Score", "--model.loss", "FocalLoss")

    assert cli("export", run, "--output", "own.onnx").status == 2
    assert cli("export", run, "--output", "own.safetensors").status == 0
    assert "28×28 grey images into 10 classes, with 7,850 parameters" in Path("own.safetensors.md").read_text()
    assert cli("export", run, "--output", "own.onnx", "--model", name).status == 0
    assert cli("test", run, "--model.network", name).status == 0
    outcome = cli("test", "own.onnx")

    assert outcome.status == 0, outcome.err
    before, after = (json.loads((folder / "test_metrics.json").read_text()) for folder in (run, Path()))
    metrics = ("test/acc", "test/f1", "test/loss")
    assert [before[name] for name in metrics] == pytest.approx([after[name] for name in metrics], rel=1e-5)


def test_a_folder_in_colour_is_found_again_at_another_place(cli, tmp_path):
    write_photos(tmp_path / "photos")
    network = ("--model.network", "lightning_cnn.networks.ThreeStageCNN")
    data = ("--data", "ImageFolderDataModule", "--data.root", "photos", "--data.image_size", 32)
    quick = ("--trainer.max_epochs", 1, "--plots.enabled", "false", "--dashboard.enabled", "false")
    assert cli("fit", *network, *data, *quick).status == 0
    (run,) = Path("logs").glob("*/version_0")
    Path("photos").rename("moved")

    outcome = cli("export", run, "--output", "photos.onnx", "--data.root", "moved")
    tested = cli("test", "photos.onnx", "--data.root", "moved")

    assert outcome.status == tested.status == 0, outcome.err + tested.err
    number = json.loads(Path("test_metrics.json").read_text())["images"]
    assert number == 22  # those that are not trained on, and no others
    assert f"Compared: {number} of {number} predicted classes equal" in outcome.out
    assert cli("predict", "photos.onnx", next(Path("moved").glob("*/*.png"))).status == 0


def test_without_test_images_those_of_the_validation_are_compared(cli, tmp_path):
    write_photos(tmp_path / "photos")
    data = ("--data", "ImageFolderDataModule", "--data.root", "photos", "--data.test_size", 0, "--data.image_size", 28)
    quick = ("--trainer.max_epochs", 1, "--plots.enabled", "false", "--dashboard.enabled", "false")
    assert cli("fit", "--model", "MLPClassifier", *data, *quick).status == 0
    (run,) = Path("logs").glob("*/version_0")

    outcome = cli("export", run, "--output", "photos.onnx")

    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines()[0].endswith("(validation images of photos)")


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """In place of the package of npm, an archive with the same files."""
    archive = tmp_path / "runtime.tgz"
    with tarfile.open(archive, "w:gz") as package:
        for name in web._RUNTIME:
            package.addfile(tarfile.TarInfo(name))
    monkeypatch.setattr(web, "fetch_runtime", lambda: archive)


def test_a_folder_for_the_web_has_the_page_and_a_program_that_agrees(run, runtime, cli, tiny_data):
    outcome = cli("export", run, "--format", "web", "--output", "site")

    assert outcome.status == 0, outcome.err
    assert re.search(r"Compared: (\d+) of \1 predicted classes equal", outcome.out)
    assert "Written: site, site/model.onnx.md" in outcome.out
    facts = json.loads(Path("site/site.json").read_text())["models"][0]
    assert (facts["name"], facts["file"]) == ("fashion_mnist-mlp", "model.onnx")
    assert open_model(Path("site/model.onnx")).class_names == facts["class_names"]
    assert Path("site/index.html").is_file() and not list(Path().glob(".site*"))


def test_a_folder_for_the_web_is_replaced_only_if_that_is_said(run, runtime, cli, tiny_data):
    Path("site").mkdir()

    kept = cli("export", run, "--format", "web", "--output", "site")
    replaced = cli("export", run, "--format", "web", "--output", "site", "--overwrite")

    assert (kept.status, replaced.status) == (2, 0)
    assert "site exists" in kept.err
    assert Path("site/index.html").is_file()


def test_a_folder_of_something_else_is_not_replaced_by_a_page(run, runtime, cli, tiny_data):
    outcome = cli("export", run, "--format", "web", "--output", run.parent, "--overwrite")

    assert outcome.status == 2
    assert f"--output {run.parent} is a folder with other files than those of a page; name a new folder" in outcome.err
    assert (run / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize(
    ("output", "message"),
    [("file", "file is a file; name a new folder"), ("no/site", "there is no folder no; create it")],
)
def test_a_folder_for_the_web_that_cannot_be_is_refused(output, message, run, cli):
    Path("file").touch()

    outcome = cli("export", run, "--format", "web", "--output", output)

    assert outcome.status == 2
    assert message in outcome.err


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_need_no_further_package(cli, monkeypatch, suffix):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, package, None)
    for module in [name for name in sys.modules if name.startswith("lightning_cnn.export.")]:
        monkeypatch.delitem(sys.modules, module)

    outcome = cli("export", "mnist/tiny", "--output", f"tiny.{suffix}")

    assert outcome.status == 0, outcome.err
    assert "with 9,914 parameters in its network" in Path(f"tiny.{suffix}.md").read_text()
    outcome = cli("export", "mnist/tiny", "--output", "tiny.onnx")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert install_extra("export") in outcome.err
