import re
import subprocess
import sys
from pathlib import Path

import forks
import pytest
from checkout import ROOT
from script import load

gpu_check = load("gpu_check")
FIT = gpu_check.fit


@pytest.fixture
def check(monkeypatch, capsys):
    """Run the script in this process, with forks as its own; returns its exit status, its report and its stderr."""
    monkeypatch.setattr(subprocess, "Popen", forks.Popen)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scripts/gpu_check", "--output", "report.md", *arguments])
        status = gpu_check.main()
        return status, Path("report.md").read_text(), capsys.readouterr().err

    return run


def test_a_system_is_trained_tested_and_resumed_on_the_cpu(check, monkeypatch):
    plain = ["--plots.enabled=false", "--dashboard.enabled=false"]
    monkeypatch.setattr(gpu_check, "fit", lambda *arguments: [*FIT(*arguments), *plain])
    monkeypatch.setattr(gpu_check, "SYSTEMS", ("fashion_mnist/shallow_cnn.yaml",))  # two epochs

    status, report, _ = check("systems", "--accelerator", "cpu", "--allow_sample", "--limit_batches", "2")

    assert status == 0, report
    titles = re.findall("^### (.*), [0-9]+ s$", report, re.MULTILINE)
    assert titles == ["fashion_mnist/shallow_cnn.yaml: passed", "fashion_mnist/shallow_cnn.yaml, resumed: passed"]
    assert report.count("test_metrics.json") == 2
    assert "/tmp" not in report


def test_a_failure_is_reported_and_does_not_end_the_check(check, monkeypatch):
    steps = [gpu_check.Step("Bad", ["-c", "print('why'); raise SystemExit(3)"]), gpu_check.Step("Good", ["-c", ""])]

    def part(options):
        """A part."""
        return steps

    monkeypatch.setattr(gpu_check, "PARTS", {"part": part})

    status, report, err = check()

    assert status == 1
    assert re.search("## A part.\n\n### Bad: FAILED with exit status 3, [0-9]+ s\n\n```text\nwhy\n```", report)
    assert "### Good: passed" in report
    assert err.splitlines()[-2:] == ["failed: part: Bad", "written: report.md"]


@pytest.mark.parametrize(("change", "status"), [(0, 0), (1, 1)], ids=["same", "different"])
def test_weights_are_compared(change, status, check, monkeypatch, tmp_path):
    import torch

    files = [tmp_path / "a.ckpt", tmp_path / "b.ckpt"]
    for number, file in enumerate(files):
        torch.save({"state_dict": {"weight": torch.full((3,), float(number * change))}}, file)
    step = gpu_check.Step("Compare", ["-c", gpu_check.COMPARE, *map(str, files)])
    monkeypatch.setattr(gpu_check, "PARTS", {"part": lambda options: [step]})

    assert check()[0] == status


def test_all_that_it_names_is_there():
    configs = (*gpu_check.SYSTEMS, *gpu_check.FAST)

    assert [path for path in gpu_check.TESTS if not (ROOT / path).exists()] == []
    assert [config for config in configs if not Path(gpu_check.shipped(config)).is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nonsense"],
            "there is no part 'nonsense' (choose from machine, tests, systems, deterministic, fast, benchmark)",
        ),
        (["--wheels", "."], "--wheels .: there are no wheels in it"),
        (["--wheels", "bad"], "--wheels bad: pip cannot install them ("),
        (["--output", "."], "--output . is a folder; give a file"),
        (["--data_dir", "nowhere"], "--data_dir nowhere: there is no such folder"),
        (["--limit_batches", "0"], "--limit_batches: must be a whole number of at least 1, got '0'"),
        (["--output", "nowhere/report.md"], "--output nowhere/report.md: there is no such folder"),
    ],
)
def test_what_would_fail_later_is_refused(arguments, message, check, capsys):
    Path("bad").mkdir()
    Path("bad/broken-1.0-py3-none-any.whl").write_text("no archive")

    with pytest.raises(SystemExit) as ended:
        check(*arguments)

    assert ended.value.code == 2
    assert message in capsys.readouterr().err
