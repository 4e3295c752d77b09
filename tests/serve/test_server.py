import json
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest
from serve.conftest import base64_of, picture
from serve.processes import PROGRAM, started, wait_until

from lightning_cnn.serve import protocol
from lightning_cnn.serve.server import listen

QUESTION = json.dumps({"images": [base64_of(picture())]}).encode()
PREDICTED = 'lightning_cnn_requests_total{method="POST",path="/predict",status="200"} 20.0'
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture
def answering() -> httpx2.Client:
    with httpx2.Client(timeout=120, trust_env=False) as client:
        yield client


def is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_request_that_was_accepted_is_answered_before_the_end(signum, status, answering):
    with started() as server:
        assert answering.post(
            f"{server.address}/predict", content=QUESTION, headers={"content-type": "application/json"}
        )
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(HEAD % len(QUESTION) + QUESTION[:20])
            in_progress = "lightning_cnn_requests_in_progress 2.0"  # this one, and the one for the metrics
            wait_until(lambda: in_progress in answering.get(f"{server.address}/metrics").text)
            server.process.send_signal(signum)
            wait_until(lambda: is_closed(server.port))
            connection.sendall(QUESTION[20:])
            answer = read_all(connection)
        _, err = server.process.communicate(timeout=120)

    assert answer.startswith(b"HTTP/1.1 200 OK") and b'"label":"light"' in answer
    assert server.process.returncode == status
    assert err == f"lightning-cnn: stopped by {signal.Signals(signum).name}; all requests are answered\n"


def test_metrics_of_several_processes_are_those_of_all(answering):
    with started("--workers", "2") as server:
        wait_until(lambda: len(server.children()) == 2)

        def ask(count: int) -> None:
            with httpx2.Client(timeout=120, trust_env=False) as client:
                for _ in range(count):
                    files = {"images": picture()}
                    assert client.post(f"{server.address}/predict", files=files).status_code == 200
                    client.headers["Connection"] = "close"  # another process may be next

        threads = [threading.Thread(target=ask, args=(5,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        def read() -> str:
            return answering.get(f"{server.address}/metrics", headers={"Connection": "close"}).text

        wait_until(lambda: PREDICTED in read())  # a request is counted when its answer has been sent
        texts = {read() for _ in range(8)}
        first, second = server.children()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(server.children()) == 2 and first not in server.children())
        wait_until(lambda: "lightning_cnn_requests_in_progress 1.0" in read())  # the one for the metrics
        after = read()
        status, _, err = server.stop()

    for text in (*texts, after):
        assert 'lightning_cnn_predictions_total{label="light",model="model"} 20.0' in text
        assert PREDICTED in text
        assert re.search(r'request_seconds_bucket\{le="\+Inf",path="/predict"\} 20\.0', text)
    assert second and (status, err) == (143, "lightning-cnn: stopped by SIGTERM; all requests are answered\n")


def test_a_process_that_is_killed_while_it_is_asked_whether_it_lives_is_replaced_at_once():
    with started("--workers", "2") as server:
        wait_until(lambda: len(server.children()) == 2)
        first, _ = server.children()
        os.kill(first, signal.SIGSTOP)
        time.sleep(1)  # it is asked every half second, and has two minutes to answer
        os.kill(first, signal.SIGKILL)

        wait_until(lambda: len(server.children()) == 2 and first not in server.children(), seconds=60)
        assert server.stop()[0] == 143


def test_the_processes_end_with_the_one_that_has_started_them():
    with started("--workers", "2") as server:
        wait_until(lambda: len(server.children()) == 2)
        children = server.children()
        wait_until(lambda: httpx2.get(f"{server.address}/health", trust_env=False, timeout=120).status_code == 200)
        server.process.kill()
        server.process.wait()

        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def test_what_is_not_http_or_too_large_gets_an_answer_in_json():
    with started() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b'{"detail": "Invalid HTTP request received."}')
        too_much = 40 * 2**20
        with socket.create_connection(("127.0.0.1", server.port)) as connection:  # which sends all before it reads
            connection.sendall(HEAD % too_much)
            for _ in range(too_much >> 20):
                connection.sendall(bytes(2**20))
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 413 ") and b"connection: close" in answer


def test_a_connection_without_a_request_is_closed():
    program = f"import {protocol.__name__} as protocol\nprotocol.SECONDS = 0.2\n"
    with started(program=program + PROGRAM) as server:
        for sent in (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                connection.sendall(sent)
                begun = time.monotonic()
                answer = read_all(connection)
                assert time.monotonic() - begun < 4  # uvicorn itself closes idle ones after five seconds
            assert answer.startswith(b"HTTP/1.1 200 OK") == (sent.count(b"GET") == 2)


def test_answers_are_not_delayed_by_the_system():
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.proto == socket.IPPROTO_TCP  # otherwise asyncio does not set TCP_NODELAY
