import errno
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_cnn import __version__
from lightning_cnn.cli import COMMANDS, main, suggest

#: Arguments that are answered without importing torch, and the exit status of the answer.
QUICK = [((), 0), (("--help",), 0), (("-h",), 0), (("--version",), 0), (("fitt",), 2)]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_help_names_all_commands_and_examples(argv, capsys):
    assert main(argv) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("usage: lightning-cnn COMMAND [options]\n")
    assert all(f"\n  {name} " in printed for name in COMMANDS)
    assert "lightning-cnn fit --config configs/mnist/cnn.yaml" in printed


def test_version(capsys):
    assert main(["--version"]) == 0

    assert capsys.readouterr().out == f"lightning-cnn {__version__}\n"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("fitt", "; did you mean 'fit'?"),
        ("tset", "; did you mean 'test'?"),
        ("Validate", "; did you mean 'validate'?"),
        ("xyzzy", ""),
        ("--config", ""),
    ],
)
def test_an_unknown_command_is_named_with_a_way_out(word, hint, capsys):
    assert main([word]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"lightning-cnn: error: there is no command {word!r}{hint}; see lightning-cnn --help\n"


def test_suggestions_are_only_of_what_is_close():
    assert suggest("batchsize", ["batch_size", "val_size"]) == "; did you mean 'batch_size'?"
    assert suggest("zzz", ["batch_size", "val_size"]) == ""


@pytest.mark.parametrize(("argv", "status"), QUICK)
def test_quick_answers_do_not_wait_for_torch(argv, status):
    code = (
        "import sys; from lightning_cnn.cli import main; status = main(sys.argv[1:]); "
        "print(status, sorted({'torch', 'lightning', 'numpy', 'jsonargparse'} & set(sys.modules)), file=sys.stderr)"
    )
    answer = run(sys.executable, "-c", code, *argv)

    assert answer.stderr.splitlines()[-1] == f"{status} []"


@pytest.mark.parametrize(("argv", "status"), QUICK)
def test_script_and_module_agree(argv, status):
    script = run(str(Path(sys.executable).parent / "lightning-cnn"), *argv)
    module = run(sys.executable, "-m", "lightning_cnn", *argv)

    assert script.returncode == module.returncode == status
    assert (script.stdout, script.stderr) == (module.stdout, module.stderr)
    assert "Traceback" not in script.stderr


def test_the_data_command_gets_its_arguments(tmp_path, capsys):
    assert main(["data", "verify", "mnist", "--data_dir", str(tmp_path)]) == 1

    assert "MNIST is NOT complete" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])

    assert caught.value.code == 0
    usage = capsys.readouterr().out.splitlines()[0]
    assert usage.startswith("usage: lightning-cnn ")
    assert f" {command} " in usage


def test_short_class_names_are_known_without_a_config_that_imports_them():
    """In a process of its own: here, the tests have imported everything."""
    outcome = run(sys.executable, "-m", "lightning_cnn", "fit", "--model", "MLPClassifier", "--data", "MNISTDatModule")

    assert outcome.returncode == 2
    assert outcome.stderr.splitlines() == [
        "lightning-cnn: error: --data MNISTDatModule: there is no such data class; did you mean 'MNISTDataModule'?"
    ]


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    command = shlex.join(
        [sys.executable, "-m", "lightning_cnn", "data", "verify", "mnist", "--data_dir", str(tmp_path)]
    )

    outcome = run("sh", "-c", f"{command} | true")

    assert outcome.stderr == ""


def test_a_full_disk_is_one_line(monkeypatch, capsys):
    def full(argv):
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")

    monkeypatch.setattr("lightning_cnn.commands.data.main", full)

    assert main(["data"]) == 1
    assert capsys.readouterr().err == (
        "lightning-cnn: error: metrics.csv: No space left on device; free or choose another place\n"
    )
