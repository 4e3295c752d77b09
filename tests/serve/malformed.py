"""Requests that a server must refuse, in any number: damaged images, forms, JSON and HTTP."""

import json
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from serve.conftest import base64_of, picture

_IMAGES = [picture(90, (30, 20), kind, "RGB") for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")]
_BOUNDARY = b"--x\r\nContent-Disposition: form-data; name="
_Random = random.Random


def _flipped(content: bytes, rng: _Random) -> bytes:
    """Return bytes of which some are changed, left out or doubled."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                del changed[at : at + rng.randint(1, 20)]
            case _:
                changed[at:at] = changed[at : at + rng.randint(1, 20)]
        changed = changed or bytearray(b"x")
    return bytes(changed)


def _post(body: bytes, kind: str, **headers: str) -> bytes:
    fields = {"Host": "localhost", "Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in {**fields, **headers}.items())
    return f"POST /predict HTTP/1.1\r\n{head}\r\n".encode() + body


def _json(rng: _Random, content: bytes) -> bytes:
    return json.dumps({"images": [base64_of(content)], "top_k": rng.choice([1, 3])}).encode()


def _form(content: bytes) -> bytes:
    return _BOUNDARY + b'"images"; filename="a.png"\r\n\r\n' + content + b"\r\n--x--\r\n"


def damaged_image(rng: _Random) -> bytes:
    """An image file of which some bytes are wrong."""
    content = _flipped(rng.choice(_IMAGES), rng)
    if rng.random() < 0.5:
        return _post(_json(rng, content), "application/json")
    return _post(_form(content), "multipart/form-data; boundary=x")


def damaged_json(rng: _Random) -> bytes:
    """JSON of which some bytes are wrong."""
    return _post(_flipped(_json(rng, _IMAGES[0]), rng), "application/json")


def damaged_form(rng: _Random) -> bytes:
    """A form of which some bytes are wrong."""
    return _post(_flipped(_form(_IMAGES[0]), rng), "multipart/form-data; boundary=x")


def damaged_http(rng: _Random) -> bytes:
    """A request of which some bytes are wrong."""
    return _flipped(_post(_json(rng, _IMAGES[0]), "application/json"), rng)


def wrong_values(rng: _Random) -> bytes:
    """JSON with values of any type."""
    values = [None, True, -1, 1e308, "", "x" * 1000, [], [[]], {}, {"a": []}, "\ud800", 2**70, "AAAA"]
    names = ["images", "top_k", "seen", "model", "x", ""]
    question = {rng.choice(names): rng.choice(values) for _ in range(rng.randint(0, 4))}
    return _post(json.dumps(question).encode(), rng.choice(["application/json", "application/json; charset=utf-16"]))


def wrong_head(rng: _Random) -> bytes:
    """A request whose head is wrong or strange."""
    body = _json(rng, _IMAGES[0])
    wrong: list[dict[str, str]] = [
        {"Content-Length": "-1"},
        {"Content-Length": "9" * 30},
        {"Content-Length": str(2**40)},
        {"Transfer-Encoding": "chunked"},
        {"Transfer-Encoding": "gzip"},
        {"Host": rng.choice(["", "[", "evil.example", "a b", "localhost:x"])},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "\x00"},
        {"Content-Encoding": "gzip"},
        {"Authorization": "Bearer " + "x" * 1000},
        {"X": "y" * 100_000},
        {"Expect": "100-continue", "Content-Length": str(2**30)},
        {"Upgrade": "websocket", "Connection": "upgrade"},
    ]
    return _post(body, "application/json", **rng.choice(wrong))


def wrong_path(rng: _Random) -> bytes:
    """A request for something else."""
    path = rng.choice(["/", "/../../etc/passwd", "/page/%2e%2e/app.py", "/predict/", "*", "/%ff", "/\x00", "//"])
    query = "?" + "a=" * 50 if rng.random() < 0.3 else ""
    method = rng.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "X" * 50])
    return f"{method} {path}{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


KINDS: list[Callable[[_Random], bytes]] = [
    *(damaged_image, damaged_json, damaged_form, damaged_http, wrong_values, wrong_head, wrong_path),
]


def send(port: int, request: bytes) -> str:
    """Send a request and wait for the end of the connection; return the first line of the answer, if there is one."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        answer = b""
        with suppress(ConnectionError):  # refused before all of it was read
            connection.sendall(request)
            while part := connection.recv(65_536):
                answer += part
    assert b"Traceback" not in answer and b'File "' not in answer, answer
    return answer.partition(b"\r\n")[0].decode("latin-1")


def answered(port: int, number: int, seed: int = 0) -> Iterator[tuple[str, bytes, str]]:
    """Send a number of wrong requests; yield the kind, the request and the status of the answer, `none` without one."""
    rng = random.Random(seed)
    kinds = [KINDS[i % len(KINDS)] for i in range(number)]
    requests = [kind(rng) for kind in kinds]
    with ThreadPoolExecutor(16) as clients:  # some wait for a time limit of the server
        for kind, request, line in zip(kinds, requests, clients.map(partial(send, port), requests), strict=True):
            yield kind.__name__, request, (line.split() or ["", "none"])[1]


def is_fault(status: str) -> bool:
    """Whether a status blames the server."""
    return status != "none" and int(status) >= 500


def bombard(port: int, number: int, seed: int = 0) -> Counter[str]:
    """Send a number of wrong requests and return how often each status was the answer; those of 500 and above fail."""
    found: Counter[str] = Counter()
    for kind, request, status in answered(port, number, seed):
        assert not is_fault(status), (kind, status, request[:2000])
        found[status] += 1
    return found


def ask_from_description(address: str, number: int) -> int:
    """Send requests that schemathesis makes from the server's OpenAPI description, right ones and wrong ones.

    Args:
        address: The server.
        number: How many of each operation and of each, right and wrong; an operation may have fewer.

    Returns:
        How many were sent; the first answer that is not as described fails.
    """
    import schemathesis  # takes a second
    import torch
    from hypothesis import HealthCheck, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis.specs.openapi import checks

    torch.set_flush_denormal(False)  # Hypothesis draws subnormal numbers, which a training in this process turns off
    wanted = (
        checks.content_type_conformance,
        checks.negative_data_rejection,
        checks.response_schema_conformance,
        checks.status_code_conformance,
    )
    tried = 0
    description = schemathesis.openapi.from_url(f"{address}/openapi.json")
    for operation in (found.ok() for found in description.get_all_operations()):
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=number,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=[*HealthCheck],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case) -> None:
                nonlocal tried
                tried += 1
                case.call_and_validate(checks=wanted)

            with suppress(Unsatisfiable):  # of an operation that takes nothing, nothing is wrong
                ask()
    return tried


def memory(pid: int) -> float:
    """Return the memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20
