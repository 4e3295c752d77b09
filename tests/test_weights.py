import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from checkout import ROOT
from PIL import Image, ImageDraw
from script import load

import lightning_cnn as lc
from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import weights
from lightning_cnn.errors import UserError
from lightning_cnn.files import sha256, shipped_configs
from lightning_cnn.run import Run, resolve_checkpoint
from lightning_cnn.serve.settings import name_models
from lightning_cnn.sweep.records import Records, settings_hash
from lightning_cnn.training.parsing import settings_of

SHIPPED = weights.read_manifest()


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """A package without weights."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(weights, "FOLDER", folder)
    return folder


@pytest.fixture
def shipped(empty, trained, cli) -> Path:
    """A package with `mnist/small` and the better `mnist/tiny`, and a run with these weights."""
    run = trained("mnist/fast.yaml", "--model.channels", 8)
    (empty / "mnist").mkdir()
    manifest = {}
    for name, accuracy in (("mnist/small", 0.98), ("mnist/tiny", 0.99)):
        assert cli("export", run, "--output", weights.file_of(name)).status == 0
        digest = sha256(weights.file_of(name))
        manifest[name] = {"sha256": digest, "seed": 0, "hash": "0123", "metrics": {"val/acc": accuracy}}
    (empty / weights.MANIFEST).write_text(json.dumps(manifest))
    return run


@pytest.fixture
def digit() -> str:
    image = Image.new("L", (60, 90), "white")
    ImageDraw.Draw(image).line((30, 15, 30, 75), fill="black", width=6)
    image.save("digit.png")
    return "digit.png"


def test_names_of_weights(shipped):
    assert weights.find("mnist/small") == weights.FOLDER / "mnist/small.safetensors"
    assert weights.find("mnist") == weights.FOLDER / "mnist/tiny.safetensors"  # the best validation accuracy
    assert weights.find("mni") is weights.find("mnist/huge") is weights.find("") is None
    assert weights.name_of(weights.file_of("mnist/tiny")) == "mnist/tiny"
    assert weights.name_of(Path("mnist/tiny.safetensors")) is weights.name_of(weights.FOLDER / "weights.json") is None


def test_a_damaged_file_is_one_line(shipped):
    weights.file_of("mnist/tiny").write_bytes(b"")
    weights.file_of("mnist/small").unlink()

    for name in ("mnist/tiny", "mnist/small"):
        with pytest.raises(UserError, match=r"is missing or damaged: its SHA-256 is not that of .*; install the pack"):
            weights.find(name)


def test_what_is_in_the_folder_comes_first(shipped):
    Path("mnist").mkdir()

    with pytest.raises(UserError, match=r"'mnist' is not a run folder: .*, or weights of this package: mnist/small"):
        resolve_checkpoint("mnist", [], "best")
    Path("mnist/tiny").touch()
    assert resolve_checkpoint("mnist/tiny", [], "best") == Path("mnist/tiny")
    assert resolve_checkpoint("mnist/small", [], "best") == weights.file_of("mnist/small")


def test_a_config_without_weights_is_given_as_one(empty):
    with pytest.raises(UserError, match=r"^mnist/cnn is a config; give it with --config mnist/cnn$"):
        resolve_checkpoint("mnist/cnn", [], "best")


def test_without_weights_nothing_is_offered(empty):
    with pytest.raises(UserError) as caught:
        resolve_checkpoint("mnist", [], "best")

    assert str(caught.value) == (
        "checkpoint mnist does not exist; give a file, a run folder, `best`, `last` or `previous`"
    )


def test_commands_take_weights_by_name(shipped, digit, cli, configs):
    expected = cli("predict", shipped, digit).out

    outcome = cli("predict", "mnist", digit)

    assert (outcome.status, outcome.out) == (0, expected)
    assert lc.load("mnist/tiny").predict(digit).label == lc.load(shipped).predict(digit).label
    assert [*name_models([weights.file_of("mnist/tiny")])] == ["mnist/tiny"]
    missing = cli("predict", "mnist/huge", digit)
    assert missing.status == 2
    assert "checkpoint mnist/huge does not exist; give a file, " in missing.err
    assert missing.err.endswith(", or weights of this package: mnist/small, mnist/tiny\n")


def test_a_test_writes_into_logs_and_an_export_into_the_current_folder(shipped, cli):
    before = sorted(weights.FOLDER.rglob("*"))

    assert cli("test", "mnist").status == 0
    assert cli("export", "mnist/small", "--format", "state_dict").status == 0

    assert Path("logs/weights/mnist-tiny/test_metrics.json").is_file()
    assert Path("small.pth").is_file()
    assert sorted(weights.FOLDER.rglob("*")) == before
    refused = cli("fit", "mnist/tiny")
    assert refused.status == 2
    assert "mnist/tiny has weights, and no training state to resume; `fit --config mnist/tiny` trains" in refused.err


def test_a_training_starts_from_weights_by_their_name(shipped, fit, cli):
    run = fit("mnist/fast.yaml", "--model.channels", 8, "--model.weights", "mnist", "--trainer.max_steps", 2,
              "--model.scheduler", "null")  # fmt: skip

    assert cli("fit", run, "--trainer.max_steps", 3).status == 0
    assert yaml.safe_load(Run(run).config_file.read_text())["model"]["init_args"]["weights"] == "mnist"


def test_the_script_makes_weights_of_the_best_validation_seed(empty, tiny_data, tmp_path, monkeypatch, capsys):
    script, config = load("weights"), tmp_path / "configs/mnist/tiny.yaml"
    config.parent.mkdir(parents=True)
    settings = yaml.safe_load((ROOT / "configs/mnist/fast.yaml").read_text())
    settings["model"]["init_args"]["channels"] = 8
    settings["data"]["init_args"] |= {"val_size": 50, "batch_size": 50}
    settings["trainer"]["precision"] = "32-true"
    config.write_text(yaml.safe_dump(settings))
    records = Records.of(tmp_path / "results", config, settings_of(["fit", "--config", str(config)]))
    arguments = [str(config), "--results", str(tmp_path / "results"), "--output", str(empty)]
    assert script.main(arguments) == 2
    assert "results/mnist/tiny.csv has no records of mnist/tiny; write them with" in capsys.readouterr().err
    records.add({seed: {"val/acc": value, "test/acc": "0.5"} for seed, value in ((0, "0.8"), (3, "0.9"), (4, "0.9"))})

    assert script.main(arguments) == 0

    entry = weights.read_manifest()["mnist/tiny"]
    assert (entry["seed"], entry["hash"]) == (3, records.hash)
    assert entry["metrics"].keys() == {"val/acc", "val/loss", "test/acc", "test/loss"}
    file = weights.find("mnist")
    assert file == weights.file_of("mnist/tiny")
    card = file.with_name("tiny.safetensors.md").read_text()
    assert "# FastCNN on MNIST" in card and f"{100 * entry['metrics']['test/acc']:.2f} %" in card
    assert not re.search(r'": "(/|~)', json.dumps(checkpoints.read_description(file)))  # no folder of this machine


def test_the_script_takes_only_the_run_of_the_record(empty, fit, cli, tmp_path, monkeypatch, capsys):
    script, name = load("weights"), "mnist/fast"
    run = fit("mnist/fast.yaml", "--test", "true", "--seed_everything", 3)
    settings = settings_of(["fit", "--config", str(Run(run).config_file)])
    records = Records(tmp_path / "results/mnist/fast.csv", name, settings_hash(settings))
    monkeypatch.setattr(Records, "of", lambda *_: records)
    row = {name: f"{value:.6g}" for name, value in Run(run).read_test_metrics().items() if name.startswith("test/")}
    arguments = [name, "--results", str(tmp_path / "results"), "--output", str(empty), "--runs", str(run.parent)]

    records.add({3: row | {"val/acc": "0.5", "test/acc": "0.98765"}})
    assert script.main(arguments) == 2
    assert f"{run.parent} has no run of seed 3 as in {records.file}; leave out --runs to" in capsys.readouterr().err
    records.file.unlink()
    records.add({3: row | {"val/acc": "0.5"}})
    assert script.main(arguments) == 0
    assert weights.read_manifest()[name]["metrics"]["test/acc"] == pytest.approx(float(row["test/acc"]), abs=1e-6)


def test_shipped_weights_are_listed_described_and_of_the_present_configs():
    there = {weights.name_of(Path(file)) for file in Path(str(files("lightning_cnn"))).glob("weights/**/*.safetensors")}

    assert there == {*SHIPPED}
    for name, entry in SHIPPED.items():
        file = weights.find(name)
        assert file.with_name(f"{file.name}.md").is_file()
        assert entry["hash"] == settings_hash(settings_of(["fit", "--config", str(shipped_configs()[name])]))
        assert not re.search(r'": "(/|~)', json.dumps(checkpoints.read_description(file)))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_those_of_the_record_with_the_best_validation_metric(name):
    settings = settings_of(["fit", "--config", str(shipped_configs()[name])])
    records = Records.of(ROOT / "results", shipped_configs()[name], settings)
    seed = load("weights").best_seed(records, settings["checkpoints"]["monitor"], settings["checkpoints"]["mode"])
    (row,) = (row for row in records.read() if row["seed"] == str(seed))

    assert SHIPPED[name]["seed"] == seed
    for metric, value in SHIPPED[name]["metrics"].items():
        assert float(row[metric]) == pytest.approx(value, rel=1e-5)


def test_shipped_weights_are_few_bytes():
    assert sum(weights.file_of(name).stat().st_size for name in SHIPPED) <= 5_000_000
