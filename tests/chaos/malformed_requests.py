"""Malformed requests to `lightning-cnn serve` in a process of its own, with an exported model.

Each must be refused, or answered where it is still right, but never be a fault of the server. That must be the same
process to the end, print nothing, end when it is told to, and its memory must not grow.
"""

from collections.abc import Iterator
from pathlib import Path

from chaos.common import Outcome, command, tiny_datasets, train
from serve.malformed import answered, ask_from_description, is_fault, memory
from serve.processes import Running, running_process

#: MiB by which the resident memory of the server may grow after the first half.
MEMORY = 30
#: Seconds that the server waits for the body of a request: many are shorter than they say.
TIMEOUT = 5


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Send `tries` requests: up to a tenth are made by schemathesis, the rest are damaged ones of ours."""
    folder.mkdir(exist_ok=True)
    model = folder / "model.onnx"
    with tiny_datasets(folder / "data"):
        status, errors = command("export", train(folder, "mnist/cnn.yaml"), "--output", model)
    if status != 0:
        raise RuntimeError(errors)
    lost, sizes = [], []
    with running_process("-m", "lightning_cnn", "serve", str(model), "--timeout", str(TIMEOUT)) as server:
        sizes.append(memory(server.process.pid))
        described = ask_from_description(server.address, max(1, tries // 100))
        for half in range(2):
            lost += _faults(server, (tries - described + half) // 2, seed + half)
            sizes.append(memory(server.process.pid))
        lost += _wrong_at_the_end(server)
    growth = sizes[2] - sizes[1]
    lost += [f"memory grew by {growth:.0f} MiB in the second half"] if growth > MEMORY else []
    before, middle, after = (f"{size:.0f}" for size in sizes)
    return Outcome(f"malformed requests to `serve` (memory {before}, {middle}, {after} MiB)", tries, lost)


def _faults(server: Running, number: int, seed: int) -> Iterator[str]:
    """Yield a line for each request that the server failed to answer."""
    for kind, request, status in answered(server.port, number, seed):
        if is_fault(status):
            yield f"{kind} (seed {seed}): {status} for {request[:2000]!r}"


def _wrong_at_the_end(server: Running) -> Iterator[str]:
    """Yield what is wrong with the process; `stop` ends it."""
    if server.process.poll() is not None:
        yield f"the server has ended with {server.process.returncode}"
        return
    status, _, errors = server.stop()
    if status != 143:
        yield f"the server, when told to end, ended with {status}"
    yield from (f"the server printed {line!r}" for line in errors.splitlines()[1:])
