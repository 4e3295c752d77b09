import json
import signal
import subprocess
import sys
import threading

import pytest
from torch.distributed import HashStore

from lightning_cnn.errors import DivergenceError, Interrupted, UserError
from lightning_cnn.training.distributed import PeerFailureError, PeerProcesses
from lightning_cnn.training.failure_store import Failure, FailureStore

LOST = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:34207.")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in (
        "RANK",
        "LOCAL_RANK",
        "NODE_RANK",
        "TORCHELASTIC_RUN_ID",
        "TORCHELASTIC_USE_AGENT_STORE",
        "TORCHELASTIC_ERROR_FILE",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def process(monkeypatch):
    """Make one of several processes, which share a store."""
    store = HashStore()
    monkeypatch.setattr("lightning_cnn.training.distributed._LINGER", 0.0)

    def make(rank):
        peers = PeerProcesses()
        peers._rank = rank
        peers._store = FailureStore(store)
        return peers

    return make


def fail(peers, error):
    """Return the error that is raised in place of this one."""
    with pytest.raises((Exception, Interrupted)) as raised, peers.supervise():
        raise error
    return raised.value


@pytest.mark.parametrize("error", [UserError("wrong"), DivergenceError("nan"), OSError(28, "full"), KeyError("bug")])
def test_the_first_error_is_raised_and_later_ones_are_not(process, error, capsys):
    first, second = process(0), process(1)

    assert fail(second, error) is error
    other = fail(first, LOST)

    assert isinstance(other, PeerFailureError)
    assert first.leave(other.failure) == getattr(error, "exit_status", 1)
    assert capsys.readouterr().err == "lightning-cnn: ended because the process of rank 1 failed; see its error\n"


def test_the_same_error_in_all_processes_is_reported_once(process, capsys):
    first, second = process(0), process(1)

    assert fail(first, UserError("wrong")).exit_status == 2
    other = fail(second, UserError("wrong"))

    assert second.leave(other.failure) == 2
    assert capsys.readouterr().err == ""


def test_the_death_of_a_process_is_reported_once_with_a_note(process, capsys):
    first, second = process(0), process(2)
    second.on_peer_failure = first.on_peer_failure = lambda failure: f"; killed: {failure.was_killed}"

    failures = [fail(peers, LOST).failure for peers in (second, first)]

    assert [peers.leave(failure) for peers, failure in zip((second, first), failures, strict=True)] == [1, 1]
    assert capsys.readouterr().err == ("lightning-cnn: ended because another process of the run died; killed: True\n")


def test_without_a_store_the_second_process_reports_that_the_first_has_died(process, capsys):
    second, third = process(1), process(2)
    second._store = third._store = None

    for peers in (second, third):
        assert peers.leave(Failure(None, None)) == 1

    assert capsys.readouterr().err == "lightning-cnn: ended because another process of the run died\n"


def test_a_signal_that_all_have_received_is_raised_in_all(process):
    first, second = process(0), process(1)
    stops = [Interrupted(signal.SIGTERM), Interrupted(signal.SIGTERM)]

    assert fail(second, stops[0]) is stops[0]
    assert fail(first, stops[1]) is stops[1]


def test_a_signal_that_torchrun_sends_after_an_error_is_not_raised(process):
    first, second = process(0), process(1)
    fail(second, UserError("wrong"))

    assert isinstance(fail(first, Interrupted(signal.SIGTERM)), PeerFailureError)


def test_signals_after_an_error_are_ignored(process):
    peers = process(0)
    fail(peers, UserError("wrong"))

    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_the_error_file_of_torchrun_has_the_first_failure_and_its_time(process, monkeypatch, tmp_path):
    first, second = process(0), process(1)
    monkeypatch.setattr("time.time", lambda: 1234.9)
    for peers, error in ((second, ZeroDivisionError("bug")), (first, KeyError("later"))):
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / f"{peers._rank}.json"))
        fail(peers, error)

    (file,) = tmp_path.glob("*.json")
    assert file.name == "1.json"
    assert json.loads(file.read_text()) == {"message": "ZeroDivisionError: bug", "timestamp": 1234}


def test_a_single_process_is_unaffected():
    before = signal.getsignal(signal.SIGTERM)
    error = UserError("wrong")

    assert fail(PeerProcesses(), error) is error
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("variables", "is_monitoring"), [({"LOCAL_RANK": "1", "NODE_RANK": "0"}, True), ({}, False)])
def test_a_child_process_monitors_its_parent_from_the_start(monkeypatch, variables, is_monitoring):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    peers = PeerProcesses()

    assert peers._monitor.is_alive() == is_monitoring
    peers._is_over.set()


def test_a_child_process_knows_its_parent_if_that_was_killed_before_all_was_imported(monkeypatch):
    killed = subprocess.Popen(["true"])
    killed.wait()
    variables = {"LOCAL_RANK": "1", "NODE_RANK": "0", "LIGHTNING_CNN_PARENT": str(killed.pid)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("lightning_cnn.training.distributed.GRACE", 0)
    ended = threading.Event()
    monkeypatch.setattr("os._exit", lambda status: ended.set())

    peers = PeerProcesses()

    assert ended.wait(10)
    assert peers._parent == killed.pid


def started(*code):
    return [subprocess.Popen([sys.executable, "-c", line]) for line in code]


def test_the_status_of_a_child_process_that_has_failed_is_known(process):
    peers = process(0)
    peers._store = None
    peers._children.processes = started("pass", "raise SystemExit(3)")

    with pytest.raises(PeerFailureError) as raised, peers.supervise():
        pass

    assert raised.value.failure == Failure(2, 3)


def test_no_child_process_outlives_an_error_of_its_parent(process):
    peers = process(0)
    (child,) = peers._children.processes = started("import time; time.sleep(60)")

    with pytest.raises(UserError), peers.supervise():
        raise UserError("wrong")

    assert child.returncode == -signal.SIGKILL


def test_a_signal_is_passed_on_to_child_processes(process):
    peers = process(0)
    (child,) = peers._children.processes = started("import time; time.sleep(60)")

    with pytest.raises(Interrupted), peers.supervise():
        raise Interrupted(signal.SIGTERM)

    assert child.returncode == -signal.SIGTERM


def test_a_trainer_of_one_process_is_left_as_it_is(trainer):
    alone = trainer(ours=True)
    before = list(alone.callbacks)

    PeerProcesses().join(alone)

    assert alone.callbacks == before


def test_a_process_that_hangs_is_ended_when_a_peer_fails(process, monkeypatch):
    statuses = []
    monkeypatch.setattr("lightning_cnn.training.distributed.GRACE", 0.0)
    monkeypatch.setattr("os._exit", statuses.append)
    peers = process(0)
    peers._store.record(Failure(1, 2))

    peers._monitor_peers()

    assert statuses == [2]


def test_a_process_that_ends_late_reports_the_failure_once(process, monkeypatch, capsys):
    statuses = []
    monkeypatch.setattr("lightning_cnn.training.distributed.GRACE", 0.0)
    monkeypatch.setattr("os._exit", statuses.append)
    peers = process(0)
    peers._store.record(Failure(1, 2))
    monitor = threading.Thread(target=peers._monitor_peers, daemon=True)

    assert peers.leave(Failure(1, 2)) == 2
    monitor.start()
    monitor.join(0.5)

    assert statuses == []
    assert capsys.readouterr().err.count("ended because the process of rank 1 failed") == 1


def test_a_process_that_ends_by_itself_is_left_to_do_so(process, monkeypatch):
    statuses = []
    monkeypatch.setattr("os._exit", statuses.append)
    peers = process(0)
    peers._store.record(Failure(1, 2))
    peers._is_over.set()

    peers._monitor_peers()

    assert statuses == []
