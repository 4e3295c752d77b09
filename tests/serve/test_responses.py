import asyncio

import pytest

from lightning_cnn.serve import responses

REQUEST = {"type": "http", "headers": [(b"content-length", b"100")]}


async def _refuse(scope, receive, send):
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


@pytest.fixture
def refused(monkeypatch):
    """Refuse a request of five parts, or one whose parts never end, and return how many of them were read."""

    def refuse(seconds: float, silence: float = 60, linger: float = 60, parts: int = 5) -> int:
        monkeypatch.setattr(responses, "_SILENCE", silence)
        monkeypatch.setattr(responses, "_LINGER", linger)
        received, sent = [], []

        async def receive():
            await asyncio.sleep(seconds)
            received.append(b"x")
            return {"type": "http.request", "body": b"x", "more_body": len(received) < parts}

        async def send(message):
            sent.append(message)

        asyncio.run(responses.Linger(_refuse)(REQUEST, receive, send))
        assert [(m.get("body"), m.get("more_body", False)) for m in sent[1:]] == [(b"no", True), (b"", False)]
        assert sent[0]["headers"] == [(b"connection", b"close")]
        return len(received)

    return refuse


def test_the_rest_of_a_refused_request_is_read(refused):
    assert refused(seconds=0) == 5


def test_it_is_not_waited_for(refused):
    assert refused(seconds=1000, silence=0.01) == 0
    assert refused(seconds=0, linger=0.01, parts=10**9) < 10**9
