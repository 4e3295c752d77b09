import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed
from torch.distributed import HashStore, PrefixStore

from lightning_cnn.training import failure_store as board
from lightning_cnn.training.failure_store import Board, Failure


@pytest.mark.parametrize(
    ("failure", "text", "exit_status"),
    [
        (Failure(1, 2, 1), "the process of rank 1 has failed; see its error", 2),
        (Failure(3, -9, 0), "the process of rank 3 has died (signal 9, Killed)", 137),
        (Failure(1, 128 + signal.SIGTERM, 1), "the process of rank 1 was stopped", 143),
        (Failure(None, None, 0), "another process of the run has died", 1),
    ],
)
def test_what_is_known_of_a_failure(failure, text, exit_status):
    assert str(failure) == text
    assert failure.exit_status == exit_status
    assert failure.has_died == (failure.status in (-9, None))


def test_the_first_failure_stays():
    ours = Board(HashStore())
    assert ours.read() is None

    first, second = Failure(1, 2, 1), Failure(0, 1, 0)

    assert ours.write(first) == first
    assert ours.write(second) == ours.read() == first


class _Gone:
    """A store whose process has ended."""

    def check(self, *_):
        raise torch.distributed.DistNetworkError("Broken pipe")

    compare_set = check


def test_a_board_that_is_gone_says_nothing_any_more():
    ours = Board(_Gone())

    assert not ours.is_gone
    assert ours.read() is None
    assert ours.is_gone
    assert ours.write(Failure(None, None, 2)) == Failure(None, None, 2)


def test_each_life_has_a_place_of_its_own_in_the_store_of_torchrun():
    store, places = HashStore(), []
    with ThreadPoolExecutor(3) as processes:
        for _ in range(3):
            lives = [processes.submit(board._agree_on_a_place, store, rank, 3) for rank in (0, 1, 2)]
            (place,) = {life.result(timeout=30) for life in lives}
            places.append(place)

    assert len(set(places)) == 3
    Board(PrefixStore(places[0], store)).write(Failure(1, 1, 1))
    assert Board(PrefixStore(places[1], store)).read() is None


def test_nothing_is_asked_of_torchrun_where_it_has_started_nothing(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)

    assert Board.of_torchrun() is None
