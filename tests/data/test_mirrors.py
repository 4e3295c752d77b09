import gzip
import io
import re
import sys
import time

import pytest
from web import not_found, send, send_without_end, serve, stall, stall_midway

from lightning_cnn.data import files, mirrors
from lightning_cnn.data.files import SourceError, UnreachableError
from lightning_cnn.data.mirrors import Mirror


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_a_file_is_fetched_and_decompressed(capsys):
    with serve({"/folder/one.gz": gzip.compress(b"content")}) as server:
        assert Mirror(server.address + "folder/").read("one") == b"content"
        assert Mirror(server.address + "folder").where("one") == server.address + "folder/one.gz"
    assert f"fetching {server.address}folder/one.gz (27 bytes)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (not_found, "404 Not Found"),
        (send(bytes(50), announced=80), "connection closed after 50 of 80 bytes"),
        (send(b"<html>Log in to this hotel's net</html>"), "not a valid gzip file"),
        (send(gzip.compress(b"content")[:-3]), "not a valid gzip file"),
    ],
)
def test_a_missing_truncated_or_invalid_file_is_rejected(behaviour, why):
    with serve(behaviour) as server, pytest.raises(SourceError, match=why) as caught:
        Mirror(server.address).read("one")

    assert not isinstance(caught.value, UnreachableError)  # other files may be there


def test_an_endless_response_is_rejected(monkeypatch):
    monkeypatch.setattr(mirrors, "MAX_BYTES", 3 * 2**20)

    with (
        serve(send_without_end) as server,
        pytest.raises(SourceError, match=r"larger than the limit of 3,145,728 bytes"),
    ):
        Mirror(server.address).read("one")


def test_a_response_of_exactly_the_limit_is_accepted(monkeypatch):
    content = gzip.compress(b"content")
    monkeypatch.setattr(mirrors, "MAX_BYTES", len(content))

    with serve(send(content)) as server:
        assert Mirror(server.address).read("one") == b"content"


def test_a_gzip_bomb_is_rejected(monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 2**20)

    with serve(send(gzip.compress(bytes(5 * 2**20)))) as server, pytest.raises(SourceError, match="larger than"):
        Mirror(server.address).read("one")


@pytest.mark.parametrize("behaviour", [stall, stall_midway])
def test_a_stalled_server_times_out(monkeypatch, behaviour):
    monkeypatch.setattr(mirrors, "TIMEOUT", 0.2)
    start = time.monotonic()

    with serve(behaviour) as server, pytest.raises(UnreachableError, match=re.escape("timed out after 0.2 s")):
        Mirror(server.address).read("one")

    assert time.monotonic() - start < 2


def test_the_name_lookup_counts_against_the_time_out(monkeypatch):
    monkeypatch.setattr(mirrors, "TIMEOUT", 0.1)
    monkeypatch.setattr(mirrors, "urlopen", lambda address, timeout: time.sleep(0.5))
    start = time.monotonic()

    with pytest.raises(UnreachableError, match="timed out"):
        Mirror("https://slow.invalid/").read("one")

    assert time.monotonic() - start < 0.4


def test_a_slow_server_times_out(monkeypatch):
    monkeypatch.setattr(mirrors, "FILE_LIMIT", 0.0)

    with serve(send(bytes(50))) as server, pytest.raises(UnreachableError, match="not complete after 0 s"):
        Mirror(server.address).read("one")


def test_a_closed_port_is_unreachable():
    with serve({}) as server:
        pass

    with pytest.raises(UnreachableError, match="connection refused"):
        Mirror(server.address).read("one")


def test_a_terminal_shows_a_progress_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())

    with serve({"/one.gz": gzip.compress(b"content")}) as server:
        assert Mirror(server.address).read("one") == b"content"

    assert "one.gz" in sys.stderr.getvalue()
    assert "100%" in sys.stderr.getvalue() and "27.0/27.0" in sys.stderr.getvalue()
