import json
import subprocess
import sys

import pytest
from checkout import ROOT

from benchmarks import __main__ as benchmark
from benchmarks.report import Table
from benchmarks.sections import Section
from lightning_cnn.data import sources
from lightning_cnn.errors import DataError, UserError


@pytest.fixture
def _machine(monkeypatch):
    machine = {"cpu": "A CPU", "threads": 2, "gpu": None, "python": "3.11.7", "torch": "2.10", "lightning": "2.6.6"}
    monkeypatch.setattr(benchmark, "call", lambda function: machine)


@pytest.fixture
def nothing_heavy(_machine, monkeypatch):
    """One section, `fast`, with two measurements; neither data nor a process."""
    measurements = [{"seconds": 1.0}, {"seconds": 3.0}]
    section = Section("Fast things", lambda options: measurements, lambda runs: Table(["s"], [["2.0"]], "Median."))
    monkeypatch.setattr(benchmark, "SECTIONS", {"fast": section})
    monkeypatch.setattr(benchmark, "write_uncompressed", lambda *arguments: None)


def test_the_file_has_the_header_every_measurement_and_the_table(nothing_heavy, tmp_path, capsys):
    file = tmp_path / "record.json"

    assert benchmark.main(["--repeats", "2", "--output", str(file)]) == 0

    record = json.loads(file.read_text())
    assert record.keys() == {"machine", "date", "repeats", "limit_batches", "sections"}
    assert (record["machine"]["cpu"], record["repeats"], record["limit_batches"]) == ("A CPU", 2, None)
    assert record["sections"] == {
        "fast": {
            "title": "Fast things",
            "measurements": [{"seconds": 1.0}, {"seconds": 3.0}],
            "table": {"columns": ["s"], "rows": [["2.0"]], "note": "Median."},
        }
    }
    printed = capsys.readouterr().out
    assert printed.startswith("A CPU, 2 threads; Python 3.11.7, torch 2.10, lightning 2.6.6; 2 repeats; 2")
    assert "## Fast things\n\n| s   |\n|-----|\n| 2.0 |\n\nMedian.\n" in printed


def test_limited_loops_are_announced_as_such(nothing_heavy, capsys):
    benchmark.main(["fast", "--limit_batches", "2", "--repeats", "1"])

    assert "1 repeat;" in (printed := capsys.readouterr().out)
    assert "ONLY 2 BATCHES of each loop" in printed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["system"],
            "'system' is not a section "
            "(choose from systems, pipeline, accuracy, startup, machine, operators, load, precision, folder, scale, "
            "one_image, serve); did you mean 'systems'?",
        ),
        (
            ["systems", "--systems", "CNN", "MPL"],
            "'MPL' is not a system (choose from ShallowCNN, SimpleCNN, MLP, CNN, DeepCNN); did you mean 'MLP'?",
        ),
        (
            ["--repeats", "0"],
            "argument --repeats: must be a whole number of at least 1, got '0' (see `scripts/benchmark --help`)",
        ),
        (
            ["--reference", "no"],
            "argument --reference: must be true or false, got 'no' (see `scripts/benchmark --help`)",
        ),
        (
            ["scale", "--processes", "2", "3"],
            "argument --processes: must be at least 2 and divide a batch of 64 images, got '3' "
            "(see `scripts/benchmark --help`)",
        ),
        (
            ["--processes", "1"],
            "argument --processes: must be at least 2 and divide a batch of 64 images, got '1' "
            "(see `scripts/benchmark --help`)",
        ),
        (
            ["--repeat=2"],
            "'--repeat' is not an option (choose from --help, --repeats, --seeds, --output, "
            "--overwrite, --systems, --data_dir, --allow_sample, --reference, --processes, --models, --limit_batches); "
            "did you mean '--repeats'?",
        ),
    ],
)
def test_wrong_arguments_are_one_clear_line(argv, message):
    with pytest.raises(UserError) as caught:
        benchmark.main(argv)

    assert str(caught.value) == message
    assert caught.value.exit_status == 2


@pytest.fixture
def _no_work(monkeypatch):
    def work(*arguments):
        raise AssertionError("the measurements have begun")

    monkeypatch.setattr(benchmark, "write_uncompressed", work)


@pytest.mark.usefixtures("_no_work")
def test_a_file_that_cannot_be_written_is_refused_before_the_measurements(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/b\.json cannot be written \(no such file or directory\)"):
        benchmark.main(["startup", "--output", str(tmp_path / "nowhere" / "b.json")])
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        benchmark.main(["startup", "--output", str(tmp_path)])


@pytest.mark.usefixtures("_no_work")
def test_a_file_that_exists_is_refused_before_the_measurements(tmp_path):
    file = tmp_path / "record.json"
    file.write_text("the work of weeks")

    with pytest.raises(UserError, match=r"record\.json exists; add --overwrite to replace it, or name another$"):
        benchmark.main(["startup", "--output", str(file)])
    assert file.read_text() == "the work of weeks"


def test_a_file_that_exists_is_replaced_with_overwrite(nothing_heavy, tmp_path):
    file = tmp_path / "record.json"
    file.write_text("the work of weeks")

    assert benchmark.main(["--output", str(file), "--overwrite"]) == 0
    assert "Fast things" in file.read_text()


def test_missing_data_is_refused_before_the_measurements(tmp_path, monkeypatch):
    def load(facts, data_dir, allow_sample):
        raise DataError(f"{facts.title} is not in {data_dir}")

    monkeypatch.setattr(sources, "load", load)

    with pytest.raises(DataError, match=f"MNIST is not in {tmp_path}"):
        benchmark.main(["startup", "--data_dir", str(tmp_path)])


def test_help_does_not_import_torch():
    code = (
        "import sys; from benchmarks.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({'torch', 'torchvision', 'lightning', 'jsonargparse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: scripts/benchmark")
    assert "systems, pipeline, accuracy, startup, machine, operators, load, precision, folder, scale" in " ".join(
        done.stdout.split()
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.usefixtures("_machine")
def test_the_loops_run_as_processes(real_data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = tmp_path / "record.json"

    argv = ["systems", "--systems", "MLP", "--repeats", "1", "--limit_batches", "2", "--output", str(file)]
    assert benchmark.main(argv) == 0

    (run,) = json.loads(file.read_text())["sections"]["systems"]["measurements"]
    assert [run[loop]["train_images"] for loop in ("plain", "fit", "bare")] == [128, 128, 128]
    assert 0 < run["fit"]["first_step_seconds"] < run["fit"]["process_seconds"]
    assert 0 < run["fit"]["seconds"] < run["fit"]["process_seconds"]
    assert run["fit"]["precision"] in ("32-true", "bf16-mixed")
    assert "| MLP " in capsys.readouterr().out


def test_an_error_is_one_line_from_any_folder(tmp_path):
    """Even from a folder with a package of the same name, and from a checkout whose path has a space."""
    checkout, elsewhere = tmp_path / "check out", tmp_path / "elsewhere"
    for name in ("benchmarks", "lightning_cnn", "scripts/benchmark"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).symlink_to(ROOT / name)
    (checkout / "scripts/bootstrap").write_text("#!/bin/sh\n")
    (checkout / "scripts/bootstrap").chmod(0o755)
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (checkout / ".venv/bin/python").chmod(0o755)
    (elsewhere / "benchmarks").mkdir(parents=True)
    (elsewhere / "benchmarks/__init__.py").write_text("raise RuntimeError('a package of somebody else')\n")

    done = subprocess.run(
        [checkout / "scripts/benchmark", "systms"],
        cwd=elsewhere,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("scripts/benchmark: error: 'systms' is not a section (choose from systems, ")
    assert done.stderr.count("\n") == 1
