"""Signals that wait for a safe point, so that a run ends with a checkpoint from which it goes on exactly."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn.environment import slurm_job_id
from lightning_cnn.errors import Interrupted


class Signals(_SignalConnector):
    """Notes SIGTERM, SIGINT and SLURM's signal before a time limit while a run trains; at other times it ends at once.

    So it does on the second signal.
    """

    received: signal.Signals | None = None
    _held_back = False

    def register_signal_handlers(self) -> None:
        """Listen, until `teardown`."""
        signals = [signal.SIGTERM, signal.SIGINT]
        if (requeue := self._requeue_signal()) is not None:
            signals.append(requeue)
        self._original_handlers = {signum: signal.getsignal(signum) for signum in signals}
        for signum in signals:
            self._register_signal(signum, self._note)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Let signals wait."""
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False

    def _note(self, signum: int, _: FrameType | None) -> None:
        received = signal.Signals(signum)
        if not self._held_back or self.received is not None:
            self.end(received)
        self.received = received

    def end(self, received: signal.Signals) -> NoReturn:
        """End the run; more signals change nothing, for the way out is short and must not be left.

        Raises:
            Interrupted: Always.
        """
        self.ignore()
        raise Interrupted(received)

    def ignore(self) -> None:
        """Let no more signals change anything."""
        for signum in self._original_handlers:
            self._register_signal(signum, signal.SIG_IGN)
        self._original_handlers = {}  # nothing is to be restored

    def _requeue_signal(self) -> signal.Signals | None:
        environment = self.trainer._accelerator_connector.cluster_environment
        if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
            return None
        return environment.requeue_signal or signal.SIGUSR1

    def requeue(self, received: signal.Signals) -> None:
        """Put the job into SLURM's queue again, if that is what the signal is for."""
        if received != self._requeue_signal() or not self.trainer.is_global_zero:
            return
        try:
            subprocess.run(["scontrol", "requeue", slurm_job_id()], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            rank_zero_info(f"The job could not be put into the queue again: {error}")
