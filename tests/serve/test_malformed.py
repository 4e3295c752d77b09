import random
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from serve.conftest import Brightness
from serve.local import running
from serve.malformed import KINDS, bombard, memory, send
from serve.processes import PROGRAM, started

from lightning_cnn.serve import protocol
from lightning_cnn.serve.settings import Limits

SETTINGS = settings(
    max_examples=30, derandomize=True, deadline=None, database=None, suppress_health_check=[*HealthCheck]
)


def test_malformed_requests_are_refused_and_the_memory_stays_the_same():
    quick = "import lightning_cnn.serve.protocol as protocol\nprotocol.SECONDS = 0.5\n"
    with started("--timeout", "1", program=quick + PROGRAM) as server:
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

        lines = [send(port, kind(rng)) for _ in range(12)]

    assert any(line.startswith("HTTP/1.1 4") for line in lines)


def test_requests_made_from_the_description_are_answered_as_it_says():
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        negative_data_rejection,
        response_schema_conformance,
        status_code_conformance,
    )

    torch.set_flush_denormal(False)  # which a training in this process has set, and hypothesis refuses
    checks = [content_type_conformance, negative_data_rejection, response_schema_conformance, status_code_conformance]
    with running({"brightness": Brightness()}) as address:
        description = schemathesis.openapi.from_url(f"{address}/openapi.json")
        tried = 0
        for operation in (found.ok() for found in description.get_all_operations()):
            for mode in GenerationMode:

                @SETTINGS
                @given(case=operation.as_strategy(generation_mode=mode))
                def ask(case):
                    nonlocal tried
                    tried += 1
                    case.call_and_validate(checks=checks)

                with suppress(Unsatisfiable):  # of an operation that takes nothing, nothing is wrong
                    ask()

    assert tried > 60
