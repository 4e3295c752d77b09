import asyncio
import threading

import pytest
from fastapi import HTTPException
from serve.conftest import Brightness, base64_of, picture

from lightning_cnn.serve.gate import Gate
from lightning_cnn.serve.settings import Limits


def test_too_many_requests_are_refused_until_others_are_answered():
    gate = Gate(Limits(max_waiting=2))

    with gate.admit("a"):
        with gate.admit("b"):
            assert gate.inside == 2
            with pytest.raises(HTTPException) as raised, gate.admit("c"):
                pass
            assert raised.value.status_code == 503
            assert raised.value.headers == {"Retry-After": "1"}
        with gate.admit("c"):
            assert gate.inside == 2
    assert gate.inside == 0


def test_one_client_cannot_keep_out_the_others():
    gate = Gate(Limits(max_waiting=4))

    with gate.admit("a"), gate.admit("a"):
        with pytest.raises(HTTPException) as raised, gate.admit("a"):
            pass
        assert raised.value.status_code == 429
        with gate.admit("b"):
            assert gate.inside == 3
    with gate.admit("a"), gate.admit("a"):
        pass


def test_bytes_that_do_not_fit_into_the_memory_are_refused():
    gate = Gate(Limits(max_bytes=10))

    with gate.admit("a") as first:
        first(160)
        with gate.admit("b") as second, pytest.raises(HTTPException) as raised:
            second(1)
        assert raised.value.status_code == 503
    with gate.admit("b") as again:
        again(160)


class Slow(Brightness):
    """Answers when it is told to."""

    def __init__(self):
        super().__init__()
        self.asked, self.answer = threading.Event(), threading.Event()

    def probabilities(self, images):
        self.asked.set()
        assert self.answer.wait(60)
        return super().probabilities(images)


def test_requests_beyond_the_limits_get_a_status_and_a_message(serve):
    slow = Slow()
    client = serve({"slow": slow}, max_waiting=1)
    question = {"images": [base64_of(picture())]}
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(client.post("/predict", json=question)))
    waiting.start()
    assert slow.asked.wait(60)

    refused = client.post("/predict", json=question)
    health = client.get("/health")
    slow.answer.set()
    waiting.join()

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json() == {"detail": "1 requests are waiting already; send it again"}
    assert health.status_code == 200
    assert answers[0].status_code == 200
    assert client.post("/predict", json=question).status_code == 200


def test_an_answer_that_takes_too_long_is_not_waited_for(serve):
    slow = Slow()
    client = serve({"slow": slow}, timeout=0.2)

    response = client.post("/predict", json={"images": [base64_of(picture())]})
    slow.answer.set()

    assert response.status_code == 503
    assert response.json() == {"detail": "not answered within 0.2 s; send fewer images, or later"}


def test_a_request_that_does_not_arrive_is_not_waited_for(serve):
    app = serve(timeout=0.1).app
    scope = {
        **{"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "scheme": "http"},
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"9")],
        **{"server": ("localhost", 80), "client": ("127.0.0.1", 9), "root_path": "", "http_version": "1.1"},
    }
    sent = []

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))

    assert sent[0]["status"] == 408
    assert b"the request has not arrived within 0.1 s; send it again" in sent[1]["body"]
    assert (b"connection", b"close") in sent[0]["headers"]
