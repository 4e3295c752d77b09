"""Mirrors: web folders that hold the gzipped files."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from lightning_cnn.data.files import MAX_BYTES, SourceError, UnreachableError, announce, gunzip
from lightning_cnn.errors import reason

#: Seconds to wait for a mirror's answer, and for each further piece of a file.
TIMEOUT = 5.0
#: Seconds that one file may take in all, so that a mirror that drips cannot hold a run for ever.
FILE_LIMIT = 900.0

_PIECE = 64 * 1024


@dataclass(frozen=True)
class Mirror:
    """Gzipped IDX files in a web folder."""

    address: str

    @property
    def name(self) -> str:
        """How messages call the source."""
        return self.address

    def where(self, file: str) -> str:
        """Return the address of `file`."""
        return f"{self.address.rstrip('/')}/{file}.gz"

    def read(self, file: str) -> bytes:
        """Return the decompressed bytes of `file`, or raise `SourceError`."""
        return gunzip(_download(self.where(file)))


def _download(address: str) -> bytes:
    try:
        with _within(TIMEOUT, lambda: urlopen(address, timeout=TIMEOUT)) as response:
            return _receive(response, address)
    except HTTPError as error:
        error.close()
        raise SourceError(f"{error.code} {error.reason}") from error
    except TimeoutError as error:
        raise UnreachableError(f"time-out after {TIMEOUT:g} s") from error
    except URLError as error:
        timed_out = isinstance(error.reason, TimeoutError)
        why = error.reason if isinstance(error.reason, BaseException) else error
        raise UnreachableError(f"time-out after {TIMEOUT:g} s" if timed_out else reason(why)) from error
    except (OSError, HTTPException) as error:
        raise SourceError(reason(error)) from error


def _within(seconds: float, opening: Callable[[], HTTPResponse]) -> HTTPResponse:
    """Return what `opening` returns, or raise TimeoutError.

    urlopen's own time-out counts for each address of a host anew and not at all for looking up its name, which adds up
    to minutes behind a firewall that drops everything.
    """
    outcome: Future[HTTPResponse] = Future()

    def work() -> None:
        try:
            outcome.set_result(opening())
        except BaseException as error:  # noqa: BLE001  # whatever it is, the waiting thread raises it
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome.result(seconds)


def _receive(response: HTTPResponse, address: str) -> bytes:
    deadline = time.monotonic() + FILE_LIMIT
    size = response.length
    content = bytearray()
    with _progress(address, size) as advance:
        while piece := response.read1(_PIECE):
            content += piece
            advance(len(piece))
            if len(content) > MAX_BYTES:
                raise SourceError(f"larger than {MAX_BYTES:,} bytes, the most that is fetched")
            if time.monotonic() > deadline:
                raise UnreachableError(f"not complete after {FILE_LIMIT:g} s")
    if size is not None and len(content) < size:
        raise SourceError(f"connection cut after {len(content):,} of {size:,} bytes")
    return bytes(content)


@contextmanager
def _progress(address: str, size: int | None) -> Iterator[Callable[[int], object]]:
    """Show how far the download is: a bar in a terminal, one line anywhere else."""
    if not sys.stderr.isatty():
        announce(f"fetching {address}" + (f" ({size:,} bytes)" if size is not None else ""))
        yield lambda _: None
        return
    from tqdm import tqdm  # not before it is needed: almost every run finds its data at home

    with tqdm(total=size, unit="B", unit_scale=True, desc=f"fetching {address}", file=sys.stderr) as bar:
        yield bar.update
