import json
import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmark
from benchmarks.report import Table
from benchmarks.sections import Section
from lightning_cnn.errors import DataError, UserError


@pytest.fixture
def nothing_heavy(monkeypatch):
    """One section, `fast`, that measures two figures; no data and no process."""
    measurements = [{"seconds": 1.0}, {"seconds": 3.0}]
    section = Section("Fast things", lambda options: measurements, lambda runs: Table(["s"], [["2.0"]], "Median."))
    monkeypatch.setattr(benchmark, "SECTIONS", {"fast": section})
    monkeypatch.setattr(benchmark, "unpack", lambda *arguments: None)
    machine = {"cpu": "A CPU", "threads": 2, "gpu": None, "python": "3.11.7", "torch": "2.10", "lightning": "2.6.6"}
    monkeypatch.setattr(benchmark, "call", lambda function: machine)


def test_the_file_has_the_header_every_measurement_and_the_table(nothing_heavy, tmp_path, capsys):
    file = tmp_path / "figures.json"

    assert benchmark.main(["benchmark", "--repeats", "2", "--output", str(file)]) == 0

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


def test_a_trial_says_that_it_is_one(nothing_heavy, capsys):
    benchmark.main(["benchmark", "fast", "--limit_batches", "2", "--repeats", "1"])

    assert "1 repeat;" in (printed := capsys.readouterr().out)
    assert "ONLY 2 BATCHES of each loop" in printed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["system"],
            "'system' is not a section; did you mean 'systems'? "
            "(choose from systems, pipeline, accuracy, startup, machine, scale)",
        ),
        (
            ["systems", "--systems", "CNN", "MPL"],
            "'MPL' is not a system; did you mean 'MLP'? (choose from ShallowCNN, SimpleCNN, MLP, CNN, DeepCNN)",
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
            "'--repeat' is not an option; did you mean '--repeats'? (choose from --help, --repeats, --output, "
            "--overwrite, --systems, --data_dir, --allow_sample, --reference, --processes, --limit_batches)",
        ),
    ],
)
def test_wrong_arguments_are_one_clear_line(argv, message):
    with pytest.raises(UserError) as caught:
        benchmark.main(["benchmark", *argv])

    assert str(caught.value) == message
    assert caught.value.exit_status == 2


@pytest.fixture
def _no_work(monkeypatch):
    def work(*arguments):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(benchmark, "unpack", work)


@pytest.mark.usefixtures("_no_work")
def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/b\.json cannot be written \(no such file or directory\)"):
        benchmark.main(["benchmark", "startup", "--output", str(tmp_path / "nowhere" / "b.json")])
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        benchmark.main(["benchmark", "startup", "--output", str(tmp_path)])


@pytest.mark.usefixtures("_no_work")
def test_a_file_that_exists_is_refused_before_the_work(tmp_path):
    file = tmp_path / "figures.json"
    file.write_text("the work of weeks")

    with pytest.raises(UserError, match=r"figures\.json exists; add --overwrite to replace it, or name another$"):
        benchmark.main(["benchmark", "startup", "--output", str(file)])
    assert file.read_text() == "the work of weeks"


def test_a_file_that_exists_is_replaced_if_told_so(nothing_heavy, tmp_path):
    file = tmp_path / "figures.json"
    file.write_text("the work of weeks")

    assert benchmark.main(["benchmark", "--output", str(file), "--overwrite"]) == 0
    assert "Fast things" in file.read_text()


def test_missing_data_is_refused_before_the_work(tmp_path, monkeypatch):
    def load(facts, data_dir, allow_sample):
        raise DataError(f"{facts.title} is not in {data_dir}")

    monkeypatch.setattr(benchmark, "load", load)

    with pytest.raises(DataError, match=f"MNIST is not in {tmp_path}"):
        benchmark.main(["benchmark", "startup", "--data_dir", str(tmp_path)])


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from benchmarks.__main__ import main\n"
        "try: main(['benchmark', '--help'])\n"
        "finally: print(sorted({'torch', 'torchvision', 'lightning', 'jsonargparse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: scripts/benchmark")
    assert "systems|pipeline|accuracy|startup|machine|scale" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_contestants_run_as_processes(real_data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = tmp_path / "figures.json"

    argv = ["systems", "--systems", "MLP", "--repeats", "1", "--limit_batches", "2", "--output", str(file)]
    assert benchmark.main(["benchmark", *argv]) == 0

    (run,) = json.loads(file.read_text())["sections"]["systems"]["measurements"]
    assert [run[contestant]["train_images"] for contestant in ("plain", "ours", "bare")] == [128, 128, 128]
    assert 0 < run["ours"]["seconds"] < run["ours"]["first_step_seconds"] + run["ours"]["seconds"]
    assert run["ours"]["seconds"] < run["ours"]["process_seconds"]
    assert run["ours"]["precision"] in ("32-true", "bf16-mixed")
    assert "| MLP " in capsys.readouterr().out
