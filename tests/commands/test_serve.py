import os
import socket
from importlib.util import find_spec

import pytest

from lightning_cnn.commands import serve
from lightning_cnn.errors import install_extra


@pytest.fixture
def no_server(monkeypatch):
    """Replace the server by a list of what it was started with."""
    started = []
    monkeypatch.setattr("lightning_cnn.serve.server.serve", lambda *arguments: started.append(arguments))
    return started


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve"], "the following arguments are required: MODEL"),
        (["serve", "nowhere.ckpt"], "checkpoint nowhere.ckpt does not exist"),
        (["demo"], "no matching run has a checkpoint best.ckpt"),
        (["serve", "a", "--port", "65536"], "--port: must be a whole number from 0 to 65535, got '65536'"),
        (["serve", "a", "--workers", "0"], "--workers: must be a whole number from 1 to 64, got '0'"),
        (["serve", "a", "--timeout", "0"], "--timeout: must be a whole number from 1 to 3600, got '0'"),
        (["serve", "a", "--max_pixels", "50000001"], "--max_pixels: must be a whole number from 1 to 50000000"),
        (["serve", "a", "--worker", "2"], "did you mean '--workers'?"),
        (["demo", "text.ckpt", "--port", "0"], "text.ckpt cannot be read as a checkpoint"),
        (["serve", "text.ckpt", "--port", "0", "--workers", "2"], "text.ckpt cannot be read as a checkpoint"),
        (["serve", "text.ckpt", "--host", "203.0.113.1"], "cannot listen on 203.0.113.1, port 8000"),
        (["serve", "text.ckpt", "--host", "127.0.0..1"], "cannot listen on 127.0.0..1 (a part of this name is empty"),
        (["serve", "text.ckpt", "--host", 70 * "a" + ".org"], "a part of this name is empty or too long"),
    ],
)
def test_wrong_arguments_are_named(cli, arguments, message, tmp_path):
    (tmp_path / "text.ckpt").write_text("hello")

    outcome = cli(*arguments)

    assert outcome.status == 2
    assert message in outcome.err and outcome.err.count("\n") == 1


def test_a_port_that_is_taken_is_named(cli, tmp_path):
    (tmp_path / "text.ckpt").write_text("hello")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = cli("serve", "text.ckpt", "--port", port)

    assert outcome.status == 2
    assert (
        f"cannot listen on 127.0.0.1, port {port} (address already in use); choose another --host or --port"
        in outcome.err
    )


@pytest.mark.parametrize(("package", "name"), [("fastapi", "fastapi"), ("python_multipart", "python-multipart")])
def test_a_missing_extra_is_one_line(cli, package, name, monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda wanted: None if wanted == package else find_spec(wanted))

    outcome = cli("serve", "a")

    assert outcome.status == 2
    assert outcome.err == f"lightning-cnn: error: a server needs {name}; {install_extra('serve')}\n"


def test_only_this_machine_is_answered_unless_another_address_is_given(cli, tmp_path, no_server, monkeypatch):
    (tmp_path / "a.ckpt").write_text("hello")

    alone, open_to_all = (cli("serve", "a.ckpt", "--port", 0, *flags) for flags in ([], ["--host", "0.0.0.0"]))
    monkeypatch.setenv("LIGHTNING_CNN_API_KEY", "s3cret")
    with_key = cli("serve", "a.ckpt", "--port", 0, "--host", "0.0.0.0")

    assert [started[1].getsockname()[0] if started[1].fileno() > 0 else "" for started in no_server] == ["", "", ""]
    assert [started[0].local for started in no_server] == [True, False, False]
    assert [bool(started[0].key) for started in no_server] == [False, False, True]
    assert "Anyone who can reach http://0.0.0.0:" in open_to_all.out
    assert alone.out == with_key.out == ""


def test_the_options_reach_the_server(cli, tmp_path, no_server):
    for name in ("a.ckpt", "b.ckpt"):
        (tmp_path / name).write_text("hello")
    options = {"max_mib": 1, "max_images": 2, "max_pixels": 3, "max_waiting": 4, "timeout": 5, "workers": 6}

    cli("demo", "a.ckpt", "b.ckpt", "--port", 0, *(f"--{name}={value}" for name, value in options.items()))

    settings, _, title, workers, access_log = no_server[0]
    assert list(settings.files) == ["a", "b"] and settings.page
    assert vars(settings.limits) == {
        **{"max_bytes": 2**20, "max_images": 2, "max_pixels": 3, "max_waiting": 4, "timeout": 5},
    }
    assert title.startswith("a, b: http://127.0.0.1:") and not title.endswith(":0")
    assert (workers, access_log) == (6, False)
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


def test_counts_of_another_program_are_left_alone(no_server, cli, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (tmp_path / "a.ckpt").touch()

    assert cli("serve", "a.ckpt", "--port", "0").status == 0
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
