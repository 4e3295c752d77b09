import gzip
import io
import re
import sys
import time

import pytest
from web import not_found, redirect, send, send_without_end, serve, stall, stall_midway

from lightning_cnn.data import files, mirrors
from lightning_cnn.data.files import SourceError, UnreachableError
from lightning_cnn.data.mirrors import Mirror, user_mirrors
from lightning_cnn.errors import UserError


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


def rude(handler, server):
    handler.send_response(500, "no\x1b[31m \x9bway" + "!" * 1000)
    handler.end_headers()


@pytest.mark.parametrize(("behaviour", "why"), [(redirect, "302 The HTTP server .* infinite loop"), (rude, "500 no")])
def test_what_a_server_says_is_one_short_line(behaviour, why):
    with serve(behaviour) as server, pytest.raises(SourceError, match=why) as caught:
        Mirror(server.address).read("one")

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 200
    assert len(server.requests) < 15


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ("https://a.org/x/", ["https://a.org/x"]),
        ("http://a:80, https://b/c/,", ["http://a:80", "https://b/c"]),
        (["http://a", "http://b/"], ["http://a", "http://b"]),
        ("", []),
        ([], []),
    ],
)
def test_mirrors_of_the_user(monkeypatch, given, addresses):
    monkeypatch.setenv("LIGHTNING_CNN_MIRRORS", "http://of.environment")

    assert user_mirrors(given) == addresses
    assert user_mirrors(None) == ["http://of.environment"]
    monkeypatch.setenv("LIGHTNING_CNN_MIRRORS", "")
    assert user_mirrors(None) == []


@pytest.mark.parametrize(
    "given", ["data", "file:///etc/passwd", "ftp://a/b", "https://", "http://a b", "http:///x", "http://a/é"]
)
def test_mirrors_are_web_addresses(monkeypatch, given):
    with pytest.raises(UserError, match="is not a web address; give those of folders, such as"):
        user_mirrors(given)
    monkeypatch.setenv("LIGHTNING_CNN_MIRRORS", f"http://a,{given}")
    with pytest.raises(UserError, match="LIGHTNING_CNN_MIRRORS: "):
        user_mirrors(None)


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
