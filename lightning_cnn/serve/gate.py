"""Which requests a process lets in: only so many at a time, of all clients and of each, and so many bytes."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import HTTPException

from lightning_cnn.serve.settings import Limits

#: What clients that are refused are told about when to come back, in seconds.
_RETRY = {"Retry-After": "1"}


class Gate:
    """Counts the requests in a process, and refuses those that are too many.

    Args:
        limits: How many are.

    Attributes:
        inside: The number of requests that are let in and not answered.

    Example:
        >>> gate = Gate(Limits(max_waiting=2))
        >>> with gate.admit("127.0.0.1"):
        ...     gate.inside
        1
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients: Counter[str] = Counter()
        self._bytes = 0
        self.inside = 0

    @contextmanager
    def admit(self, client: str) -> Iterator[Callable[[int], None]]:
        """Let a request in until the end of the block, and yield a function that counts its bytes in memory.

        The function raises `HTTPException` 503 if the bytes of all requests are too many.

        Raises:
            HTTPException: 503 if there are too many requests, 429 if there are too many of this client.
        """
        if self.inside >= self._limits.max_waiting:
            raise HTTPException(503, f"{self.inside:,} requests are waiting already; send it again", _RETRY)
        if self._clients[client] >= self._limits.max_per_client:
            raise HTTPException(
                429, f"{self._clients[client]:,} requests of yours are waiting already; send fewer at a time", _RETRY
            )
        brought = 0

        def bring(count: int) -> None:
            nonlocal brought
            if self._bytes + count > self._limits.max_memory:
                raise HTTPException(503, "the requests that are waiting fill the memory; send it again", _RETRY)
            self._bytes += count
            brought += count

        self.inside += 1
        self._clients[client] += 1
        try:
            yield bring
        finally:
            self._bytes -= brought
            self.inside -= 1
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
