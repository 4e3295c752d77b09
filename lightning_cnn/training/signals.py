"""Signals wait until a step is complete, so that a run ends with a checkpoint from which it resumes exactly.

`training.trainer` uses it instead of Lightning's own handling, which broadcasts inside the handler.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import signals
from lightning_cnn.environment import slurm_job_id
from lightning_cnn.errors import Interrupted


class Signals(_SignalConnector):
    """Handles SIGTERM, SIGINT, SIGHUP and SLURM's signal before a time limit: the run ends, at once or where deferred.

    A second signal always ends it at once. A handler that the user has set for SIGTERM or SLURM's signal is called
    first, as by Lightning; one for SIGINT or SIGHUP is used in place of this one. All are set again at the end.
    """

    received: signal.Signals | None = None
    _is_deferred = False
    _has_ended = False

    def register_signal_handlers(self) -> None:
        """Handle signals until `teardown`."""
        self.received, self.received_sigterm, self._has_ended = None, False, False
        handled = [*signals.SIGNALS, *filter(None, [self._requeue_signal()])]
        self._original_handlers = {
            signum: handler for signum in handled if not _is_left(signum, handler := signal.getsignal(signum))
        }
        for signum in self._original_handlers:
            self._register_signal(signum, self._handle)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Store the first signal in `received` instead of ending the run."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        received = signal.Signals(signum)
        users: Any = self._original_handlers[received]
        if _is_users(users):
            users(signum, frame)
        signals.leave_closed_output()
        if not self._is_deferred or self.received is not None:
            self.end(received)
        self.received = received

    def end(self, received: signal.Signals) -> NoReturn:
        """End the run, and ignore further signals meanwhile: it only takes moments and must be completed.

        Raises:
            Interrupted: Always.
        """
        self.ignore()
        self.received_sigterm = received == signal.SIGTERM  # `trainer.received_sigterm`, for callbacks
        raise Interrupted(received)

    def ignore(self) -> None:
        """Ignore all further signals until `teardown`."""
        self._has_ended = True
        for signum in self._original_handlers:
            self._register_signal(signum, signal.SIG_IGN)

    def teardown(self) -> None:
        """Set the handlers from before; a command that is ended by a signal ignores further ones."""
        if self._has_ended:
            is_command = signals.interrupt in self._original_handlers.values()
            self._original_handlers = {} if is_command else self._original_handlers
        super().teardown()

    def _requeue_signal(self) -> signal.Signals | None:
        environment = self.trainer._accelerator_connector.cluster_environment
        if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
            return None
        return environment.requeue_signal

    def requeue(self, received: signal.Signals) -> None:
        """Requeue the SLURM job, if this is what the signal asks for."""
        if received != self._requeue_signal() or not self.trainer.is_global_zero:
            return
        try:
            subprocess.run(["scontrol", "requeue", slurm_job_id()], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            rank_zero_info(f"Could not requeue the job: {error}")


def _is_users(handler: Any) -> bool:
    """Whether the user has set a handler, or another library."""
    return callable(handler) and handler not in (signal.default_int_handler, signals.interrupt)


def _is_left(signum: signal.Signals, handler: Any) -> bool:
    """Whether a signal is left to the handler that it has."""
    is_after_nohup = signum == signal.SIGHUP and handler == signal.SIG_IGN
    return is_after_nohup or (signum in (signal.SIGINT, signal.SIGHUP) and _is_users(handler))
