import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import postgresql
import pytest
from sweep import scenario


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    with postgresql.server() as running:
        yield running


def shown(address: str) -> str:
    """Return how messages show an address."""
    return f"postgresql://{postgresql.USER}:***@{address}"


def assert_fails_in_one_line(worker: "subprocess.Popen[str]", address: str, reason: str) -> None:
    _, errors = worker.communicate(timeout=scenario.TIMEOUT)

    assert worker.returncode == 1, errors
    (line,) = errors.splitlines()
    assert line.startswith(f"lightning-cnn: error: storage {shown(address)}: ")
    assert reason in line
    assert not any(secret in line for secret in ("s3cret", "wr0ng"))


def test_two_workers_share_a_server_and_the_trial_of_a_killed_one_is_resumed(server, tmp_path):
    scenario.run(tmp_path, server.create_database("sweep"))


def test_errors_of_the_server_are_one_line_without_the_password(server, tmp_path):
    here, absent = f"127.0.0.1:{server.port}", postgresql.Server(postgresql.free_port())
    with (
        scenario.start(tmp_path, server.url(password="wr0ng/password")) as wrong_password,
        scenario.start(tmp_path, server.url("nowhere")) as no_database,
        scenario.start(tmp_path, absent.url()) as no_server,
    ):
        refused = f'password authentication failed for user "{postgresql.USER}"'
        assert_fails_in_one_line(wrong_password, f"{here}/postgres", refused)
        assert_fails_in_one_line(no_database, f"{here}/nowhere", 'database "nowhere" does not exist')
        assert_fails_in_one_line(no_server, f"127.0.0.1:{absent.port}/postgres", "Connection refused")


def test_a_restart_of_the_server_during_trials_is_survived(tmp_path: Path):
    with postgresql.server() as restarted, ExitStack() as stack:
        workers = [stack.enter_context(scenario.start(tmp_path, restarted.url())) for _ in range(2)]
        for worker in workers:
            scenario.until(lambda one=worker: scenario.trial_of(one, tmp_path))
        restarted.stop()
        (tmp_path / "go").touch()  # the trials end while the server is away
        address = shown(f"127.0.0.1:{restarted.port}/postgres")
        for worker in workers:
            scenario.read_until(worker, f"Storage {address} is away, tried again for 180 s: ")
        restarted.start()
        outcomes = [worker.communicate(timeout=scenario.TIMEOUT) for worker in workers]

    assert [(worker.returncode, errors) for worker, (_, errors) in zip(workers, outcomes, strict=True)] == [(0, "")] * 2
    states = Counter(row["state"] for row in scenario.results(tmp_path))
    resumed = sum(output.count("is resumed: it was interrupted") for output, _ in outcomes)
    # a connection that breaks in the middle of a transaction interrupts the trial, and the worker resumes it
    assert states == Counter({"complete": scenario.N_TRIALS, "interrupted": resumed})


def test_a_server_that_stays_away_ends_worker_and_trial(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SWEEP_PATIENCE", "1")
    with postgresql.server() as ending:
        stack = ExitStack()
        worker = stack.enter_context(scenario.start(tmp_path, ending.url()))
        trial = scenario.until(lambda: scenario.trial_of(worker, tmp_path))

    with stack:
        assert_fails_in_one_line(worker, f"127.0.0.1:{ending.port}/postgres", "connection")
    assert not scenario.is_alive(scenario.processes(tmp_path)[trial][0])
