"""Where the processes of a run write down which of them has failed first: in a store of torch.distributed."""

import json
import os
import signal
import time
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import Self
from uuid import uuid4

import torch.distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, by its documentation
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

_KEY = "lightning_cnn/failed"
#: Until when the first process must be there.
_LATEST = timedelta(minutes=30)
#: Seconds between two looks at what another process has written.
_EVERY = 0.02


@dataclass(frozen=True)
class Failure:
    """The first failure of a run.

    Args:
        rank: Whose it is; None if nobody knows.
        status: Its exit status, or the negative number of the signal that has killed it; None if nobody knows.
        witness: The rank of the process that has written it down.
    """

    rank: int | None
    status: int | None
    witness: int

    @property
    def exit_status(self) -> int:
        """The exit status of a process that ends because of it."""
        if self.status is None:
            return 1
        return self.status if self.status > 0 else 128 - self.status  # as a shell has it

    @property
    def has_died(self) -> bool:
        """Whether the process has ended without a word of its own."""
        return self.status is None or self.status < 0

    @property
    def is_stop(self) -> bool:
        """Whether somebody has asked the process to stop."""
        return self.status is not None and self.status > 128

    def __str__(self) -> str:
        whose = "another process of the run" if self.rank is None else f"the process of rank {self.rank}"
        if self.status is None:
            return f"{whose} has died"
        if self.status < 0:
            return f"{whose} has died (signal {-self.status}, {signal.strsignal(-self.status)})"
        return f"{whose} was stopped" if self.is_stop else f"{whose} has failed; see its error"


class Board:
    """What all processes of a run can read.

    Args:
        store: Where it is. Its connection must be used for nothing else: on one, everybody waits for the answer to what
            another has asked.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_gone = False

    @classmethod
    def of_torchrun(cls) -> Self | None:
        """Return that of the processes which torchrun has started together, if it has; they all call this."""
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            return None
        store, rank, world_size = next(rendezvous("env://"))
        return cls(PrefixStore(_agree_on_a_place(store, rank, world_size), store))

    @classmethod
    def of_first(cls, address: str, port: int, rank: int, world_size: int) -> Self:
        """Return one that the first process has, when all processes are there; signals end the wait for them."""
        store = TCPStore(
            address, port, world_size, is_master=rank == 0, wait_for_workers=False, multi_tenant=True, timeout=_LATEST
        )
        return cls(PrefixStore(_agree_on_a_place(store, rank, world_size), store))

    @classmethod
    def of_group(cls) -> Self:
        """Return that of the processes which have found each other: by the same store."""
        return cls(torch.distributed.distributed_c10d._get_default_store().clone())

    def read(self) -> Failure | None:
        """Return the first failure, if there is one."""
        try:
            return self._failure(self.store.get(_KEY)) if not self.is_gone and self.store.check([_KEY]) else None
        except torch.distributed.DistError:
            self.is_gone = True
            return None

    def write(self, failure: Failure) -> Failure:
        """Write down a failure, unless there is one already; return what is written there then."""
        try:
            return self._failure(self.store.compare_set(_KEY, "", json.dumps(astuple(failure))))
        except torch.distributed.DistError:  # the process that had it has ended
            self.is_gone = True
            return failure

    @staticmethod
    def _failure(written: bytes) -> Failure:
        return Failure(*json.loads(written))


def _agree_on_a_place(store: Store, rank: int, world_size: int) -> str:
    """Return a prefix that is new: torchrun keeps its store when it starts the processes again, with all that is in it.

    What the first process reads of another may be from an earlier life, so it waits for an answer to what it replies.
    """
    mine = uuid4().hex
    if rank > 0:
        store.set(f"lightning_cnn/present/{rank}", mine)
        while not store.check([f"lightning_cnn/place/{mine}"]):  # not `wait`, which no signal reaches
            time.sleep(_EVERY)
        place = store.get(f"lightning_cnn/place/{mine}").decode()
        store.set(f"{place}/{rank}", "")
        return place
    missing = set(range(1, world_size))
    while missing:
        for other in missing:
            if store.check([present := f"lightning_cnn/present/{other}"]):
                store.set(f"lightning_cnn/place/{store.get(present).decode()}", mine)
        missing = {other for other in missing if not store.check([f"{mine}/{other}"])}
        time.sleep(_EVERY)
    return mine
