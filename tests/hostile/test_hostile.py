"""A share of the cases of `scripts/hostile`, and that it notices what it is to notice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, unmeasured
from hostile import common
from hostile.common import Case, attempt


def test_a_share_of_all_cases_is_withstood(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/hostile"), "--every", "127"],
        capture_output=True,
        text=True,
        env=unmeasured(TMPDIR=str(tmp_path)),
        timeout=250,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-5000:]


def _refuse(argv):
    print("lightning-cnn: error: no", file=sys.stderr)
    return 2


def _write_outside(argv):
    Path("../outside/evil").write_text("evil")
    return _refuse(argv)


def _write_anywhere(argv):
    Path(argv[0]).mkdir()
    return _refuse(argv)


def _leave_a_process(argv):
    if os.fork() == 0:
        os.setsid()
        os.execv("/bin/sleep", ["sleep", "100"])
    return _refuse(argv)


def _run_a_program(argv):
    os.system("true")
    return _refuse(argv)


def _use_memory(argv):
    assert len(bytes(200_000_000).replace(b"\0", b"\1")) > 0
    return _refuse(argv)


def _use_time(argv):
    while sum(os.times()[:2]) < 1:
        pass
    return _refuse(argv)


FAULTS = {
    "wrote outside/evil": _write_outside,
    "wrote work/answer": lambda argv: Path("answer").write_text("evil") and _refuse(argv),
    "os.mkdir": _write_anywhere,
    "processes stay": _leave_a_process,
    "ran os.system": _run_a_program,
    "used": _use_memory,
    "took": _use_time,
    "status 0, 0 errors": lambda argv: 0,
    "status 70, 0 errors": lambda argv: 1 / 0,
    "status 2, 2 errors": lambda argv: _refuse(argv) and _refuse(argv),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_cnn.cli.main", FAULTS[fault])
    monkeypatch.setattr(common, "PATIENCE", 0.3)
    monkeypatch.setattr(common, "CPU_SECONDS", 0.5 if fault == "took" else 60)
    monkeypatch.setattr(common, "MEMORY", common.MEMORY if fault != "used" else 200_000_000)
    case = Case("case", (str(tmp_path / "elsewhere"),), lambda folder: None, starts=fault == "processes stay")
    (tmp_path / "here").mkdir()

    assert fault in attempt(case, tmp_path / "here").fault


def test_a_case_that_is_refused_has_no_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_cnn.cli.main", lambda argv: Path("answer").write_text("yes") and _refuse(argv))
    monkeypatch.setattr(common, "MEMORY", 10**10)

    assert attempt(Case("case", (), lambda folder: None, writes=("ans*",)), tmp_path).fault == ""
