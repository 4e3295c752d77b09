import signal
import subprocess
import sys

import pytest
from torch.distributed import HashStore

from lightning_cnn.errors import DivergenceError, Interrupted, UserError
from lightning_cnn.training.distributed import OtherProcessError, Others
from lightning_cnn.training.failure_store import Board, Failure

LOST = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:34207.")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def process(monkeypatch):
    """Make one of two processes, which share a store."""
    store = HashStore()

    def make(rank):
        monkeypatch.setattr(Others, "look_after", lambda self, children: setattr(self, "_children", children))
        others = Others()
        others._rank = rank
        others._board = Board(store)
        return others

    return make


def fail(others, error):
    """Return what an error becomes."""
    with pytest.raises((Exception, Interrupted)) as raised, others.failing_together():
        raise error
    return raised.value


@pytest.mark.parametrize("error", [UserError("wrong"), DivergenceError("nan"), OSError(28, "full"), KeyError("bug")])
def test_the_first_error_is_told_and_later_ones_are_not(process, error, capsys):
    first, second = process(0), process(1)

    assert fail(second, error) is error
    other = fail(first, LOST)

    assert isinstance(other, OtherProcessError)
    assert first.leave(other.failure) == getattr(error, "exit_status", 1)
    assert capsys.readouterr().err == "lightning-cnn: ended, because the process of rank 1 has failed; see its error\n"


def test_the_same_error_in_all_processes_is_told_once(process, capsys):
    first, second = process(0), process(1)

    assert fail(first, UserError("wrong")).exit_status == 2
    other = fail(second, UserError("wrong"))

    assert second.leave(other.failure) == 2
    assert capsys.readouterr().err == ""


def test_whoever_notices_that_a_process_has_died_says_so_once_and_how_to_go_on(process, capsys):
    first, second = process(0), process(2)
    second.give_up = first.give_up = lambda failure: f"; go on, {failure.has_died}"

    failures = [fail(others, LOST).failure for others in (second, first)]

    assert [others.leave(failure) for others, failure in zip((second, first), failures, strict=True)] == [1, 1]
    assert capsys.readouterr().err == (
        "lightning-cnn: ended, because another process of the run has died; go on, True\n"
    )


def test_without_a_board_the_second_process_says_that_the_first_has_died(process, capsys):
    second, third = process(1), process(2)
    second._board = third._board = None

    for others in (second, third):
        assert others.leave(Failure(None, None, others._rank)) == 1

    assert capsys.readouterr().err == "lightning-cnn: ended, because another process of the run has died\n"


def test_a_signal_that_all_have_received_stays_what_it_is(process):
    first, second = process(0), process(1)
    stops = [Interrupted(signal.SIGTERM), Interrupted(signal.SIGTERM)]

    assert fail(second, stops[0]) is stops[0]
    assert fail(first, stops[1]) is stops[1]


def test_a_signal_that_torchrun_sends_after_an_error_is_not_told(process):
    first, second = process(0), process(1)
    fail(second, UserError("wrong"))

    assert isinstance(fail(first, Interrupted(signal.SIGTERM)), OtherProcessError)


def test_a_signal_on_the_way_out_changes_nothing(process):
    others = process(0)
    fail(others, UserError("wrong"))

    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_process_alone_is_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    error = UserError("wrong")

    assert fail(Others(), error) is error
    assert signal.getsignal(signal.SIGTERM) == before


def started(*code):
    return [subprocess.Popen([sys.executable, "-c", line]) for line in code]


def test_a_process_that_this_one_has_started_has_failed(process):
    others = process(0)
    others._board = None
    others.look_after(started("pass", "raise SystemExit(3)"))

    with pytest.raises(OtherProcessError) as raised, others.together():
        pass

    assert raised.value.failure == Failure(2, 3, 0)


def test_no_process_outlives_the_one_that_has_started_it(process):
    others = process(0)
    (child,) = started("import time; time.sleep(60)")
    others.look_after([child])

    with pytest.raises(UserError), others.together():
        raise UserError("wrong")

    assert child.returncode == -signal.SIGKILL


def test_a_trainer_alone_keeps_the_launcher_that_it_has(trainer):
    alone = trainer(ours=True)
    before = alone.strategy.launcher, list(alone.callbacks)

    Others().join(alone)

    assert (alone.strategy.launcher, alone.callbacks) == before


def test_a_trainer_of_several_processes_gets_ours(trainer):
    several = trainer(ours=True, devices=2, strategy="ddp")
    others = Others()

    others.join(several)

    assert several.strategy.launcher.others is others
    assert several.callbacks[0] is others


def test_a_process_that_hangs_is_ended_when_another_fails(process, monkeypatch):
    left = []
    monkeypatch.setattr("lightning_cnn.training.distributed.GRACE", 0.0)
    monkeypatch.setattr("os._exit", left.append)
    others = process(0)
    others._board.write(Failure(1, 2, 1))

    others._look_out()

    assert left == [2]


def test_a_process_that_ends_by_itself_is_left_to_do_so(process, monkeypatch):
    left = []
    monkeypatch.setattr("os._exit", left.append)
    others = process(0)
    others._board.write(Failure(1, 2, 1))
    others._is_over.set()

    others._look_out()

    assert left == []
