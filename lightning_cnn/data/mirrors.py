"""Mirrors: web folders with the gzipped files of a dataset.

A download has a limit on its size and on its total time, and its name lookup and connection count against one short
time-out. Neither pooch nor requests has these limits (a mirror that sends a byte now and then holds them for ever, and
pooch decompresses without a limit), and pooch verifies the compressed file against a single address.
"""

import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from lightning_cnn.data.files import MAX_BYTES, MissingError, Source, SourceError, UnreachableError, announce
from lightning_cnn.errors import UserError, reason
from lightning_cnn.text import in_one_line, printable

#: Seconds to wait for a connection, and for each further piece of a file.
TIMEOUT = 5.0
#: Seconds for a whole file, so that a slow mirror cannot block a run for ever.
FILE_LIMIT = 900.0


class Mirror(Source):
    """A web folder with gzipped IDX files.

    Args:
        address: Its address.
        is_users: Whether it is one of the user's, where the files of other datasets may be in its place.
    """

    def __init__(self, address: str, is_users: bool = False) -> None:
        super().__init__(address.rstrip("/"), address)
        self.is_users = is_users

    def read_stored(self, file: str) -> bytes:
        """Download the gzipped bytes of `file`, or raise `SourceError`."""
        try:
            with _open(self.where(file)) as response:
                return _receive(response, self.where(file))
        except HTTPError as error:
            error.close()
            kind = MissingError if error.code == HTTPStatus.NOT_FOUND and self.is_users else SourceError
            raise kind(quoted(f"{error.code} {error.reason}")) from error
        except (OSError, HTTPException) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, TimeoutError):
                raise UnreachableError(f"timed out after {TIMEOUT:g} s") from error
            kind = UnreachableError if isinstance(error, URLError) else SourceError
            raise kind(quoted(reason(cause if isinstance(cause, BaseException) else error))) from error


def user_mirrors(given: Sequence[str] | str | None) -> list[str]:
    """Return the addresses of the user's mirrors, without a slash at their ends.

    Args:
        given: The addresses, in a list or separated by commas; None for those in $LIGHTNING_CNN_MIRRORS.

    Raises:
        UserError: If one of them is not a web address.

    Example:
        >>> user_mirrors("https://example.org/data/, http://localhost:8000")
        ['https://example.org/data', 'http://localhost:8000']
    """
    what = "LIGHTNING_CNN_MIRRORS" if given is None else "mirrors"
    texts = os.environ.get("LIGHTNING_CNN_MIRRORS", "") if given is None else given
    addresses = [text.strip() for text in (texts.split(",") if isinstance(texts, str) else texts) if text.strip()]
    for address in addresses:
        if not re.fullmatch(r"https?://[!-.0-~][!-~]*", address):
            raise UserError(
                f"{what}: {address!r} is not a web address; give those of folders, such as https://example.org/data, "
                "separated by commas, other letters than those of ASCII as %XX"
            )
    return [address.rstrip("/") for address in addresses]


def quoted(text: str) -> str:
    """Return what a server says, or urllib of it, as one short line."""
    return printable(in_one_line(text))[:200]


def _open(address: str) -> HTTPResponse:
    """Open an address within `TIMEOUT` seconds, or raise TimeoutError.

    The time-out of urlopen starts again for each IP address of a host and does not cover the name lookup, which adds up
    to minutes behind a firewall that drops packets. The thread is a daemon, so it does not delay the exit.
    """
    opened: Future[HTTPResponse] = Future()

    def work() -> None:
        try:
            opened.set_result(urlopen(address, timeout=TIMEOUT))
        except BaseException as error:  # noqa: BLE001  # the waiting thread raises it
            opened.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return opened.result(TIMEOUT)


def _receive(response: HTTPResponse, address: str) -> bytes:
    """Read a response within the limits, with a progress bar in a terminal and one line elsewhere."""
    from tqdm import tqdm  # only when something is downloaded

    size, content, deadline = response.length, bytearray(), time.monotonic() + FILE_LIMIT
    with tqdm(total=size, unit="B", unit_scale=True, desc=f"fetching {address}", disable=None) as bar:
        if bar.disable:
            announce(f"fetching {address}" + ("" if size is None else f" ({size:,} bytes)"))
        while piece := response.read1(2**16):
            content += piece
            bar.update(len(piece))
            if len(content) > MAX_BYTES:
                raise SourceError(f"larger than the limit of {MAX_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise UnreachableError(f"not complete after {FILE_LIMIT:g} s")
    if size is not None and len(content) < size:
        raise SourceError(f"connection closed after {len(content):,} of {size:,} bytes")
    return bytes(content)
