import shutil
import subprocess

import pytest

from lightning_cnn.cli import COMMANDS, main

pytest.importorskip("shtab", reason="scripts/bootstrap has not installed it yet")


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """A function that returns what bash completes."""
    from lightning_cnn.completion import script

    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    path = tmp_path_factory.mktemp("completion") / "lightning-cnn"
    path.write_text(script("bash", COMMANDS))

    def complete(*words: str) -> list[str]:
        code = (
            'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
            '_shtab_lightning_cnn "$1" "${@: -1}"; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        command = ["bash", "-c", code, path, "lightning-cnn", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    return complete


def test_commands_are_completed(bash):
    assert set(bash("")) >= set(COMMANDS)
    assert bash("se") == ["serve"]


@pytest.mark.parametrize(
    ("command", "begun", "options"),
    [
        ("fit", "--trainer.max_e", ["--trainer.max_epochs"]),
        ("fit", "--model.optimizer", ["--model.optimizer.lr"]),
        ("test", "--verb", ["--verbose"]),
        ("sweep", "--n_", ["--n_trials"]),
        ("predict", "--inv", ["--invert"]),
        ("data", "--allow", ["--allow_sample"]),
    ],
)
def test_options_of_commands_are_completed(bash, command, begun, options):
    assert bash(command, begun) == options


def test_values_are_completed(bash):
    assert bash("predict", "--format", "j") == ["json"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell, capsys):
    assert main(["--print_shtab", shell]) == 0

    printed = capsys.readouterr().out
    assert "trainer.max_epochs" in printed
    assert "%(default)s" not in printed


@pytest.mark.parametrize("given", [["ksh"], []])
def test_an_unknown_shell_is_refused(given, capsys):
    assert main(["--print_shtab", *given]) == 2

    assert "must be one of bash, " in capsys.readouterr().err
