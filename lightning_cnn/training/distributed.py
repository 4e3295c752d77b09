"""What happens when one of several processes fails: its error is shown once, and all others end within seconds.

Each process records its failure in a `FailureStore` before it ends, and monitors its peers. Whatever error a process
runs into after a peer has failed, for example a lost connection or a collective that never completes, is not reported.
A process that is killed records nothing: the process that started it notices, or its peers lose their connections.

`training.cli` uses this, with Lightning's launcher, torchrun and SLURM alike.
"""

import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from lightning_cnn import signals
from lightning_cnn.environment import PARENT, torchrun_world
from lightning_cnn.errors import Interrupted
from lightning_cnn.startup import is_supervised
from lightning_cnn.training.failure_store import Failure, FailureStore
from lightning_cnn.training.trainer import Trainer

#: Seconds that a process has to end by itself after a peer has failed; it may wait for that peer forever.
GRACE = 5.0
#: Seconds between two checks of the peers.
_INTERVAL = 0.2
#: Seconds that rank 0 keeps hosting the store after a failure, so that all processes read it.
_LINGER = 1.0
#: Seconds between the first failure and the end of other processes: torchrun compares their times in whole seconds.
_TORCHRUN_CLOCK = 1.0
#: Seconds that child processes have to end after a signal: the sender waits.
_STOP = 0.5
#: Seconds that child processes have to end after a run that succeeded.
_TEARDOWN = 30.0
#: Parts of the messages of gloo and NCCL about a lost connection.
_CONNECTION_LOST = ("closed by peer", "reset by peer", "Broken pipe", "ncclRemoteError")


class PeerFailureError(Exception):
    """Another process of the run has failed, so that this one has to end.

    Args:
        failure: What is known about it.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"ended because {failure}")
        self.failure = failure


class ChildProcesses:
    """The processes that Lightning's launcher has started, for the further devices of this node.

    Lightning's own observer is not used: when a child process has failed, it kills this one within five seconds and
    without a message.
    """

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def failed(self, rank: int) -> Failure | None:
        """Return the failure of the first that has failed, where this process has the given rank."""
        for child_rank, child in enumerate(self.processes, rank + 1):
            if status := child.poll():
                return Failure(child_rank, status)
        return None

    def wait(self, seconds: float) -> None:
        """Wait until all have ended, but no longer than this."""
        deadline = time.monotonic() + seconds
        for child in self.processes:
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(deadline - time.monotonic(), 0))

    def stop(self, error: BaseException) -> None:
        """End all of them after an error of this process."""
        if isinstance(error, Interrupted):
            for child in self.processes:
                child.send_signal(error.received)
            self.wait(_STOP)
        elif isinstance(error, PeerFailureError):  # one of them may be about to report its error
            self.wait(GRACE)
        for child in self.processes:
            child.kill()
            child.wait()


class PeerProcesses(Callback):
    """All processes of the run; does nothing if there is only one.

    Attributes:
        on_peer_failure: Cleans up after a peer has failed, and returns what to add to the message for the user.
    """

    def __init__(self) -> None:
        self.on_peer_failure: Callable[[Failure], str] = lambda _: ""
        self._rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
        self._children = ChildProcesses()
        # The process that has started this one, also if it was killed before this one had imported everything.
        self._parent = int(os.environ.get(PARENT, os.getppid())) if _is_child_process() else None
        self._store = FailureStore.of_torchrun()
        self._trainer: Trainer | None = None
        self._is_over = threading.Event()
        self._leaving = threading.Lock()
        self._monitor = threading.Thread(target=self._monitor_peers, name="peers", daemon=True)
        if self._store is not None or self._parent is not None:
            self._monitor.start()
            is_supervised.set()

    def join(self, trainer: LightningTrainer) -> None:
        """Start the processes of a trainer, if nothing else does, and wait for all of them."""
        if trainer.world_size == 1:
            return
        strategy = trainer.strategy
        assert isinstance(trainer, Trainer)
        assert isinstance(strategy, ParallelStrategy)
        self._trainer = trainer
        self._rank = trainer.global_rank
        launcher, environment = strategy.launcher, strategy.cluster_environment
        if not isinstance(launcher, _SubprocessScriptLauncher):
            return  # it forks or spawns the processes in `fit`
        trainer.callbacks.insert(0, self)  # type: ignore[attr-defined]  # Lightning sets it from outside
        assert environment is not None
        if self._store is None:
            self._store = FailureStore.connect(self._rank, environment.main_address, environment.main_port)
        if not environment.creates_processes_externally:
            os.environ[PARENT] = str(os.getpid())
            launcher._call_children_scripts()  # sets LOCAL_RANK, by which Lightning sees later that they exist
            self._children.processes = launcher.procs
        if not self._monitor.is_alive():
            self._monitor.start()
        self._store.wait_for_peers(trainer.world_size)

    def on_exception(self, trainer: LightningTrainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record an error as soon as Lightning catches it, before callbacks of the user wait for their peers."""
        self._first_failure(exception)

    @contextmanager
    def supervise(self) -> Iterator[None]:
        """Record what fails in the block, and end the run together with its child processes.

        Raises:
            PeerFailureError: If a peer has failed before, in place of the error that follows from this.
        """
        try:
            yield
            self._is_over.set()
            self._children.wait(_TEARDOWN)
            if failed := self._children.failed(self._rank):
                raise PeerFailureError(failed)
        except BaseException as error:
            ended = self._consequence(error)
            if self._rank == 0 and self._store is not None:
                time.sleep(_LINGER)
            self._children.stop(ended)
            self._is_over.set()
            if ended is error:
                raise
            raise ended from error

    def _consequence(self, error: BaseException) -> BaseException:
        """Return the error with which this process ends: its own, unless that is a consequence of a failed peer."""
        has_peers = (self._trainer, self._store, self._parent) != (None, None, None)
        if isinstance(error, PeerFailureError) or not has_peers:
            return error
        failure = self._first_failure(error)
        is_own = failure.rank == self._rank or (failure.was_stopped and isinstance(error, Interrupted))
        return error if is_own else PeerFailureError(failure)

    def _first_failure(self, error: BaseException) -> Failure:
        """Return the first failure of the run, after an error of this process."""
        if self._trainer is not None:
            self._trainer.signals.ignore()
        signals.ignore()  # torchrun sends one to all when one process has failed
        if not _is_lost_connection(error):
            own = Failure(self._rank, getattr(error, "exit_status", 1))
            if (first := self._record(own)) == own:
                _write_error_file(error)
            return first
        deadline = time.monotonic() + 1  # a connection may break before the system reports the end of its process
        while (failure := self._peer_failure()) is None and time.monotonic() < deadline:
            time.sleep(_INTERVAL / 10)
        return failure or self._record(Failure(None, None))

    def _record(self, failure: Failure) -> Failure:
        return failure if self._store is None else self._store.record(failure)

    def _peer_failure(self) -> Failure | None:
        """Return the first failure of the run, unless it is that of this process."""
        if self._store is not None and (recorded := self._store.read()):
            return None if recorded.rank == self._rank else recorded
        if failure := self._children.failed(self._rank):
            return self._record(failure)
        if self._parent is not None and os.getppid() != self._parent:
            return Failure(None, None)
        return None

    def leave(self, failure: Failure) -> int:
        """Clean up after a peer has failed, report this to the user unless another process does; return the status.

        Of the main thread and the monitor, only the first that calls this goes on, and ends the process.
        """
        if not self._leaving.acquire(blocking=False):
            threading.Event().wait()
        note = self.on_peer_failure(failure)
        if self._reports(failure):
            print(f"lightning-cnn: {PeerFailureError(failure)}{note}", file=sys.stderr, flush=True)
        if torchrun_world() is not None:
            time.sleep(_TORCHRUN_CLOCK)
        return failure.exit_status

    def _reports(self, failure: Failure) -> bool:
        """Whether this process reports the failure of a peer: rank 0 does, or rank 1 if rank 0 has died."""
        is_store_gone = self._store is None or self._store.is_gone  # with rank 0, which hosts it
        return self._rank == 0 or (self._rank == 1 and failure.was_killed and is_store_gone)

    def _monitor_peers(self) -> None:
        """End this process soon after a peer has failed."""
        while (failure := self._peer_failure()) is None:
            if self._is_over.wait(_INTERVAL):
                return
        if self._is_over.wait(GRACE):
            return
        # The main thread waits for the failed peer, and nothing else ends this wait.
        self._children.stop(PeerFailureError(failure))
        os._exit(self.leave(failure))


def _is_child_process() -> bool:
    """Whether `ChildProcesses` of another process has started this one."""
    return "RANK" not in os.environ and os.environ.get("LOCAL_RANK", "0") != "0" and "NODE_RANK" in os.environ


def _write_error_file(error: BaseException) -> None:
    """Say when this process failed, and why: torchrun reports the earliest failure as the root cause."""
    path = Path(os.environ.get("TORCHELASTIC_ERROR_FILE", ""))
    if path.name and not path.exists():
        text = "".join(traceback.format_exception_only(error)).strip()
        with suppress(OSError):
            path.write_text(json.dumps({"message": text, "timestamp": int(time.time())}))


def _is_lost_connection(error: BaseException | None) -> bool:
    """Whether the connection to a peer was lost, or a signal came while this was handled."""
    if isinstance(error, Interrupted):
        return _is_lost_connection(error.__context__)
    return isinstance(error, RuntimeError) and any(part in str(error) for part in _CONNECTION_LOST)
