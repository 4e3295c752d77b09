import errno
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_cnn import __version__
from lightning_cnn.cli import COMMANDS, main
from lightning_cnn.errors import Interrupted


def run(*command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_help_names_all_commands_and_examples(argv, capsys):
    assert main(argv) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("usage: lightning-cnn COMMAND [options]\n")
    assert all(f"\n  {name} " in printed for name in COMMANDS)
    examples = printed.partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert "  lightning-cnn fit --config configs/mnist/cnn.yaml" in examples
    assert [line for line in examples if line.split()[1] not in COMMANDS] == []


def test_version(capsys):
    assert main(["--version"]) == 0

    assert capsys.readouterr().out == f"lightning-cnn {__version__}\n"


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("fitt", "; did you mean 'fit'?"),
        ("tset", "; did you mean 'test'?"),
        ("Validate", "; did you mean 'validate'?"),
        ("xyzzy", ""),
        ("train", "; did you mean 'fit'?"),  # the commands of other projects
        ("val", "; did you mean 'validate'?"),
        ("eval", "; did you mean 'test'?"),
        ("tune", "; did you mean 'sweep'?"),
        ("infer", "; did you mean 'predict'?"),
        ("deploy", "; did you mean 'serve'?"),
        ("download", "; did you mean 'data'?"),
        ("--config", ""),
    ],
)
def test_an_unknown_command_is_named_with_a_way_out(command, hint, capsys):
    assert main([command]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"lightning-cnn: error: there is no command {command!r} (see `lightning-cnn --help`){hint}\n"


#: Prints, after each command and import, which of the packages that take long to import are imported.
LIGHT = """
import io, sys
from contextlib import redirect_stdout
from importlib import import_module
from lightning_cnn.cli import main

def show(what):
    slow = ["torch", "lightning", "jsonargparse", "optuna", "sqlalchemy", "numpy"]
    print(what, *(name for name in slow if name in sys.modules))

for argv in ([], ["--help"], ["-h"], ["--version"], ["fitt"]):
    with redirect_stdout(io.StringIO()):
        status = main(argv)
    show(f"{argv} {status}")
for module in ("run", "commands.predict"):
    import_module(f"lightning_cnn.{module}")
    show(module)
with redirect_stdout(io.StringIO()):
    main(["sweep", "--help"])
show("sweep --help")
"""


def test_quick_answers_do_not_wait_for_what_takes_long_to_import():
    answer = run(sys.executable, "-c", LIGHT)

    assert answer.stdout.splitlines() == [
        "[] 0",
        "['--help'] 0",
        "['-h'] 0",
        "['--version'] 0",
        "['fitt'] 2",
        "run numpy",
        "commands.predict numpy",
        "sweep --help numpy",
    ]


@pytest.mark.parametrize(("argument", "status"), [("--version", 0), ("fitt", 2)])
def test_script_and_module_agree(argument, status):
    script = run(str(Path(sys.executable).parent / "lightning-cnn"), argument)
    module = run(sys.executable, "-m", "lightning_cnn", argument)

    assert script.returncode == module.returncode == status
    assert (script.stdout, script.stderr) == (module.stdout, module.stderr)
    assert "Traceback" not in script.stderr


def test_output_in_ascii_is_readable(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")

    answer = run(sys.executable, "-m", "lightning_cnn", "sweep", "--help")

    assert answer.returncode == 0, answer.stderr
    assert "--seed_everything 0 to K - 1;" in " ".join(answer.stdout.split())


def test_a_deleted_current_folder_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    assert main(["fit", "last"]) == 2
    assert "error: the current folder has been deleted; change to another one" in capsys.readouterr().err


def test_a_very_long_name_is_shortened(capsys):
    assert main(["x" * 10_000]) == 2
    assert len(capsys.readouterr().err) < 500


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0

    usage = capsys.readouterr().out.splitlines()[0]
    assert usage.startswith("usage: lightning-cnn ")
    assert f" {command} " in usage


def test_a_closed_pipe_is_no_error(tmp_path):
    command = shlex.join(
        [sys.executable, "-m", "lightning_cnn", "data", "verify", "mnist", "--data_dir", str(tmp_path)]
    )

    outcome = run("sh", "-c", f"{command} | true")

    assert outcome.stderr == ""


def test_a_file_name_that_is_no_text_is_escaped():
    done = run(sys.executable, "-m", "lightning_cnn", "data", "verify", "mnist", "--data_dir", "\udcff")

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("MNIST in \\udcff/MNIST/raw\n")


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def interrupted(argv):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr("lightning_cnn.commands.data.main", interrupted)

    assert main(["data", "verify", "mnist"]) == 130
    assert capsys.readouterr().err == "lightning-cnn: stopped by SIGINT\n"


@pytest.mark.parametrize(
    ("number", "status", "way_out"),
    [
        (errno.ENOSPC, 1, "free space, or choose another folder"),
        (errno.EFBIG, 1, "free space, or choose another folder"),
        (errno.EMFILE, 1, "allow this process more open files, with `ulimit -n`"),
        (errno.ENAMETOOLONG, 2, "give a shorter path"),
    ],
    ids=errno.errorcode.get,
)
def test_a_full_disk_and_other_limits_are_one_line(monkeypatch, capsys, number, status, way_out):
    def full(argv):
        raise OSError(number, "It is full", "metrics.csv")

    monkeypatch.setattr("lightning_cnn.commands.data.main", full)

    assert main(["data"]) == status
    assert capsys.readouterr().err == f"lightning-cnn: error: metrics.csv: It is full; {way_out}\n"


# What a command imports, and how it leaves


#: Reaches nothing outside this machine, and runs commands: prints the status, what was imported for it, and whether
#: garbage is collected.
COMMANDS_OF_ONE_PROCESS = """
import gc, json, socket, sys

def refuse(*_):
    raise OSError("no network")

socket.socket.connect = socket.getaddrinfo = refuse
from lightning_cnn.cli import main

for argv in json.loads(sys.argv[1]):
    status = main(argv)
    imported = [name for name in ("matplotlib", "scipy", "torchvision") if name in sys.modules]
    print(json.dumps([status, imported, gc.isenabled(), gc.get_freeze_count()]))
import torch, torchvision
from torchmetrics.classification import MulticlassAccuracy
metric = MulticlassAccuracy(3)
metric.update(torch.eye(3), torch.arange(3))
figure, axes = metric.plot()
assert axes in figure.axes
assert torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5).tolist() == [0]
"""


def test_a_process_imports_what_its_commands_need(configs, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    fit = ["fit", "--config", str(configs / "fashion_mnist/mlp.yaml"), "--data", "MNISTDataModule"]
    fit += ["--data.data_dir", "empty", "--data.allow_sample=true", "--dashboard.enabled", "false"]
    fit += ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.precision=32-true"]
    wrong = ["fit", "--model", "MLPClassifier", "--data", "MNISTDatModule"]  # before a config imports these classes
    plain = [*fit, "--plots.enabled", "false"]

    done = run(sys.executable, "-c", COMMANDS_OF_ONE_PROCESS, json.dumps([wrong, plain, fit]), timeout=300)

    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        "lightning-cnn: error: --data MNISTDatModule: there is no such data class; did you mean 'MNISTDataModule'?"
    )
    assert "THIS IS A SAMPLE" in done.stderr
    refused, without_pictures, with_pictures = (json.loads(n) for n in done.stdout.splitlines() if n.startswith("["))
    assert refused == [2, [], True, 0]
    assert without_pictures == [0, [], True, 0]
    assert (with_pictures[0], with_pictures[2:]) == (0, [True, 0])
    assert "matplotlib" in with_pictures[1]
    assert list(Path("logs").rglob("plots/*.png")) != []


def exit_of(program: str) -> subprocess.CompletedProcess[str]:
    """Run a process whose command is `command()` of a program."""
    return run(
        sys.executable, "-c", f"{program}\nfrom lightning_cnn import cli\ncli.main = command\ncli.run()", timeout=10
    )


def test_threads_and_atexit_functions_run_before_the_exit():
    done = exit_of(
        """
import atexit, logging, sys, threading, time

def command():
    with open("text", "w") as file:
        file.write("x" * 100_000)
    atexit.register(print, "registered first")
    atexit.register(print, "registered last")
    threading.Thread(target=work).start()
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    print("command")
    print("error", end="", file=sys.stderr)
    return 3

def work():
    time.sleep(0.2)
    print("thread")
"""
    )

    assert done.stdout.splitlines() == ["command", "thread", "registered last", "registered first"]
    assert done.stderr == "error"
    assert done.returncode == 3
    assert Path("text").stat().st_size == 100_000


def test_output_that_is_closed_is_dropped():
    program = "import sys\nfrom lightning_cnn import cli\ncli.main = lambda: print(sys.stdout.encoding) or 0\ncli.run()"
    done = run("sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, program, timeout=10)

    assert done.returncode == 0


def test_a_thread_started_by_a_thread_ends_before_the_exit():
    done = exit_of(
        """
import threading, time

def first():
    time.sleep(0.1)
    threading.Thread(target=second).start()

def second():
    time.sleep(0.2)
    print("second")

def command():
    threading.Thread(target=first).start()
    return 0
"""
    )

    assert done.stdout == "second\n"


@pytest.mark.parametrize("scope", ["", "global pool"], ids=["local", "global"])
def test_a_thread_pool_ends_before_the_exit(scope):
    done = exit_of(
        f"""
import time
from concurrent.futures import ThreadPoolExecutor

def command():
    {scope}
    pool = ThreadPoolExecutor(1)
    for number in range(3):
        pool.submit(work, number)
    return 0

def work(number):
    time.sleep(0.05)
    print(number)
"""
    )

    assert done.stdout.split() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("error", "status", "last"),
    [
        ("SystemExit(5)", 5, ""),
        ("SystemExit('sorry')", 1, "sorry"),
        ("ZeroDivisionError('a bug')", 1, "ZeroDivisionError: a bug"),
    ],
)
def test_exit_status_of_a_command_that_raises(error, status, last):
    done = exit_of(f"def command():\n    print('output')\n    raise {error}")

    assert (done.returncode, done.stdout) == (status, "output\n")
    assert (done.stderr.splitlines() or [""])[-1] == last
