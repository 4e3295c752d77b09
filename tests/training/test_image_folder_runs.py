"""`configs/folder.yaml` from the first command to the last, with a folder of tiny images."""

import csv
import json
import re
import shutil
import signal
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from data.image_folders import CLASSES, write_images
from runs import rows, text
from torch.nn import functional

from lightning_cnn import checkpoint
from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.cli import main
from lightning_cnn.config.loading import load_classifier
from lightning_cnn.data import ImageFolderDataModule
from lightning_cnn.training.parsing import settings_of

PLAIN = (
    *("--plots.enabled", "false", "--dashboard.enabled", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.precision", "32-true", "--trainer.max_epochs", 1),
)


@pytest.fixture
def fit(cli, configs, _one_thread):
    """Train on a folder for an epoch, and return the outcome."""

    def run(root: object, *flags: object):
        tiny = ("--data.root", root, "--data.image_size", 12, "--model.network.width", 4)
        return cli("fit", "--config", configs / "folder.yaml", *tiny, *PLAIN, *flags)

    return run


def only_run() -> Path:
    (run,) = Path("logs").glob("*/version_*")
    return run


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return [*csv.DictReader(opened)]


def test_a_folder_becomes_a_tested_model_with_report_and_predictions(fit, cli):
    write_images("photos", n=20)

    assert fit("photos", "--test", "true").status == 0

    run = only_run()
    assert run.parent.name == "photos-three_stage_cnn"
    split = table(run / "split.csv")
    assert sorted(row["file"] for row in split) == sorted(f"{name}/{n}.png" for name in CLASSES for n in range(20))
    of_test = [row["file"] for row in split if row["split"] == "test"]
    tested = table(run / "test_predictions.csv")
    assert [row["file"] for row in tested] == of_test and len(of_test) == 6
    assert [row["true"] for row in tested] == [file.split("/")[0] for file in of_test]
    data = json.loads((run / "data.json").read_text())
    assert data == {
        **{"dataset": "photos", "origin": "photos", "sample": False},
        "images": {"train": 49, "val": 5, "test": 6},
    }

    before = (run / "test_predictions.csv").read_bytes()
    again = cli("test", run)
    assert again.status == 0 and "of 6 images" in again.out
    assert (run / "test_predictions.csv").read_bytes() == before
    assert cli("validate", "--ckpt_path", run).status == 0

    assert cli("predict", run, *(f"photos/{file}" for file in of_test), "--output", "p.csv").status == 0
    predicted = table(Path("p.csv"))
    assert [row["predicted"] for row in predicted] == [row["predicted"] for row in tested]
    confidences = [[float(row["confidence"]) for row in table_] for table_ in (predicted, tested)]
    assert confidences[0] == pytest.approx(confidences[1], abs=2e-6)

    for flag in ("--invert", "--crop"):
        refused = cli("predict", run, "photos", flag, "false")
        assert refused.status == 2
        assert refused.err.splitlines()[-1].startswith(
            f"lightning-cnn: error: {flag} is for images that are framed by "
        )

    assert cli("report", run).status == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "ThreeStageCNN on photos" in text(page) and "photos: photos (49 train, 5 val, 6 test)" in text(page)
    wrong = {row["file"] for row in tested if row["true"] != row["predicted"]}
    assert wrong and {row[0] for row in rows(page, "mistakes")} == {"File", *wrong}


@pytest.mark.parametrize(
    ("parts", "flags"),
    [
        (("train", "test"), ("--data.channels", "grey", "--data.image_size", "[12,16]", "--data.resize", "pad")),
        (("train", "val", "test"), ("--data.folds", 3, "--data.fold", 1)),
    ],
)
def test_other_layouts_and_shapes(fit, cli, parts, flags):
    write_images("photos", parts, n=6)

    assert fit("photos/", *flags, "--test", "true").status == 0

    run = only_run()
    assert {row["file"] for row in table(run / "test_predictions.csv")} == {
        f"test/{name}/test{n}.png" for name in CLASSES for n in range(6)
    }
    assert cli("validate", "--ckpt_path", run).status == 0
    assert cli("predict", run, "photos/test").status == 0

    shutil.copy("photos/test/cat/test0.png", "photos/test/cat/more.png")
    refused = cli("test", run)
    assert refused.status == 2 and "has the results on other images of photos; add `--overwrite true`" in refused.err


def test_two_classes_with_names_in_any_script_from_a_csv_file(fit, cli):
    write_images("photos", classes=["all"], n=12)
    lines = [f"all/{n}.png,{'猫' if n % 2 else '=Äpfel'},{'test' if n > 8 else 'train'}" for n in range(12)]
    Path("labels.csv").write_text("\n".join(["file,label,split", *lines]), encoding="utf-8")

    assert fit("photos", "--data.labels", "labels.csv", "--test", "true").status == 0

    assert [row["true"] for row in table(only_run() / "test_predictions.csv")] == ["'=Äpfel", "猫", "猫"]  # 10, 11, 9
    assert cli("report", only_run()).status == 0


def test_a_changed_folder_is_tested_only_by_its_record(fit, cli):
    write_images("photos")
    assert fit("photos").status == 0
    run = only_run()
    split = {
        part: [row["file"] for row in table(run / "split.csv") if row["split"] == part] for part in ("val", "test")
    }
    shutil.copy("photos/cat/0.png", "photos/dog/new.png")

    for verb in (("test", run), ("validate", "--ckpt_path", run)):
        refused = cli(*verb)
        assert refused.status == 2
        assert refused.err.splitlines()[-1].startswith("lightning-cnn: error: the files of photos, or how they are")
    assert not (run / "test_predictions.csv").exists()

    assert cli("test", run, "--data.labels", run / "split.csv").status == 0
    assert [row["file"] for row in table(run / "test_predictions.csv")] == split["test"]


@pytest.mark.parametrize("folder", [".", "cat"])
def test_runs_are_not_written_among_the_images(fit, monkeypatch, folder):
    write_images("photos")
    monkeypatch.chdir(Path("photos", folder))
    root = "." if folder == "." else ".."

    refused = fit(root)

    assert refused.status == 2
    assert refused.err.splitlines()[-1] == (
        f"lightning-cnn: error: the run would be written into logs, among the images of --data.root {root}; choose a "
        "folder outside with --trainer.default_root_dir, or run the command elsewhere"
    )
    assert not Path("logs").exists()


def test_a_stopped_run_is_resumed_to_the_bit(fit, cli, monkeypatch):
    write_images("photos", n=20)
    flags = ("--data.batch_size", 10, "--trainer.max_epochs", 2)
    is_due = Checkpoints.is_due

    def is_due_or_stop(self, trainer):
        if trainer.global_step == 6:
            signal.raise_signal(signal.SIGTERM)  # handled at the next step boundary
        return is_due(self, trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "is_due", is_due_or_stop)
        stopped = fit("photos", *flags)
    assert stopped.status == 143
    resume = re.search(r"with: (?:lightning-cnn|python -m lightning_cnn) (.*)", stopped.err)
    assert cli(*resume[1].split()).status == 0
    first = only_run()

    assert fit("photos", *flags).status == 0

    (second,) = set(Path("logs").glob("*/version_*")) - {first}
    for name in ("metrics.csv", "split.csv", "config.yaml"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    weights = [checkpoint.read(run / "checkpoints/last.ckpt")["state_dict"] for run in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        ((), 2, "--data: ImageFolderDataModule needs root; give --data.root"),
        (("--data.root", "missing"), 2, "--data.root missing does not exist; name a folder of class folders"),
        (("--data.root", ""), 2, "--data.root '': this is a folder; name it, or give . for the current one"),
        (("--data.root", "empty"), 1, "empty has no class folders; put the images of each class into a folder of its"),
        (("--data.root", "photos", "--data.test_size", "1.5"), 2, "--data.test_size must be a number of images, or a"),
        (("--data.root", "photos", "--data.test_size", "0", "--test"), 2, "--test true needs test images, but --data"),
        (("--data.root", "photos", "--data.val_size", "0"), 2, "val_size must be between 1 and 10, got 0"),
        (("--data.root", "photos", "--data.image_size", "[8]"), 2, "--data.image_size [8]: expected int or [int, int]"),
        (("--data.root", "photos", "--model.mean", "[0.5]"), 2, "--model.mean must be a number, or a list of 3, one"),
        (("--data.root", "photos", "--data.channels", "gray"), 2, "--data.channels gray: expected one of 'auto', "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(cli, configs, flags, status, message):
    write_images("photos", n=4)
    Path("empty").mkdir()

    outcome = cli("fit", "--config", configs / "folder.yaml", *PLAIN, *flags)

    assert outcome.status == status
    assert outcome.err.splitlines()[-1].startswith(f"lightning-cnn: error: {message}")
    assert "Traceback" not in outcome.err and not Path("logs").exists()


@pytest.fixture
def evaluate(fit, cli):
    """Train on the folder `photos`, and return how the run is tested with flags: exit status and last lines."""
    write_images("photos")
    assert fit("photos").status == 0
    run = only_run()

    def with_flags(*flags: object, verb: str = "test"):
        return cli(verb, "--ckpt_path", run, *flags)

    return with_flags


def test_another_folder_is_tested_as_a_whole(evaluate, caplog):
    write_images("others", classes=("cow", "dog"), n=7, colour=False)  # the model is for colour, and knows cats as well

    outcome = evaluate("--data.root", "others")

    assert outcome.status == 0, outcome.err
    assert "of 14 images" in outcome.out
    assert "others: no images of 1 class: cat" in outcome.err
    assert "Evaluated: all 14 images of others; the model" in caplog.text
    tested = table(only_run() / "test_predictions.csv")
    assert [(row["file"], row["true"]) for row in tested] == [
        (f"{name}/{n}.png", name) for name in ("cow", "dog") for n in range(7)
    ]


@pytest.mark.parametrize(("verb", "part", "n"), [("test", "test", 6), ("validate", "val", 9)])
def test_of_another_folder_with_parts_one_is_evaluated_and_training_images_are_not_needed(
    evaluate, verb, part, n, caplog
):
    write_images("others", ("test",), n=2)
    write_images("others", ("val",), n=3)

    outcome = evaluate("--data.root", "others", verb=verb)

    assert outcome.status == 0, outcome.err
    assert f"Evaluated: the {n} {part} images of others; the model" in caplog.text


def test_the_folder_of_the_training_is_not_another_one_wherever_it_is(evaluate, caplog):
    shutil.move("photos", "moved")

    outcome = evaluate("--data.root", "moved")

    assert outcome.status == 0, outcome.err
    assert "of 3 images" in outcome.out and "Evaluated" not in caplog.text


@pytest.mark.parametrize(("verb", "part"), [("test", "test"), ("validate", "val")])
def test_images_of_another_folder_that_the_model_has_seen_are_named(evaluate, verb, part):
    seen = [row["file"] for row in table(only_run() / "split.csv") if row["split"] != "test"]
    unseen = next(row["file"] for row in table(only_run() / "split.csv") if row["split"] == "test")
    write_images("others", (part,), n=1, colour=False)
    for number, file in enumerate((seen[0], seen[-1], unseen)):
        shutil.copy(f"photos/{file}", f"others/{part}/dog/copy{number}.png")
    flags = ("--data.root", "others", "--data.duplicates")

    warned, refused, kept = (evaluate(*flags, choice, verb=verb) for choice in ("group", "refuse", "keep"))

    known = f"2 files of others are also among those of the training: {part}/dog/copy0.png, {part}/dog/copy1.png"
    assert warned.status == 0 and f"WARNING: {known}\n" in warned.err
    assert refused.status == 2
    assert refused.err.endswith(f"lightning-cnn: error: {known}; remove them, or set --data.duplicates keep\n")
    assert kept.status == 0 and "also among" not in kept.err


@pytest.mark.parametrize(
    "content",
    ["file,label\n", "split,digest\ntrain\n", "\0", "x" * 2**18, b"\xff\xfe"],
    ids=lambda text: repr(text[:9]),
)
def test_a_damaged_record_of_the_split_is_named(evaluate, content):
    write_images("others", n=1)
    file = only_run() / "split.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())

    refused = evaluate("--data.root", "others")

    assert refused.status == 2
    assert re.search(rf"error: {file} is damaged \(.+\); repair or delete it\n$", refused.err)


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_without_the_record_of_the_split_it_is_not_known_which_images_the_model_has_seen(evaluate, cli, verb):
    write_images("others", n=1)
    for folder in ("elsewhere", "exported"):
        Path(folder).mkdir()
    shutil.copy(only_run() / "checkpoints" / "best.ckpt", "elsewhere/copy.ckpt")
    assert cli("export", only_run(), "--output", "exported/weights.safetensors").status == 0
    flags = ("--data.root", "others", "--data.duplicates")

    for model in ("elsewhere/copy.ckpt", "exported/weights.safetensors"):
        warned, refused, kept = (cli(verb, model, *flags, choice) for choice in ("group", "refuse", "keep"))

        unknown = (
            "whether files of others are also among those of the training is not known: the run's split.csv is not "
            "beside the model"
        )
        assert warned.status == 0 and f"WARNING: {unknown}\n" in warned.err
        assert refused.status == 2
        way_out = "give the run in its place, or set --data.duplicates keep"
        assert refused.err.endswith(f"lightning-cnn: error: {unknown}; {way_out}\n")
        assert kept.status == 0 and "not known" not in kept.err


def test_a_model_that_was_not_trained_on_files_knows_none_of_a_folder(cli, configs):
    write_images("others", classes=[str(n) for n in range(10)], n=2, colour=False)

    outcome = cli(
        "test", "mnist/tiny", "--data", "ImageFolderDataModule", "--data.root", "others", "--data.image_size", 28,
        "--data.channels", "grey", "--data.duplicates", "refuse",
    )  # fmt: skip

    assert outcome.status == 0, outcome.err


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_images_are_made_one_size_as_in_the_training(evaluate, verb):
    refused = evaluate("--data.resize", "pad", verb=verb)

    assert refused.status == 2
    assert refused.err.splitlines()[-1].endswith("was trained with --data.resize crop, but pad is given; leave it out")
    assert evaluate("--data.resize", "crop", verb=verb).status == 0


def test_the_split_of_class_folders_with_spaces_can_be_repeated(fit, cli):
    write_images("photos", classes=(" cat", "dog ", "cow"))
    assert fit("photos").status == 0
    split = only_run() / "split.csv"
    assert {(row["file"].split("/")[0], row["label"]) for row in table(split)} == {
        (" cat", "cat"), ("dog ", "dog"), ("cow", "cow")
    }  # fmt: skip

    assert cli("test", only_run(), "--data.labels", split).status == 0


def test_results_on_other_images_of_a_folder_with_the_same_name_are_not_replaced(evaluate):
    write_images("elsewhere/photos", n=1, colour=False)

    before, again, others = (evaluate("--data.root", root) for root in ("photos", "photos", "elsewhere/photos"))

    assert before.status == again.status == 0 and "of 3 images" in before.out
    assert others.status == 2
    assert "has the results on other images of photos; add `--overwrite true`" in others.err


@pytest.mark.parametrize(
    ("parts", "classes", "message"),
    [
        (("",), ("cat", "cow", "emu"), "others has 1 class that the model does not have: emu; name them as in its"),
        (("train", "val"), CLASSES, "others has train and val but no test; give a folder of class folders, all of"),
    ],
)
def test_another_folder_that_does_not_fit_is_refused(evaluate, parts, classes, message):
    write_images("others", parts, classes, n=2)

    outcome = evaluate("--data.root", "others")

    assert outcome.status in (1, 2)
    assert outcome.err.splitlines()[-1].startswith(f"lightning-cnn: error: {message}")
    assert not (only_run() / "test_predictions.csv").exists()


def test_evaluation_with_flips_is_the_same_in_all_commands(fit, cli, caplog):
    write_images("photos", n=20)
    assert fit("photos", "--model.test_time_flip", "true", "--test", "true").status == 0
    run = only_run()
    tested = table(run / "test_predictions.csv")

    validated = cli("validate", "--ckpt_path", run)
    predicted = cli("predict", run, *(f"photos/{row['file']}" for row in tested), "--output", "p.csv")

    assert (validated.status, predicted.status) == (0, 0)
    classifier = load_classifier(checkpoint.read(run / "checkpoints/best.ckpt"))
    datamodule = ImageFolderDataModule("photos", image_size=12)
    datamodule.setup()
    with torch.no_grad():
        flipped = [
            (classifier.network(classifier.preprocess(x)) + classifier.network(classifier.preprocess(x).flip(-1))) / 2
            for x, _ in (datamodule.test_set[:], datamodule.val_set[:])
        ]
    expected = flipped[0].softmax(dim=1).max(dim=1)
    for rows_ in (tested, table(Path("p.csv"))):
        assert [datamodule.class_names.index(row["predicted"]) for row in rows_] == expected.indices.tolist()
        assert [float(row["confidence"]) for row in rows_] == pytest.approx(expected.values.tolist(), abs=1e-5)
    losses = functional.cross_entropy(flipped[1], datamodule.val_set.targets).item()
    (shown,) = re.findall(r"val/loss\D+([\d.]+)", validated.out)
    assert float(shown) == pytest.approx(losses, rel=1e-5)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("flags", [("--seeds", 2, "--test", "true"), ("--space", "space.yaml", "--n_trials", 2)])
def test_a_folder_is_swept(cli, configs, monkeypatch, flags):
    write_images("photos", n=20)
    Path("space.yaml").write_text("data.image_size: [10, 12]\n")

    @contextmanager
    def start(arguments, folder):
        """Train in this process."""
        with (folder / "stderr.txt").open("w") as errors, redirect_stderr(errors), redirect_stdout(errors):
            status = main([*arguments, f"--trainer.default_root_dir={folder}"])
        yield SimpleNamespace(poll=lambda: status)

    monkeypatch.setattr("lightning_cnn.sweep.trial_process.start", start)
    monkeypatch.setattr("lightning_cnn.commands.sweep._checked", lambda commands: settings_of(*commands))

    outcome = cli(
        *("sweep", "--config", configs / "folder.yaml", "--data.root=photos", "--model.network.width=4", *flags),
        *(f"{name}={value}" for name, value in zip(PLAIN[::2], PLAIN[1::2], strict=True)),
        *(() if "--space" in flags else ("--data.image_size=12",)),
    )

    assert outcome.status == 0, outcome.err + outcome.out
    results = table(next(Path("logs").glob("*/results.csv")))
    assert [row["state"] for row in results] == ["complete", "complete"]
    assert all(float(row["val/loss"]) > 0 for row in results)  # which the config monitors
    assert ("test/acc" in results[0]) == ("--test" in flags)
