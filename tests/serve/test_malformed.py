import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from serve.conftest import Brightness
from serve.local import running
from serve.malformed import KINDS, ask_from_description, bombard, memory, send
from serve.processes import PROGRAM, started

from lightning_cnn.serve import protocol
from lightning_cnn.serve.settings import Limits


def test_malformed_requests_are_refused_and_the_memory_stays_the_same():
    quick = "import lightning_cnn.serve.protocol as protocol\nprotocol.SECONDS = 0.5\n"
    with started("--timeout", "3", program=quick + PROGRAM) as server:  # less is too short for a busy machine
        bombard(server.port, 140, seed=1)
        before = memory(server.process.pid)
        answers = bombard(server.port, 280, seed=2)
        after = memory(server.process.pid)
        assert server.process.poll() is None
        status, out, err = server.stop()

    assert {"400", "404", "413", "422"} <= set(answers)
    assert after - before < 30
    assert status == 143
    assert err.count("\n") == out.count("\n") + 1 == 1  # no client can fill the log


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_refused_at_least_once(kind, monkeypatch):
    rng = random.Random(3)
    monkeypatch.setattr(protocol, "SECONDS", 0.5)
    with running({"brightness": Brightness()}, limits=Limits(timeout=0.5)) as address:
        port = int(address.rpartition(":")[2])

        with ThreadPoolExecutor(12) as pool:  # each may wait for the limit
            lines = list(pool.map(lambda content: send(port, content), [kind(rng) for _ in range(12)]))

    assert any(line.startswith("HTTP/1.1 4") for line in lines)


def test_requests_made_from_the_description_are_answered_as_it_says():
    torch.set_flush_denormal(False)  # which a training in this process has set, and hypothesis refuses
    with running({"brightness": Brightness()}) as address:
        assert ask_from_description(address, 30) > 60
