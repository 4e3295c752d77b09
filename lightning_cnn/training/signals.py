"""Signals wait until a step is complete, so that a run ends with a checkpoint from which it resumes exactly.

`training.trainer` uses it instead of Lightning's own handling, which broadcasts inside the handler.
"""

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
    """Handles SIGTERM, SIGINT and SLURM's signal before a time limit: the run ends at once, or later where deferred.

    A second signal always ends it at once.
    """

    received: signal.Signals | None = None
    _is_deferred = False

    def register_signal_handlers(self) -> None:
        """Handle signals until `teardown`."""
        signals = [signal.SIGTERM, signal.SIGINT]
        if (requeue := self._requeue_signal()) is not None:
            signals.append(requeue)
        self._original_handlers = {signum: signal.getsignal(signum) for signum in signals}
        for signum in signals:
            self._register_signal(signum, self._handle)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Store the first signal in `received` instead of ending the run."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def _handle(self, signum: int, _: FrameType | None) -> None:
        received = signal.Signals(signum)
        if not self._is_deferred or self.received is not None:
            self.end(received)
        self.received = received

    def end(self, received: signal.Signals) -> NoReturn:
        """End the run, and ignore further signals meanwhile: it only takes moments and must be completed.

        Raises:
            Interrupted: Always.
        """
        self.ignore()
        raise Interrupted(received)

    def ignore(self) -> None:
        """Ignore all further signals."""
        for signum in self._original_handlers:
            self._register_signal(signum, signal.SIG_IGN)
        self._original_handlers = {}  # so that `teardown` restores none

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
