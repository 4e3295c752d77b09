"""A process that fails among several: its error is told once, and all others end soon and quietly.

Each process that fails writes so on a board, a store of torch.distributed, before it ends; the error of the first is
told. What the others come to then, a connection that breaks or a wait without an end, is nothing of their own. One that
is killed writes nothing: the process that has started it notices, or the others do by their broken connections.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen, TimeoutExpired
from typing import Any

import torch.distributed
from lightning.fabric.utilities.distributed import _destroy_dist_connection, _set_num_threads_if_needed
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from lightning_cnn.environment import torchrun_world
from lightning_cnn.errors import Interrupted
from lightning_cnn.training.failure_store import Board, Failure
from lightning_cnn.training.trainer import Trainer

#: Seconds that a process has to end by itself after another has failed: maybe it waits for that one forever.
GRACE = 5.0
#: Seconds between two looks at the others.
_EVERY = 0.2
#: Seconds in which torchrun sees a process that has failed: it names the first that it sees as the cause of all.
_TORCHRUN_LOOKS = 2.0
#: Seconds that the other processes may take to end after a signal: whoever has sent it waits.
_STOP = 0.5
#: Seconds that the processes may take to end after all is done.
_TEARDOWN = 30.0
#: What gloo and NCCL say when the other end of a connection is gone.
_PEER_IS_GONE = ("closed by peer", "reset by peer", "Broken pipe", "ncclRemoteError")


class OtherProcessError(Exception):
    """Another process of the run has failed, so that this one cannot go on.

    Args:
        failure: What is known of it.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"ended, because {failure}")
        self.failure = failure


class Others(Callback):
    """The other processes of the run, if there are any: this one fails with them, and they with it.

    Attributes:
        give_up: Clears up what has no use after another process has failed, and returns what to tell the user of it.
    """

    def __init__(self) -> None:
        self.give_up: Callable[[Failure], str] = _nothing
        self._rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
        self._children: list[Popen[bytes]] = []
        self._parent = os.getppid() if _is_child_of_lightning() else None
        self._board = Board.of_torchrun()
        self._trainer: Trainer | None = None
        self._is_over = threading.Event()
        self._watch = threading.Thread(target=self._look_out, name="others", daemon=True)
        if self._board is not None or self._parent is not None:
            self._watch.start()

    # Being one of several

    def join(self, trainer: LightningTrainer) -> None:
        """Be told of all errors in the trainer's methods, and start its processes in place of Lightning."""
        if trainer.world_size == 1:
            return
        assert isinstance(trainer, Trainer)
        self._trainer = trainer
        self._rank = trainer.global_rank
        if type(theirs := trainer.strategy.launcher) is _SubprocessScriptLauncher:
            trainer.strategy._launcher = _Launcher(theirs, self)
        trainer.callbacks.insert(0, self)  # type: ignore[attr-defined]  # Lightning sets it from outside

    def meet(self) -> None:
        """Let the processes find each other, in place of Lightning.

        It would not hear a signal while it waits for them, and look for those of torchrun where others have left their
        addresses in an earlier life.
        """
        strategy = self._trainer and self._trainer.strategy
        if not isinstance(strategy, DDPStrategy) or torch.distributed.is_initialized():
            return
        if self._board is None:
            place = strategy.cluster_environment
            assert place is not None
            rank, world_size = strategy.global_rank, strategy.world_size
            self._board = Board.of_first(place.main_address, place.main_port, rank, world_size)
            self.look_after(self._children)
        torch.distributed.init_process_group(
            strategy._get_process_group_backend(),
            timeout=strategy._timeout,
            device_id=strategy.root_device if strategy.root_device.type != "cpu" else None,
            store=self._board.store.clone(),
            rank=strategy.global_rank,
            world_size=strategy.world_size,
        )
        atexit.register(_destroy_dist_connection)

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Have a board from now on, if they had none: the store by which other strategies than DDP let them meet."""
        if self._board is None and torch.distributed.is_initialized():
            self._board = Board.of_group()
            self.look_after(self._children)

    def look_after(self, children: list[Popen[bytes]]) -> None:
        """Notice if one of these processes fails, which this one has started, or of those that write on the board."""
        self._children = children
        if not self._watch.is_alive():
            self._watch.start()

    def _look_out(self) -> None:
        """Let this process end soon after another has failed."""
        while (failure := self._failure()) is None:
            if self._is_over.wait(_EVERY):
                return
        if self._is_over.wait(GRACE):
            return
        # It waits for somebody who will not come; nothing but this reaches it.
        self._end_children(OtherProcessError(failure))
        os._exit(self.leave(failure))

    # Whose failure it is

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Write down what fails here, unless another process has failed before.

        Raises:
            OtherProcessError: If one has, in place of what this process has come to because of that.
        """
        try:
            yield
        except OtherProcessError:
            raise
        except BaseException as error:
            if self._trainer is None and self._board is None and self._parent is None:
                raise  # there are no others
            self._hear_no_more()
            failure = self._first(error)
            if failure.rank == self._rank or (failure.is_stop and isinstance(error, Interrupted)):
                raise
            raise OtherProcessError(failure) from error

    def _first(self, error: BaseException) -> Failure:
        """Return the first failure of the run, after this process has come to an error."""
        if not _is_loss_of_another(error):
            return self._write(Failure(self._rank, getattr(error, "exit_status", 1), self._rank))
        until = time.monotonic() + 1  # a connection may break before the system says that its process has ended
        while (failure := self._failure()) is None and time.monotonic() < until:
            time.sleep(_EVERY / 10)
        return failure or self._write(Failure(None, None, self._rank))

    def _write(self, failure: Failure) -> Failure:
        return failure if self._board is None else self._board.write(failure)

    def _failure(self) -> Failure | None:
        """Return the failure of another process, if one has failed."""
        if self._board and (written := self._board.read()):
            return None if written.rank == self._rank else written
        for rank, child in enumerate(self._children, self._rank + 1):
            if status := child.poll():
                return self._write(Failure(rank, status, self._rank))
        if self._parent is not None and os.getppid() != self._parent:
            return Failure(None, None, self._rank)
        return None

    def _tells(self, failure: Failure) -> bool:
        """Whether this process, which has not failed itself, tells the user why it ends."""
        if failure.witness == failure.rank:  # which has told its error
            return self._rank == 0
        if self._rank > 0 and (self._board is None or self._board.is_gone):  # with the first process, so none can agree
            return self._rank == 1
        return failure.witness == self._rank

    def _hear_no_more(self) -> None:
        """Leave the way out, which is short, to no signal: torchrun stops all processes when one of them has failed."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, signal.SIG_IGN)
        if self._trainer is not None:
            self._trainer.signals.ignore()

    # The end

    @contextmanager
    def together(self) -> Iterator[None]:
        """End with the others.

        Raises:
            OtherProcessError: If another process has failed, in place of what this process has come to because of that.
        """
        try:
            with self.failing_together():
                yield
                self._end_well()
        except BaseException as error:
            self._end_children(error)
            raise

    def leave(self, failure: Failure) -> int:
        """Give up because of a failure, tell the user so unless another process does, and return the exit status."""
        note = self.give_up(failure)
        if self._tells(failure):
            print(f"lightning-cnn: {OtherProcessError(failure)}{note}", file=sys.stderr, flush=True)
        if not failure.has_died and torchrun_world() is not None:
            time.sleep(_TORCHRUN_LOOKS)
        return failure.exit_status

    def _end_well(self) -> None:
        """Wait until the processes that this one has started have ended.

        Raises:
            OtherProcessError: If one of them has failed after all.
        """
        self._is_over.set()
        self._wait_for_children(_TEARDOWN)
        for rank, child in enumerate(self._children, self._rank + 1):
            if child.returncode:
                raise OtherProcessError(Failure(rank, child.returncode, self._rank))

    def _end_children(self, error: BaseException) -> None:
        """Let none of the processes that this one has started outlive it: they would wait for it."""
        if isinstance(error, Interrupted):
            for child in self._children:
                child.send_signal(error.received)
            self._wait_for_children(_STOP)
        elif isinstance(error, OtherProcessError):  # of whom one may be about to tell its error
            self._wait_for_children(GRACE)
        for child in self._children:
            child.kill()
            child.wait()
        self._is_over.set()

    def _wait_for_children(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for child in self._children:
            with suppress(TimeoutExpired):
                child.wait(max(until - time.monotonic(), 0))


class _Launcher(_SubprocessScriptLauncher):
    """Starts a process for each further device, and has an eye on them.

    Args:
        like: The launcher that it takes the place of.
        others: The other processes of the run.
    """

    def __init__(self, like: _SubprocessScriptLauncher, others: Others) -> None:
        super().__init__(like.cluster_environment, like.num_processes, like.num_nodes)
        self.others = others

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start them, unless that has been done, and call the function, as Lightning does.

        Lightning would kill this process without a word, within five seconds after one of them has failed.
        """
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            self.others.look_after(self.procs)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        with self.others.failing_together():
            self.others.meet()
            return function(*args, **kwargs)


def _nothing(_: Failure) -> str:
    return ""


def _is_child_of_lightning() -> bool:
    """Whether another process of the run has started this one."""
    return "RANK" not in os.environ and os.environ.get("LOCAL_RANK", "0") != "0" and "NODE_RANK" in os.environ


def _is_loss_of_another(error: BaseException | None) -> bool:
    """Whether another process is gone, to whom this one had a connection."""
    if error is None:
        return False
    is_it = isinstance(error, RuntimeError) and any(words in str(error) for words in _PEER_IS_GONE)
    return is_it or (isinstance(error, Interrupted) and _is_loss_of_another(error.__context__))
