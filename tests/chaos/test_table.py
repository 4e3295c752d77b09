"""The table of `scripts/chaos`."""

import sys
from pathlib import Path

import pytest
from chaos.common import Outcome
from script import load


@pytest.fixture
def chaos(monkeypatch, capsys):
    """Run the script with two stub faults, and return the exit status, the table, stderr and the calls."""
    calls = []

    def fault(lost):
        def run(tries: int, seed: int, folder: Path) -> Outcome:
            assert folder.is_dir() and not list(folder.iterdir())
            calls.append((tries, seed))
            print("output of a command")
            return Outcome(f"fault with {lost} lost", tries, [f"loss {number}" for number in range(lost)])

        return run

    def run(*arguments):
        script = load("chaos")
        monkeypatch.setattr(script, "FAULTS", {"good": (fault(0), 1000), "bad": (fault(2), 50)})
        monkeypatch.setattr(sys, "argv", ["chaos", *arguments])
        status = script.main()
        out, err = capsys.readouterr()
        return status, [line.rpartition("|")[0].rpartition("|")[0] for line in out.splitlines()[2:]], err, calls

    return run


def test_every_fault_has_a_row(chaos):
    status, rows, err, calls = chaos()

    assert status == 1
    assert rows == ["| fault with 0 lost | 1,000 | 1,000 | 0 ", "| fault with 2 lost | 50 | 48 | 2 "]
    assert err.splitlines() == ["bad: loss 0", "bad: loss 1"]
    assert calls == [(1000, 0), (50, 0)]


def test_a_share_of_the_tries_of_some_faults(chaos):
    status, rows, err, calls = chaos("good", "--share", "0.01", "--seed", "3")

    assert (status, len(rows), err.strip()) == (0, 1, "")
    assert calls == [(10, 3)]


@pytest.mark.parametrize(("arguments", "reason"), [(["goood"], "no fault 'goood'"), (["--share", "0"], "--share must")])
def test_invalid_arguments_are_refused(chaos, capsys, arguments, reason):
    with pytest.raises(SystemExit) as left:
        chaos(*arguments)

    assert left.value.code == 2
    assert reason in capsys.readouterr().err


def test_every_fault_is_one_that_there_is():
    for function, tries in load("chaos").FAULTS.values():
        assert callable(function) and tries > 0
