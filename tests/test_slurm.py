import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import forks
import pytest
from distributed.processes import free_port
from distributed.trainings import FIT, TOLERANCE, Training

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/slurm.sbatch"

#: In place of `lightning-cnn`: the module that its forks run, on tiny data.
CHILD = "distributed.child"
#: Asks the test for the tasks of a job, and ends as the worst of them.
SRUN = """
import json, os, socket, sys
first = next(number for number, word in enumerate(sys.argv) if number and not word.startswith("--"))
print("srun", *sys.argv[1:first], flush=True)
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(os.environ["SRUN"])
    socket.send_fds(asked, [b"?"], [1, 2])
    asked.sendall(json.dumps([sys.argv[first:], dict(os.environ)]).encode())
    asked.shutdown(socket.SHUT_WR)
    sys.exit(int(asked.recv(3)))
"""
#: Of a job, in seconds.
TIMEOUT = 120
SCONTROL = '#!/bin/sh\necho "$@" >>scontrol.txt\n'
#: One batch of validation and one of test for all processes.
ONE_BATCH = ("--data.eval_batch_size", "1000")
#: Prints how it was called.
TASK = """#!/bin/sh
echo "task $SLURM_PROCID with $OMP_NUM_THREADS threads:" "$@"
"""


def start_tasks(listener: socket.socket, folder: Path) -> None:
    """Start the tasks of one job as srun does, and answer with the status of the worst."""
    asking, _ = listener.accept()
    with asking:
        _, streams, _, _ = socket.recv_fds(asking, 1, 2)
        command, environment = json.load(asking.makefile())
        if Path(folder, command[0]).read_text() == CHILD:
            command[:1] = [sys.executable, "-m", CHILD]
        here, nodes = int(environment["SLURM_NTASKS_PER_NODE"]), int(environment["SLURM_JOB_NUM_NODES"])
        tasks = []
        for number in range(here * nodes):
            place = {"PROCID": number, "LOCALID": number % here, "NODEID": number // here, "NTASKS": here * nodes}
            places = {f"SLURM_{name}": str(value) for name, value in place.items()}
            out, err = streams
            tasks.append(forks.Popen(command, env=environment | places, cwd=folder, stdout=out, stderr=err))
        for stream in streams:
            os.close(stream)
        asking.sendall(str(max(task.wait() % 256 for task in tasks)).encode())


@pytest.fixture
def submit(tmp_path, tiny_data) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the script as SLURM does, from a copy of its own, with stand-ins for its commands and for `lightning-cnn`."""

    def write(path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)

    def run(program: str, *arguments: str, nodes: int = 1, tasks: int = 2, **variables: str):
        write(tmp_path / "bin/srun.py", SRUN)
        write(tmp_path / "bin/srun", f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/bin/srun.py" "$@"\n')
        write(tmp_path / "bin/scontrol", SCONTROL)
        write(tmp_path / ".venv/bin/lightning-cnn", program)
        spool = tmp_path / "spool/slurm_script"
        spool.parent.mkdir(exist_ok=True)
        shutil.copy(SCRIPT, spool)
        job = {
            **{"JOB_ID": "4711", "JOB_NAME": "lightning-cnn", "NODELIST": "127.0.0.1", "CPUS_PER_TASK": "1"},
            **{"JOB_NUM_NODES": str(nodes), "NNODES": str(nodes), "NTASKS_PER_NODE": str(tasks)},
        }
        environment = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "CHILD_DATA": str(tiny_data),
            "MASTER_PORT": str(free_port()),
            **{f"SLURM_{name}": value for name, value in (job | variables).items()},
        }
        with TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor() as pool:
            environment["SRUN"] = f"{short}/srun"  # a socket may have about a hundred letters
            listener.bind(environment["SRUN"])
            listener.listen()
            listener.settimeout(TIMEOUT)
            started = pool.submit(start_tasks, listener, tmp_path)
            command = [spool, *arguments]
            options = {"cwd": tmp_path, "env": os.environ | environment, "capture_output": True, "text": True}
            job = subprocess.run(command, timeout=TIMEOUT, **options)
            started.result(timeout=1)
        return job

    return run


def options() -> list[str]:
    """What the script asks SLURM for, as SLURM reads it: until the first command."""
    head = re.split(r"^[^#\n]", SCRIPT.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^#SBATCH (.*)$", head, flags=re.MULTILINE)


def test_slurm_sends_the_tasks_a_signal_and_requeues_the_job():
    assert options() == [
        *("--job-name=lightning-cnn", "--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=4", "--time=01:00:00"),
        *("--signal=SIGUSR1@120", "--requeue", "--open-mode=append"),
    ]
    assert SCRIPT.read_text().count("#SBATCH") == len(options())


def test_every_task_trains_with_the_resources_of_slurm_and_the_given_arguments(submit):
    job = submit(TASK, "--config", "my configs/cnn.yaml", nodes=2, tasks=2, CPUS_PER_TASK="3")

    command = "fit --resume auto --trainer.num_nodes 2 --trainer.devices 2 --trainer.strategy ddp"
    assert (job.returncode, job.stderr) == (0, "")
    assert sorted(job.stdout.splitlines()) == [
        "srun --cpus-per-task=3 --kill-on-bad-exit=0",
        *[f"task {number} with 3 threads: {command} --config my configs/cnn.yaml" for number in range(4)],
    ]


def test_a_job_that_fails_has_its_status(submit):
    assert submit("#!/bin/sh\nexit 2\n").returncode == 2


def test_a_job_at_its_time_limit_resumes_when_slurm_restarts_it(submit, cli, tmp_path, monkeypatch):
    fit = (*FIT[1:], *ONE_BATCH, "--trainer.accelerator", "cpu", "--trainer.callbacks+=distributed.recording.TimeLimit")

    first = submit(CHILD, *fit)

    training = Training(tmp_path, first.stdout + first.stderr)
    assert first.returncode == 128 + 10, training.output  # SIGUSR1
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 4711\n"
    assert len(training.losses) == 4 and training.other_metrics[-1]["step"] == "3"
    assert json.loads((training.run / "environment.json").read_text())["job"] == "slurm 4711"

    again = submit(CHILD, *fit, RESTART_COUNT="1")

    assert again.returncode == 0, again.stdout + again.stderr
    assert f"Resumed: {training.run.relative_to(tmp_path)}" in again.stderr
    assert [len(rank["steps"]) for rank in training.ranks] == [2, 2]
    (tmp_path / "single").mkdir()
    monkeypatch.chdir(tmp_path / "single")
    assert cli(*FIT, *ONE_BATCH, "--trainer.accelerator", "cpu", "--trainer.devices", 1).status == 0
    single = Training(tmp_path / "single", "")
    assert training.losses == [pytest.approx(row, rel=TOLERANCE["cpu"]) for row in single.losses]
    assert training.other_metrics == single.other_metrics
    labels = [
        [line.split(",")[:3] for line in (t.run / "test_predictions.csv").read_text().splitlines()]
        for t in (training, single)
    ]
    assert labels[0] == labels[1] and len(labels[0]) == 101
