import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed
from torch.distributed import HashStore

from lightning_cnn.errors import UserError
from lightning_cnn.training.failure_store import Failure, FailureStore


@pytest.mark.parametrize(
    ("failure", "text", "exit_status"),
    [
        (Failure(1, 2), "the process of rank 1 failed; see its error", 2),
        (Failure(3, -9), "the process of rank 3 was killed by signal 9 (Killed)", 137),
        (Failure(1, 128 + signal.SIGTERM), "the process of rank 1 was stopped", 143),
        (Failure(None, None), "another process of the run died", 1),
    ],
)
def test_a_failure_says_what_is_known(failure, text, exit_status):
    assert str(failure) == text
    assert failure.exit_status == exit_status
    assert failure.was_killed == (failure.status in (-9, None))


def test_the_first_failure_is_kept():
    store = FailureStore(HashStore())
    assert store.read() is None

    first, second = Failure(1, 2), Failure(0, 1)

    assert store.record(first) == first
    assert store.record(second) == store.read() == first


class _LostStore:
    """A store whose host has ended."""

    def check(self, *_):
        raise torch.distributed.DistNetworkError("Broken pipe")

    compare_set = check


def test_a_store_that_is_gone_has_no_failure():
    store = FailureStore(_LostStore())

    assert not store.is_gone
    assert store.read() is None
    assert store.is_gone
    assert store.record(Failure(None, None)) == Failure(None, None)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_processes_wait_for_the_host_and_for_each_other():
    port = free_port()

    def start(rank):
        time.sleep(0.1 * (rank == 0))  # the host comes last
        store = FailureStore.connect(rank, "127.0.0.1", port)
        store.wait_for_peers(2)
        return store

    with ThreadPoolExecutor(2) as processes:
        first, second = processes.map(start, (0, 1))
    first.record(Failure(1, 2))

    assert second.read() == Failure(1, 2)


def test_a_port_in_use_is_named():
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(UserError, match=f"^MASTER_PORT {port} is in use; choose another$"):
            FailureStore.connect(0, "127.0.0.1", port)


def test_after_a_restart_the_store_of_torchrun_names_a_new_one():
    agent_store = HashStore()
    ports = []
    for _ in range(2):
        first = FailureStore.connect(0, "127.0.0.1", 0, agent_store)
        second = FailureStore.connect(1, "127.0.0.1", 0, agent_store)
        assert second.read() is None
        assert second.record(Failure(1, 1)) == first.read() == Failure(1, 1)
        ports.append(agent_store.get("lightning_cnn/port"))

    assert ports[0] != ports[1]


def test_torchrun_is_not_asked_for_a_port_where_it_has_started_nothing(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)

    assert FailureStore.of_torchrun() is None
