import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import safetensors as shared


@pytest.fixture
def image() -> str:
    Image.linear_gradient("L").resize((28, 28)).save("image.png")
    return "image.png"


def test_an_exported_model_gives_the_same_predictions_and_metrics(run, image, tiny_data, cli):
    assert cli("export", run, "--output", "shared.safetensors").out == "Written: shared.safetensors\n"

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
            "text.ckpt cannot be read as a checkpoint: it is neither an archive of `torch.save` nor a safetensors file",
        ),
        (["text.ckpt", "--output", "a.bin"], "--output a.bin: the name must end in .safetensors"),
        (["text.ckpt", "--output", "no/a.safetensors"], "--output no/a.safetensors cannot be written"),
        (
            ["text.ckpt", "--overwrit"],
            "--output, --overwrite); did you mean '--overwrite'?",
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
