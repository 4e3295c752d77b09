import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from script import load

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import weights
from lightning_cnn.commands import predict as command
from lightning_cnn.data import sources
from lightning_cnn.data.facts import TEST_IMAGES, TEST_LABELS, Framing
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.idx import decode_images, decode_labels
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.predict import pipeline
from lightning_cnn.predict.model import open_model
from lightning_cnn.predict.pipeline import Predictor


@pytest.fixture
def checkpoint(run) -> Path:
    return run / "checkpoints" / "best.ckpt"


def tiny_images(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """The test images of the tiny dataset, and their labels."""
    raw = data_dir / "FashionMNIST" / "raw"
    return decode_images((raw / TEST_IMAGES).read_bytes()), decode_labels((raw / TEST_LABELS).read_bytes(), 10)


@pytest.fixture
def images(tiny_data) -> list[str]:
    """The 100 test images as files, in order."""
    Path("images").mkdir()
    for number, image in enumerate(tiny_images(tiny_data)[0]):
        Image.fromarray(image).save(f"images/{number:02}.png")
    return sorted(str(path) for path in Path("images").iterdir())


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def change(checkpoint: Path, **entries: object) -> Path:
    """Return a checkpoint with other entries in its description."""
    content = torch.load(checkpoint, weights_only=True)
    content[checkpoints.KEY] |= entries
    torch.save(content, "changed.ckpt")
    return Path("changed.ckpt")


# Predictions


def test_predictions_of_files_are_those_of_the_test(run, images, cli):
    assert cli("test", "--ckpt_path", run).status == 0
    tested = rows(str(run / "test_predictions.csv"))

    outcome = cli("predict", run, "images", "--output", "out.csv")

    assert (outcome.status, outcome.out) == (0, "")
    used = f"Checkpoint: {run / 'checkpoints' / 'best.ckpt'}"  # a folder was given
    assert outcome.err.splitlines() == [used, "100 images predicted; written: out.csv"]
    predicted = rows("out.csv")
    assert list(predicted[0]) == ["file", "predicted", "confidence", "runner_up", "runner_up_confidence", "unclear"]
    assert [row["file"] for row in predicted] == images
    assert [row["predicted"] for row in predicted] == [row["predicted"] for row in tested]
    for row, of_test in zip(predicted, tested, strict=True):
        assert float(row["confidence"]) == pytest.approx(float(of_test["confidence"]), abs=2e-6)
        assert 0 <= float(row["runner_up_confidence"]) <= float(row["confidence"]) <= 1
        assert row["runner_up"] in FASHION_MNIST.classes and row["runner_up"] != row["predicted"]


def test_a_checkpoint_is_given_as_a_file_a_folder_or_a_name(run, images, cli):
    references = (run / "checkpoints" / "best.ckpt", run, f"{run}/", "best", "last")

    outcomes = [cli("predict", reference, *images[:3]) for reference in references]

    assert {outcome.status for outcome in outcomes} == {0}
    assert len({outcome.out for outcome in outcomes[:4]}) == 1


def test_the_batch_size_does_not_change_the_predictions(checkpoint, images, cli):
    tables = [cli("predict", checkpoint, "images", "--batch_size", size).out.split() for size in (1, 7, 1000)]

    assert tables[0] == tables[1] == tables[2]


def test_the_framing_is_read_from_the_checkpoint(checkpoint, cli):
    image = Image.new("RGB", (90, 60), "white")
    image.paste("black", (40, 10, 60, 50))
    image.save("a.png")

    saw = {}
    for name, data in (("Fashion", FASHION_MNIST.framing), ("digits", MNIST.framing)):
        framing = {"side": data.side, "by_mass": data.by_mass}
        assert cli("predict", change(checkpoint, framing=framing), "a.png").status == 0
        saw[name] = open_model(Path("changed.ckpt")).framing

    assert saw == {"Fashion": Framing(28, by_mass=False), "digits": Framing(20, by_mass=True)}


def test_classes_without_names_are_numbers(checkpoint, images, cli):
    outcome = cli("predict", change(checkpoint, class_names=None), images[0])

    assert outcome.out.split()[7].isdecimal()


def test_dark_on_light_is_detected_or_given(checkpoint, tiny_data, cli):
    dark = 255 - tiny_images(tiny_data)[0][0]
    dark[0, :] = dark[:, 0] = dark[-1, :] = dark[:, -1] = 255
    Image.fromarray(dark).save("dark.png")
    Image.fromarray(255 - dark).save("light.png")

    def cells(name: str, *flags: str) -> list[str]:
        return cli("predict", checkpoint, name, *flags).out.split()[7:]

    assert cells("dark.png") == cells("light.png") == cells("dark.png", "--invert", "true")
    assert cells("dark.png", "--invert", "false") == cells("light.png", "--invert", "true") != cells("light.png")
    assert cells("light.png", "--crop", "true") != cells("light.png") == cells("light.png", "--crop", "false")


# Output


def test_the_table_is_aligned_and_complete(checkpoint, images, cli, monkeypatch):
    monkeypatch.setattr(pipeline, "_MAX_WAIT", float("inf"))  # one batch, also on a slow machine
    Path(images[0]).rename("images/a name\nwith\x1b[31m a break.png")

    outcome = cli("predict", checkpoint, "images")

    heading, *lines = outcome.out.splitlines()
    assert heading.split() == ["file", "class", "confidence", "runner-up", "confidence", "unclear"]
    assert len(lines) == 100
    assert {len(line) for line in (heading, *lines)} == {len(heading)}
    (line,) = [line for line in lines if "a name" in line]
    assert line.startswith("images/a name\\nwith\\x1b[31m a break.png  ")
    assert outcome.err == "100 images predicted\n"


def test_undecodable_names_are_shown_and_written(checkpoint, images, cli):
    name = os.fsdecode(b"images/\xff.png")
    Path(images[0]).rename(name)

    assert cli("predict", checkpoint, name).out.splitlines()[1].startswith("images/\\udcff.png  ")
    for output in ("out.csv", "out.json"):
        assert cli("predict", checkpoint, name, "--output", output).status == 0
    assert rows("out.csv")[0]["file"] == "images/\\udcff.png"
    assert json.loads(Path("out.json").read_text())[0]["file"] == name


def test_json_has_the_same_values_as_csv(checkpoint, images, cli):
    for output in ("out.json", "out.csv"):
        assert cli("predict", checkpoint, "images", "--output", output, "--batch_size", 30).status == 0

    predictions = json.loads(Path("out.json").read_text())
    assert len(predictions) == 100
    for row, prediction in zip(rows("out.csv"), predictions, strict=True):
        assert {key: f"{value:.6f}" if "confidence" in key else value for key, value in prediction.items()} == row


def test_names_are_not_formulas_in_a_spreadsheet(checkpoint, images, cli):
    for name in ("=1+1.png", "+1.png", "@a.png"):
        Path(name).write_bytes(Path(images[0]).read_bytes())

    assert cli("predict", checkpoint, "=1+1.png", "+1.png", "@a.png", "--output", "out.csv").status == 0

    assert [row["file"] for row in rows("out.csv")] == ["./=1+1.png", "./+1.png", "./@a.png"]
    assert all(Path(row["file"]).is_file() for row in rows("out.csv"))


@pytest.mark.parametrize(("output", "content"), [("out.csv", "file,predicted,confidence"), ("out.json", "[\n]\n")])
def test_without_predictions_the_file_is_empty_but_valid(checkpoint, cli, output, content):
    outcome = cli("predict", checkpoint, "nowhere.png", "--output", output)

    assert outcome.status == 1
    assert Path(output).read_text().startswith(content)
    assert outcome.err.endswith(f"0 images predicted, 1 failed; written: {output}\n")


def test_a_file_is_complete_or_absent(checkpoint, images, cli, monkeypatch):
    def fail(predictor, images):
        raise RuntimeError("failed")

    monkeypatch.setattr(Predictor, "probabilities", fail)

    with pytest.raises(RuntimeError, match="failed"):
        cli("predict", checkpoint, "images", "--output", "out.csv")
    assert not list(Path().glob("*out.csv*")) and not list(Path().glob(".*out.csv*"))


def test_the_plot_shows_the_first_images_beside_what_the_network_sees(checkpoint, images, tiny_data, cli, monkeypatch):
    from lightning_cnn.plots import figures as plots

    drawn = []
    draw = plots.seen
    monkeypatch.setattr(plots, "seen", lambda *arguments: drawn.append(arguments) or draw(*arguments))
    Image.new("RGB", (3000, 1000), "white").save(images[1])  # blank: not among the first

    outcome = cli("predict", checkpoint, "images", "--plot", "seen.png", "--batch_size", 5)

    assert outcome.status == 1
    assert outcome.err.endswith("99 images predicted, 1 failed; drawn: seen.png\n")
    ((steps, seen, captions),) = drawn
    assert len(steps) == len(captions) == 16
    first = tiny_images(tiny_data)[0][0]
    assert np.array_equal(seen[0], first) and np.array_equal(steps[0][0], np.repeat(first[:, :, None], 3, axis=2))
    assert captions[0].splitlines()[0] == "00.png" and captions[1].splitlines()[0] == "02.png"
    assert Path("seen.png").read_bytes().startswith(b"\x89PNG")


def test_without_predictions_there_is_no_plot(checkpoint, cli):
    outcome = cli("predict", checkpoint, "nowhere.png", "--plot", "seen.png")

    assert outcome.status == 1
    assert outcome.err.endswith("0 images predicted, 1 failed\n")
    assert not Path("seen.png").exists()


@pytest.mark.parametrize("flags", [(), ("--format", "csv")])
def test_a_dash_writes_csv_to_stdout_and_nothing_else(checkpoint, images, cli, flags):
    assert cli("predict", checkpoint, "images", "--output", "out.csv").status == 0

    outcome = cli("predict", checkpoint, "images", "--output", "-", "--batch_size", 30, *flags)

    assert (outcome.status, outcome.err) == (0, "100 images predicted\n")
    assert outcome.out == Path("out.csv").read_text()  # lines end as programs in a pipe expect
    assert "\r" not in outcome.out and not Path("-").exists()


@pytest.mark.parametrize("flags", [("--output", "-", "--format", "json"), ("--format", "json")])
def test_json_is_written_to_stdout(checkpoint, images, cli, flags):
    assert cli("predict", checkpoint, "images", "--output", "out.json").status == 0

    outcome = cli("predict", checkpoint, "images", "nowhere.png", *flags)

    assert outcome.status == 1
    assert outcome.err.splitlines()[-1] == "100 images predicted, 1 failed"
    assert outcome.out == Path("out.json").read_text()
    assert len(json.loads(outcome.out)) == 100


def test_names_on_stdout_are_as_in_a_file(checkpoint, images, cli):
    for name in (os.fsdecode(b"\xff\xe9.png"), "=1+1.png", "\N{SNOWMAN}.png"):
        Path(name).write_bytes(Path(images[0]).read_bytes())

    assert cli("predict", checkpoint, "*.png", "--output", "out.csv").status == 0

    assert cli("predict", checkpoint, "*.png", "--output", "-").out == Path("out.csv").read_text()


# Pages and stdin


def test_every_page_is_predicted_and_one_page_has_the_name_of_the_file(checkpoint, tiny_data, cli):
    pages = [Image.fromarray(image) for image in tiny_images(tiny_data)[0][:3]]
    pages[0].save("scan.tiff", save_all=True, append_images=[pages[1], Image.new("L", (28, 28)), pages[2]])
    for number, page in enumerate(pages):
        page.save(f"{number}.tif")

    outcome = cli("predict", checkpoint, "scan.tiff", "0.tif", "1.tif", "2.tif", "--output", "out.csv")

    found = rows("out.csv")
    assert [row["file"] for row in found] == ["scan.tiff[1]", "scan.tiff[2]", "scan.tiff[4]", "0.tif", "1.tif", "2.tif"]
    assert [{**row, "file": ""} for row in found[:3]] == [{**row, "file": ""} for row in found[3:]]
    assert outcome.status == 1
    assert outcome.err.splitlines()[0].startswith("lightning-cnn: error: scan.tiff[3]: blank: ")
    assert outcome.err.splitlines()[-1] == "6 images predicted, 1 failed; written: out.csv"


def test_the_plot_has_the_pages(checkpoint, tiny_data, cli, monkeypatch):
    from lightning_cnn.plots import figures as plots

    captions = []
    draw = plots.seen
    monkeypatch.setattr(plots, "seen", lambda *arguments: captions.extend(arguments[2]) or draw(*arguments))
    pages = [Image.fromarray(image) for image in tiny_images(tiny_data)[0][:2]]
    pages[0].save("scan.tiff", save_all=True, append_images=pages[1:])

    assert cli("predict", checkpoint, "scan.tiff", "--plot", "seen.png").status == 0
    assert [caption.splitlines()[0] for caption in captions] == ["scan.tiff[1]", "scan.tiff[2]"]


@pytest.fixture
def stdin(monkeypatch):
    """Give stdin a content."""

    def give(content: bytes, terminal: bool = False) -> None:
        stream = io.TextIOWrapper(io.BytesIO(content))
        monkeypatch.setattr(stream.buffer, "isatty", lambda: terminal)
        monkeypatch.setattr(sys, "stdin", stream)

    return give


def test_an_image_is_read_from_stdin(checkpoint, images, cli, stdin):
    (heading, row) = cli("predict", checkpoint, images[0]).out.splitlines()
    stdin(Path(images[0]).read_bytes())

    outcome = cli("predict", checkpoint, "-")

    assert outcome.status == 0
    assert outcome.out.split() == [*heading.split(), "<stdin>", *row.split()[1:]]


def test_no_image_on_stdin_is_an_error(checkpoint, images, cli, stdin):
    for content, message in ((b"", "empty; pipe an image into it, and give - once"), (b"hello", "not an image; ")):
        stdin(content)
        outcome = cli("predict", checkpoint, images[0], "-")
        assert outcome.status == 1
        assert outcome.err.splitlines()[0].startswith(f"lightning-cnn: error: <stdin>: {message}")
        assert outcome.out.splitlines()[1].startswith(images[0])


def test_a_terminal_is_not_waited_for(checkpoint, cli, stdin):
    stdin(b"", terminal=True)

    outcome = cli("predict", checkpoint, "-")

    assert outcome.status == 2
    assert outcome.err == (
        "lightning-cnn: error: - reads an image from stdin, which is a terminal; pipe one into it, or name a file\n"
    )


def test_commands_in_a_pipe(checkpoint, images):
    command = f"{shlex.quote(sys.executable)} -m lightning_cnn predict {checkpoint} - --output - | cut -d, -f1 | cat"

    done = subprocess.run(command, shell=True, input=Path(images[0]).read_bytes(), capture_output=True, check=True)

    assert done.stdout.decode() == "file\n<stdin>\n"
    assert done.stderr.decode() == "1 image predicted\n"


# Failures


def test_unreadable_files_are_named_and_skipped(checkpoint, images, cli):
    Path("text.png").write_text("hello")
    Path("odd\nname.png").touch()
    Path("cut.png").write_bytes(Path(images[0]).read_bytes()[:-30])
    Image.new("L", (1, 1)).save("one.png")
    os.mkfifo("pipe.png")
    Path("nothing").mkdir()
    bad = ["text.png", "odd\nname.png", "cut.png", "one.png", "pipe.png", "nothing", "nowhere.png", "*.gif"]

    outcome = cli("predict", checkpoint, images[0], *bad, images[1])

    assert outcome.status == 1
    assert [line.split()[0] for line in outcome.out.splitlines()[1:]] == images[:2]
    *errors, summary = outcome.err.splitlines()
    assert summary == "2 images predicted, 8 failed"
    assert [error.split(": ")[2] for error in errors] == [name.replace("\n", "\\n") for name in bad]
    assert all(error.startswith("lightning-cnn: error: ") and "; " in error for error in errors)


def test_a_long_name_is_shortened(checkpoint, cli):
    outcome = cli("predict", checkpoint, "a/" * 2_000)

    assert outcome.err.startswith("lightning-cnn: error: a/a/") and "…" in outcome.err
    assert max(map(len, outcome.err.splitlines())) < 500


def test_pillow_does_not_warn(checkpoint, images, cli, recwarn):
    image = Image.open(images[0])
    image.save("a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    Image.new("L", (9_500, 9_500)).save("large.png")  # Pillow warns of a decompression bomb

    outcome = cli("predict", checkpoint, "a.jpg", "large.png")

    assert outcome.err.splitlines() == [
        "lightning-cnn: error: large.png: more than 50,000,000 pixels; save it in a smaller size",
        "1 image predicted, 1 failed",
    ]
    assert not recwarn.list


def test_memory_does_not_grow_with_the_number_of_images(checkpoint, images, cli, monkeypatch):
    made: list[weakref.ref] = []
    alive = []
    frame = pipeline.frame

    def counting(*arguments):
        framed = frame(*arguments)
        made.append(weakref.ref(framed.pixels))
        alive.append(sum(reference() is not None for reference in made))
        return framed

    monkeypatch.setattr(pipeline, "frame", counting)

    assert cli("predict", checkpoint, "images", "--batch_size", 10).status == 0
    assert len(alive) == 100
    assert max(alive) <= 20  # one batch is filled while another is written


def test_slow_images_are_predicted_before_the_batch_is_full(monkeypatch):
    clock = iter([0, 0.1, 0.2, 1.3, 1.3, 1.4, 1.5])
    monkeypatch.setattr(pipeline.time, "monotonic", lambda: next(clock))

    assert list(pipeline._batches(iter("abcde"), 10)) == [["a", "b", "c"], ["d", "e"]]


# Wrong arguments


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: IMAGE (see `lightning-cnn predict --help`)"),
        (
            ["a.png"],
            "give a checkpoint and at least one image, got only 'a.png' (see `lightning-cnn predict --help`)",
        ),
        (["best", "a.png"], "no matching run has a checkpoint best.ckpt; train with `fit` first, or give a file"),
        (
            ["no.ckpt", "a.png"],
            "checkpoint no.ckpt does not exist; give a file, a run folder, `best`, `last` or `previous`"
            + weights.listed(),
        ),
        (["no.ckpt", "a.png", "--output", "a.txt"], "--output a.txt: the name must end in .csv or .json"),
        (["no.ckpt", "a.png", "--plot", "a.jpg"], "--plot a.jpg: the name must end in .png"),
        (
            ["no.ckpt", "a.png", "--output", "no/a.csv"],
            "--output no/a.csv cannot be written (no such file or directory); name a file in a folder of yours",
        ),
        (
            ["no.ckpt", "a.png", "--batch_size", "0"],
            "argument --batch_size: must be a whole number of at least 1, got '0' (see `lightning-cnn predict --help`)",
        ),
        (
            ["no.ckpt", "a.png", "--invert", "ture"],
            "'ture' is not a value of --invert (choose from auto, true, false); did you mean 'true'?",
        ),
        (
            ["no.ckpt", "a.png", "https://a.org/1.png"],
            "https://a.org/1.png is an address; download it first, or pipe it: "
            "`curl ADDRESS | lightning-cnn predict CHECKPOINT -`",
        ),
        (["no.ckpt", "-", "a.png", "-"], "- is given twice, but stdin can be read once; give it once"),
        (
            ["no.ckpt", "a.png", "--format", "jsn"],
            "'jsn' is not a value of --format (choose from csv, json); did you mean 'json'?",
        ),
        (
            ["no.ckpt", "a.png", "--output", "a.csv", "--format", "json"],
            "--output a.csv is not of --format json; leave one of them out",
        ),
        (
            ["no.ckpt", "a.png", "--outptu=a.csv"],
            "'--outptu' is not an option (choose from "
            "--help, --ckpt_path, --output, --format, --plot, --overwrite, --invert, --crop, --batch_size, --model); "
            "did you mean '--output'?",
        ),
    ],
)
def test_a_wrong_argument_is_reported_in_one_line_before_any_work(argv, message, cli, monkeypatch):
    monkeypatch.setattr(command, "open_model", lambda *_: pytest.fail("a checkpoint was loaded"))

    outcome = cli("predict", *argv)

    assert (outcome.status, outcome.out, outcome.err) == (2, "", f"lightning-cnn: error: {message}\n")


def test_a_file_named_like_an_option_is_named_with_its_folder(checkpoint, images, cli):
    shutil.copy(images[0], "-1.png")
    message = "'-1.png' is not an option; for the file, write ./-1.png (see `lightning-cnn predict --help`)"

    refused, predicted = cli("predict", checkpoint, "-1.png"), cli("predict", checkpoint, "./-1.png")

    assert (refused.status, refused.err) == (2, f"lightning-cnn: error: {message}\n")
    assert predicted.status == 0


@pytest.mark.parametrize(("option", "name"), [("--output", "a.csv"), ("--output", "a.json"), ("--plot", "a.png")])
def test_existing_files_are_replaced_only_with_overwrite(checkpoint, images, cli, option, name):
    Path(name).write_text("important")
    Path(f"link{Path(name).suffix}").symlink_to(name)

    for place in (name, f"link{Path(name).suffix}"):
        outcome = cli("predict", checkpoint, images[0], option, place)
        assert (outcome.status, outcome.out) == (2, "")
        assert outcome.err == (
            f"lightning-cnn: error: {option} {place} exists; add --overwrite to replace it, or name another\n"
        )
    assert Path(name).read_text() == "important"

    assert cli("predict", checkpoint, images[0], option, name, "--overwrite").status == 0
    assert "important" not in Path(name).read_text(errors="replace")


def test_a_run_folder_beside_ckpt_path_is_a_second_checkpoint(cli):
    Path("run/checkpoints").mkdir(parents=True)

    refused = cli("predict", "run", "a.png", "--ckpt_path", "best")

    assert refused.status == 2
    assert "the checkpoint is given twice, as run and as --ckpt_path best; give it once" in refused.err


def test_the_checkpoint_may_be_given_as_ckpt_path(checkpoint, images, cli):
    positional = cli("predict", checkpoint, *images[:3])

    assert cli("predict", "--ckpt_path", checkpoint, *images[:3]).out == positional.out
    assert cli("predict", *images[:3], f"--ckpt_path={checkpoint}").out == positional.out
    assert cli("predict", "--ckpt_path", checkpoint, images[0]).out.splitlines()[1].startswith(images[0])


def test_options_and_images_can_be_in_any_order(checkpoint, images, cli):
    outcome = cli("predict", "--crop", "auto", checkpoint, images[0], "--batch_size", 2, images[1])

    assert outcome.status == 0, outcome.err
    assert len(outcome.out.splitlines()) == 3


def test_no_image_is_overwritten(checkpoint, images, cli):
    before = Path(images[5]).read_bytes()

    for arguments in (["images"], ["images/*"], [images[5]], [str(Path(images[5]).absolute())]):
        outcome = cli("predict", checkpoint, *arguments, "--plot", images[5], "--overwrite")
        assert outcome.status == 2
        assert outcome.err.endswith(f"--plot {images[5]} is one of the images; choose another file\n")

    assert Path(images[5]).read_bytes() == before


@pytest.mark.parametrize("class_path", ["os.system", "wide_mlp.WideMLPClassifier"])
def test_a_class_of_another_package_is_not_imported(checkpoint, images, cli, class_path):
    Path("wide_mlp.py").write_text("raise SystemExit('imported')")
    config = checkpoints.read_description(checkpoint)["config"]
    config["model"]["class_path"] = class_path

    outcome = cli("predict", change(checkpoint, config=config), images[0])

    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert line.endswith(f"if it is your own classifier, add `--model {class_path}`")


def test_another_architecture_is_rejected(checkpoint, images, cli):
    outcome = cli("predict", checkpoint, images[0], "--model", "CNNClassifier")

    assert outcome.status == 2
    assert "the checkpoint is of another architecture" in outcome.err


@pytest.mark.parametrize("framing", [{"side": 29}, {"side": "20"}, {"size": 20}, [20, True], "20"])
def test_an_unknown_framing_is_rejected(checkpoint, images, cli, framing):
    outcome = cli("predict", change(checkpoint, framing=framing), images[0])

    assert outcome.status == 2
    assert "framing" in outcome.err and outcome.err.count("\n") == 1


def test_as_many_names_as_classes_are_required(checkpoint, images, cli):
    outcome = cli("predict", change(checkpoint, class_names=["a", "b"]), images[0])

    assert outcome.status == 2
    assert "it has 2 class names, but its model has 10 classes" in outcome.err


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["predict", "--help"])

    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("CHECKPOINT", "IMAGE", "--output", "--plot", "--invert", "--crop", ".webp"))
    assert max(map(len, text.splitlines())) <= 100


# Real images


def write_images(images: np.ndarray, folder: str) -> None:
    Path(folder).mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(f"{folder}/{number:04}.png")


@pytest.mark.timeout(900)  # 15 s on an idle machine
def test_predictions_of_real_images_as_files_are_those_of_the_test(real_data_dir, cli, configs):
    flags = ("--trainer.limit_train_batches", 100, "--trainer.max_epochs", 1, "--trainer.precision", "32-true")
    flags += ("--plots.enabled", "false", "--test", "true")
    trained = cli("fit", "--config", configs / "mnist/fast.yaml", *flags)
    assert trained.status == 0, trained.err
    (tested,) = Path("logs").glob("*/version_0/test_predictions.csv")
    tested_rows = rows(str(tested))[:500]
    raw = sources.load(MNIST, real_data_dir)
    write_images(raw.test_images[:500], "images")

    assert cli("predict", "best", "images", "--output", "out.csv").status == 0

    assert [row["predicted"] for row in rows("out.csv")] == [row["predicted"] for row in tested_rows]
    Path("redrawn").mkdir()
    for number, page in enumerate(load("image_files").redrawn(raw.test_images[:500])):
        page.save(f"redrawn/{number:04}.png")
    assert cli("predict", "best", "redrawn", "--output", "redrawn.csv").status == 0
    hits = [row["predicted"] == of["true"] for row, of in zip(rows("redrawn.csv"), tested_rows[:500], strict=True)]
    assert np.mean(hits) >= 0.95


@pytest.mark.parametrize("option", ["--invert", "--crop"])
def test_whole_images_are_not_framed(run, checkpoint, images, cli, option):
    whole = change(checkpoint, framing={"size": [28, 28], "mode": "crop", "channels": 1})

    assert cli("predict", str(whole), images[0]).status == 0
    outcome = cli("predict", str(whole), images[0], option, "true")

    assert outcome.status == 2
    assert f"error: {option} is for images that are framed by their foreground" in outcome.err
