import asyncio

import pytest
from serve.conftest import Brightness
from serve.local import running

from benchmarks import serve
from benchmarks.serve import Load, _open, load, serve_table


@pytest.fixture
def port():
    with running({"brightness": Brightness()}) as address:
        yield int(address.rpartition(":")[2])


def test_requests_are_sent_one_by_one_in_batches_and_by_many_clients(port, monkeypatch):
    monkeypatch.setattr(serve, "CLIENTS", 5)
    monkeypatch.setattr(serve, "RATE", 20)

    result = load(port, seconds=0.3, requests=32)

    assert list(result["batches"]) == [1, 4, 16, 32]
    assert result["closed"]["failed"] == result["open"]["failed"] == result["one"]["failed"] == 0
    assert 0 < result["one"]["p50"] <= result["one"]["p99"]
    assert result["closed"]["rate"] > 0 and result["open"]["rate"] > 0


def test_requests_that_are_refused_count_as_failed(port, monkeypatch):
    monkeypatch.setattr(serve, "CLIENTS", 2)
    nonsense = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"

    run = asyncio.run(_open(port, nonsense, rate=50, seconds=0.3))

    assert run.failed > 0 and run.times == []


def test_percentiles_are_in_milliseconds():
    run = Load([i / 1000 for i in range(1, 102)], failed=1, seconds=2.0)

    assert run.summary() == {"p50": 51.0, "p99": 100.0, "rate": 50.5, "failed": 1}


def test_the_table_has_a_row_for_each_model():
    run = {"p50": 2.0, "p99": 4.0, "rate": 500.0, "failed": 0}
    slow = {"p50": 200.0, "p99": 400.0, "rate": 450.0, "failed": 1}
    measurements = [
        {"model": model, "repeat": repeat, "one": run, "closed": slow, "open": run, "batches": {1: 500.0, 16: 3_000.0}}
        for model in ("a.onnx", "b.onnx")
        for repeat in range(2)
    ]

    table = serve_table(measurements)

    assert [row[0] for row in table.rows] == ["a.onnx", "b.onnx"]
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "model": "a.onnx",
        "one client: p50 ms": "2.0 (2.0–2.0)",
        "one client: p99 ms": "4.0 (4.0–4.0)",
        "images/s": "3,000 (3,000–3,000) (in batches of 16)",
        "100 clients, closed loop: requests/s": "450 (450–450)",
        "100 clients, closed loop: p50 ms": "200.0 (200.0–200.0)",
        "100 clients, closed loop: p99 ms": "400.0 (400.0–400.0)",
        "100 clients, open loop: p50 ms": "2.0 (2.0–2.0)",
        "100 clients, open loop: p99 ms": "4.0 (4.0–4.0)",
        "failed": "2",
    }
