"""The store in which the processes of a run record which of them has failed first.

`training.distributed` uses it. It knows torch's stores, but neither Lightning nor the trainer.
"""

import json
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Self

import torch.distributed
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]  # public, by its documentation

from lightning_cnn.errors import UserError

_FAILURE, _PRESENT, _PORT = (f"lightning_cnn/{name}" for name in ("failure", "present", "port"))
#: Seconds between two attempts to reach the store, or two checks of how many processes are present.
_INTERVAL = 0.05


@dataclass(frozen=True)
class Failure:
    """The first failure of a run.

    Args:
        rank: The process that failed; None if unknown.
        status: Its exit status, or the negative number of the signal that killed it; None if unknown.
    """

    rank: int | None
    status: int | None

    @property
    def exit_status(self) -> int:
        """The exit status of the processes that end because of it."""
        if self.status is None:
            return 1
        return self.status if self.status > 0 else 128 - self.status  # as in a shell

    @property
    def was_killed(self) -> bool:
        """Whether the process ended without reporting an error itself."""
        return self.status is None or self.status < 0

    @property
    def was_stopped(self) -> bool:
        """Whether the process ended because of a signal that asked it to stop."""
        return self.status is not None and self.status > 128

    def __str__(self) -> str:
        process = "another process of the run" if self.rank is None else f"the process of rank {self.rank}"
        if self.status is None:
            return f"{process} died"
        if self.status < 0:
            return f"{process} was killed by signal {-self.status} ({signal.strsignal(-self.status)})"
        return f"{process} was stopped" if self.was_stopped else f"{process} failed; see its error"


class FailureStore:
    """The first failure of a run, for all its processes to read; it is gone when the process of rank 0 has ended.

    Args:
        store: Where it is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_gone = False

    @classmethod
    def connect(cls, rank: int, address: str, port: int, agent_store: Store | None = None) -> Self:
        """Host the store in the process of rank 0; in any other, wait until it can be reached. Signals end the wait.

        Args:
            rank: The rank of this process.
            address: The host on which the process of rank 0 runs.
            port: Its port. `init_process_group` then finds the store there and uses it as well.
            agent_store: Where rank 0 is to publish a free port that it chooses itself, instead of `port`.

        Raises:
            UserError: If another program listens on the port.
        """
        if rank == 0:
            try:
                store = TCPStore(address, port, is_master=True, wait_for_workers=False, multi_tenant=True)
            except torch.distributed.DistNetworkError as error:
                raise UserError(f"MASTER_PORT {port} is in use; choose another") from error
            if agent_store is not None:
                agent_store.set(_PORT, str(store.port))
            return cls(store)
        while not _is_listening(address, port):  # a TCPStore would not react to signals while it waits
            time.sleep(_INTERVAL)
            if agent_store is not None and agent_store.check([_PORT]):
                port = int(agent_store.get(_PORT))
        return cls(TCPStore(address, port))

    @classmethod
    def of_torchrun(cls) -> Self | None:
        """Return the store of the processes that torchrun has started together; None if torchrun has not.

        It is not torchrun's own store: this is the same after a restart, with all keys of the processes before, and no
        process can tell them from new ones (https://github.com/pytorch/pytorch/issues/135712; the restart counts of
        several nodes differ). It only holds the port: a process that read an old one cannot connect, and reads again.
        """
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            return None
        address = os.environ["MASTER_ADDR"]
        agent_store = TCPStore(address, int(os.environ["MASTER_PORT"]))
        store = cls.connect(int(os.environ["RANK"]), address, 0, agent_store)
        os.environ["MASTER_PORT"] = str(store._store.port)  # type: ignore[attr-defined]  # for init_process_group
        return store

    def wait_for_peers(self, world_size: int) -> None:
        """Wait until this many processes have called this. Signals end the wait, but not that of torch."""
        present = self._store.add(_PRESENT, 1)
        while present < world_size:
            time.sleep(_INTERVAL)
            present = self._store.add(_PRESENT, 0)

    def read(self) -> Failure | None:
        """Return the first failure, if there is one."""
        with suppress(torch.distributed.DistError):
            recorded = not self.is_gone and self._store.check([_FAILURE])
            return Failure(*json.loads(self._store.get(_FAILURE))) if recorded else None
        self.is_gone = True
        return None

    def record(self, failure: Failure) -> Failure:
        """Record a failure, unless there has been one; return the first."""
        with suppress(torch.distributed.DistError):
            return Failure(*json.loads(self._store.compare_set(_FAILURE, "", json.dumps(astuple(failure)))))
        self.is_gone = True
        return failure


def _is_listening(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
