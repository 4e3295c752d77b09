import subprocess
from collections.abc import Iterator
from pathlib import Path

import postgresql
import pytest
from sweep import scenario


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    with postgresql.server() as running:
        yield running


def assert_failed_in_one_line(worker: "subprocess.Popen[str]", address: str, reason: str) -> None:
    _, errors = worker.communicate(timeout=scenario.TOO_LONG)

    assert worker.returncode == 1, errors
    (line,) = errors.splitlines()
    assert line.startswith(f"lightning-cnn: error: storage postgresql://{postgresql.USER}:***@{address}: ")
    assert reason in line
    assert not any(secret in line for secret in ("s3cret", "wr0ng"))


def test_two_workers_share_a_server_and_the_trial_of_a_killed_one_is_resumed(server, tmp_path):
    scenario.run(tmp_path, server.create_database("sweep"))


def test_a_wrong_password_is_one_line_that_does_not_tell_it(server, tmp_path):
    worker = scenario.start(tmp_path, server.url(password="wr0ng/password"))

    reason = f'password authentication failed for user "{postgresql.USER}"'
    assert_failed_in_one_line(worker, f"127.0.0.1:{server.port}/postgres", reason)


def test_a_database_that_is_not_there_is_one_line(server, tmp_path):
    worker = scenario.start(tmp_path, server.url("nowhere"))

    assert_failed_in_one_line(worker, f"127.0.0.1:{server.port}/nowhere", 'database "nowhere" does not exist')


def test_a_server_that_is_down_is_one_line(tmp_path):
    nobody = postgresql.Server(postgresql.free_port())

    assert_failed_in_one_line(
        scenario.start(tmp_path, nobody.url()), f"127.0.0.1:{nobody.port}/postgres", "Connection refused"
    )


def test_a_server_that_goes_down_in_the_middle_of_a_trial_ends_worker_and_trial(tmp_path: Path):
    with postgresql.server() as dying:
        worker = scenario.start(tmp_path, dying.url())
        trial = scenario.until(lambda: scenario.trial_of(worker, tmp_path))

    assert_failed_in_one_line(worker, f"127.0.0.1:{dying.port}/postgres", "connection")
    assert not scenario.is_alive(scenario.processes(tmp_path)[trial][0])
