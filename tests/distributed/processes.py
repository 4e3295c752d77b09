"""Commands in several processes on one machine, as Lightning or torchrun start them, on tiny data."""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import forks
from chaos.interruptions import Ended
from checkout import PYTHONPATH


def run(
    arguments: Sequence[object],
    *,
    folder: Path,
    data: Path,
    processes: int = 1,
    launcher: Literal["lightning", "torchrun"] = "lightning",
    nodes: int = 1,
    max_restarts: int = 0,
    timeout: float = 120,
    environment: Mapping[str, str] | None = None,
    module: str = "distributed.child",
    accelerator: Literal["cpu", "gpu"] = "cpu",
) -> Ended:
    """Run `lightning-cnn` in processes of one thread each, and wait until all of them have ended.

    Args:
        arguments: The command and its arguments.
        folder: The working directory; created if it does not exist.
        data: The data folder, with MNIST, for example of the fixture `tiny_data`.
        processes: Number of processes on each node.
        launcher: How they are started.
        nodes: Number of launchers on this machine, each of which stands for a node.
        max_restarts: Of torchrun.
        timeout: Seconds until all of them are killed; the output then ends with `it hung`.
        environment: More environment variables.
        module: The module that they run, like `lightning_cnn`.
        accelerator: The device of each process: gloo connects CPUs, between forks; NCCL GPUs, between new processes.

    Returns:
        The status of the first node that has not ended with 0, and the output of all nodes, one after the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(argument) for argument in (*arguments, "--trainer.accelerator", accelerator)]
    port = free_port()
    before = time.monotonic()
    if launcher == "torchrun":
        rendezvous = _rendezvous(nodes, port)
        options = ["--nproc-per-node", str(processes), "--max-restarts", str(max_restarts), *rendezvous]
        torchrun = [sys.executable, "-m", "torch.distributed.run", *options, "-m", module, *command]
        commands = [(torchrun, {})] * nodes
    else:
        devices = ["--trainer.devices", str(processes), "--trainer.num_nodes", str(nodes)]
        places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if nodes > 1 else {}
        start = [sys.executable, "-m", module, *command, *devices]
        commands = [(start, {**places, **({"NODE_RANK": str(node)} if nodes > 1 else {})}) for node in range(nodes)]
    popen = functools.partial(forks.Popen, has_forks=True) if accelerator == "cpu" else subprocess.Popen
    started = [
        popen(
            command,
            cwd=folder,
            env=_environment(data) | own | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for command, own in commands
    ]
    output = ""
    for process in started:
        output += _output(process, before + timeout - time.monotonic())
    statuses = [process.returncode for process in started]
    return Ended(next(filter(None, statuses), 0), output, time.monotonic() - before)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _rendezvous(nodes: int, port: int) -> list[str]:
    if nodes == 1:
        return ["--standalone"]
    where = f"127.0.0.1:{port}"
    return ["--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", where, "--rdzv-id", f"test{port}"]


def _environment(data: Path) -> dict[str, str]:
    """Return the environment of this process without the variables of a launcher."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TORCHELASTIC", "PL_", "SLURM"))}
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        clean.pop(name, None)
    return clean | {"CHILD_DATA": str(data), "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}


def _output(process: subprocess.Popen[str], seconds: float) -> str:
    """Return the output of a process and of all that it has started, when they have ended: they keep it open."""
    try:
        return process.communicate(timeout=max(seconds, 0))[0]
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # torchrun ends its workers, which have sessions of their own
            time.sleep(5)
            os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0] + "\nit hung"
