"""Commands on files that mean harm: how a case is described, and run in a process of its own with limits.

A kind of files is a module of this folder with `cases(run)`, which yields a `Case` for each file and command. All cases
must be answered in one line: nothing that a file names runs, nothing is written but what the case says, no process
stays, and time and memory have limits. The processes are forks of this one, which has imported everything once.
"""

import contextlib
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from chaos.common import tiny_datasets, train

#: Seconds of a processor that a case may take, and after which its process is killed whatever it does.
CPU_SECONDS, SECONDS = 10, 60
#: Bytes of memory that a case may use, at its peak.
MEMORY = 1_500_000_000
#: Seconds that processes which a case has started have to end after it.
PATIENCE = 3
#: Characters of an error line; it may contain a long path.
LENGTH = 1500
#: What `cases` of other modules name in paths, settings and pickles: anything there must never be written.
OUTSIDE = "../outside"
#: The run whose files are changed: three steps of a small network; it can be resumed for more epochs.
SOUND = (
    *("--model.channels", "8", "--data.batch_size", "50", "--test", "true"),
    *("--model.scheduler", "StepLR", "--model.scheduler.step_size", "1"),
)
#: Bytes beyond which no process can allocate or write, so that a failing case does not take the machine down.
_MOST_MEMORY, _MOST_DISK = 2**32, 2**28
_PR_SET_CHILD_SUBREAPER = 36
#: Programs that a run asks about the machine and the checkout, and how jsonargparse finds annotations.
_HARMLESS = {"git", "nvidia-smi", "uname"}
_SEARCH_PATH = (sys.executable, ["-c", "import sys, json; print(json.dumps(sys.path))"])
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "socket.connect")
_CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "os.link", "os.truncate", "os.chmod")


@dataclass(frozen=True)
class Case:
    """A command on files that mean harm.

    Attributes:
        name: What is wrong with the files, unique in its kind.
        argv: The command; it runs in an empty folder with the files.
        make: Writes the files into that folder.
        writes: Patterns of what the command may write, relative to the folder, such as `runs/*/report.html`.
        may_work: Whether the command may also do its work, as if nothing were wrong.
        errors: Lines of errors if it does not; one for each file where a command goes on with the next.
        starts: Whether it may start processes, which must end with it.
        environment: Variables that are set.
    """

    name: str
    argv: tuple[str, ...]
    make: Callable[[Path], object]
    writes: tuple[str, ...] = ()
    may_work: bool = False
    errors: int = 1
    starts: bool = False
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Result:
    """What a case came to.

    Attributes:
        case: The case.
        fault: What is wrong with it; empty if nothing is.
        status: Its exit status, negative for a signal.
        output: What it printed on stderr.
        cpu: Seconds of a processor.
        memory: Bytes at its peak, Python and torch included.
    """

    case: Case
    fault: str
    status: int
    output: str
    cpu: float
    memory: int


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[Path]:
    """Import all commands once, and yield the folder of a sound run of tiny data, trained for one epoch."""
    from lightning_cnn.startup import quick_imports, set_environment

    os.environ["OMP_NUM_THREADS"] = "1"
    set_environment()
    with quick_imports():
        import lightning_cnn.commands.export
        import lightning_cnn.commands.fit
        import lightning_cnn.commands.predict
        import lightning_cnn.commands.report
        import lightning_cnn.config.loading  # noqa: F401
    import torch

    torch.set_num_threads(1)
    with tiny_datasets(folder / "data"):
        if (child := os.fork()) == 0:  # training starts threads, which no fork has
            status = 1
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                train(folder, "mnist/fast.yaml", *SOUND)
                status = 0
            except BaseException:  # noqa: BLE001  # it is printed
                traceback.print_exc()
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("the sound run failed")
        (run,) = (folder / "logs").glob("*/version_0")
        yield run


def attempt(case: Case, folder: Path) -> Result:
    """Run a case in a new folder, which is removed afterwards."""
    work = folder / "case" / "work"
    for name in ("work", "home", "outside", "tmp"):
        (work.parent / name).mkdir(parents=True)
    try:
        case.make(work)
        before = _snapshot(work.parent)
        status, usage, stays = _run(case, work, folder)
        errors = (folder / "stderr").read_text(errors="replace")
        memory = usage.ru_maxrss * 1024
        cpu = usage.ru_utime + usage.ru_stime
        after = _snapshot(work.parent)
        changed = {path for path in before | after if before.get(path) != after.get(path)}
        allowed = {str(path.relative_to(work.parent)) for pattern in case.writes for path in work.glob(pattern)}
        written = sorted(path for path in changed - allowed if not path.startswith(("tmp/", "home/.cache")))
        faults = [
            f"wrote {', '.join(written[:5])}" if written else "",
            *(folder / "audit").read_text().splitlines()[:3],
            "processes stay" if stays else "",
            f"took {cpu:.1f} s" if cpu > CPU_SECONDS or status == -signal.SIGKILL else "",
            f"used {memory / 1e6:,.0f} MB" if memory > MEMORY else "",
            _unclear(case, status, errors),
        ]
        return Result(case, "; ".join(filter(None, faults)), status, errors, cpu, memory)
    finally:
        shutil.rmtree(work.parent)


def _unclear(case: Case, status: int, printed: str) -> str:
    """Return what is wrong with the answer."""
    lines = [line for line in printed.splitlines() if "error" in line.lower()]
    answers = [line for line in lines if line.startswith("lightning-cnn: error: ")]
    if status == 0 and case.may_work and not lines:
        return ""
    if status not in (1, 2) or len(answers) != case.errors or lines != answers or "Traceback" in printed:
        return f"status {status}, {len(answers)} errors: {printed[-1000:]!r}"
    if too_long := [line for line in lines if len(line) > LENGTH]:
        return f"a line of {len(too_long[0]):,} characters"
    return ""


def _run(case: Case, work: Path, folder: Path) -> tuple[int, resource.struct_rusage, bool]:
    """Run a case in a fork, and return its status, what it used, and whether processes stay."""
    prctl = CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # this process becomes the parent of what the case leaves behind
    before = _children()
    audit = os.open(folder / "audit", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if (child := os.fork()) == 0:
        _be_case(case, work, folder, audit)
    os.close(audit)
    pidfd = os.pidfd_open(child)
    if not select.select([pidfd], [], [], SECONDS)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(pidfd)
    _, status, usage = os.wait4(child, 0)
    deadline = time.monotonic() + PATIENCE
    while (left := [pid for pid in _children() - before if os.waitpid(pid, os.WNOHANG) == (0, 0)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    return os.waitstatus_to_exitcode(status), usage, bool(left)


def _children() -> set[int]:
    """Return the processes whose parent is this one."""
    me = os.getpid()
    return {int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()}


def _be_case(case: Case, work: Path, folder: Path, audit: int) -> NoReturn:
    """Run the command in this process, and end it."""
    status = 70
    try:
        os.chdir(work)
        for stream, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", 1, encoding="utf-8", errors="replace") for n in (1, 2))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        home = work.parent / "home"
        os.environ.update(HOME=str(home), XDG_CACHE_HOME=str(home / ".cache"), TMPDIR=str(work.parent / "tmp"))
        os.environ.update(case.environment)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_DISK,) * 2)
        sys.argv = ["lightning-cnn", *case.argv]
        sys.path.insert(0, str(work))  # as of `python -m`: a module there must not be imported
        sys.addaudithook(_hook(case, work.parent, audit))
        from lightning_cnn.cli import main

        status = main([*case.argv])
    except BaseException:  # noqa: BLE001  # it is printed, and judged
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _hook(case: Case, place: Path, audit: int) -> Callable[[str, tuple[Any, ...]], None]:
    """Return an audit hook that notes what is started, and what is written outside of the folder of the case."""

    def note(text: str) -> None:
        os.write(audit, f"{text[:300]}\n".encode())

    def is_outside(path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        found = os.path.realpath(os.fsdecode(path))
        if Path(found).name.startswith(".coverage."):  # of the measurement of the tests, at the end of each process
            return False
        return not found.startswith((f"{place}/", "/dev/", "/proc/")) and found != str(place)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        program = str(arguments[0]) if arguments else ""
        is_harmless = Path(program).name in _HARMLESS or (
            event == "subprocess.Popen" and (program, [*arguments[1]][1:]) == _SEARCH_PATH
        )
        if event in _STARTS and not case.starts and not is_harmless:
            note(f"ran {event} {arguments!r}")
            raise PermissionError(f"a case must not start {event}")
        if event == "open" and is_outside(arguments[0]):
            flags = arguments[2]
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                note(f"opened {arguments[0]!r} for writing")
        elif event in _CHANGES:
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                if is_outside(path):
                    note(f"{event} {path!r}")

    return hook


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the state of everything in a folder."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (0, 0) if path.is_dir() else (status.st_mtime_ns, status.st_size)
    return found


def select_cases(cases: Iterable[Case], every: int) -> list[Case]:
    """Return every so-many-th case, starting with the first."""
    return [*cases][::every]
