"""The Debian and Ubuntu archive: a dataset as a system package, fetched and unpacked without installing it."""

import os
import signal
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from lightning_cnn.data.files import MissingError, UnreachableError, announce, gunzip
from lightning_cnn.errors import reason

#: Seconds for each of the steps: reading the configuration, updating the lists, downloading, unpacking.
STEP_LIMIT = 180.0


@dataclass(frozen=True)
class DebianArchive:
    """A package of the system's own archive that carries the gzipped files.

    Everything that apt-get writes goes to a temporary folder: no root is needed, and the system stays as it is.

    Attributes:
        package: The package's name.
        folder: Where the package would put the files, for example ``/usr/share/datasets/fashion-mnist``.
    """

    package: str
    folder: str

    @property
    def name(self) -> str:
        """How messages call the source."""
        return f"Debian package {self.package}"

    def where(self, file: str) -> str:
        """Return the package's name, and the file in it."""
        return f"{self.name}, {file}.gz"

    def read(self, file: str) -> bytes:
        """Return the decompressed bytes of `file`, or raise `SourceError`."""
        if file not in self._unpacked:
            raise MissingError("missing")
        return gunzip(self._unpacked[file])

    @cached_property
    def _unpacked(self) -> dict[str, bytes]:
        """The gzipped content of each file in the package."""
        announce(f"fetching the {self.name} with apt-get (about 40 MB)")
        try:
            with TemporaryDirectory(prefix="lightning-cnn-") as temporary:
                return self._fetch(Path(temporary))
        except OSError as error:
            raise UnreachableError(reason(error)) from error

    def _fetch(self, scratch: Path) -> dict[str, bytes]:
        environment = _private_apt(scratch)
        # An update may fail for a repository that is not needed, so only a failing download counts.
        update = _run(["apt-get", "update"], scratch, environment)
        download = _run(["apt-get", "download", self.package], scratch, environment)
        packages = list(scratch.glob("*.deb"))
        if not packages:
            raise UnreachableError(_complaint(update.stderr + download.stderr))
        unpack = _run(["dpkg-deb", "-x", str(packages[0]), "unpacked"], scratch, environment)
        if unpack.returncode != 0:
            raise UnreachableError(_complaint(unpack.stderr))
        folder = scratch / "unpacked" / self.folder.lstrip("/")
        return {path.stem: path.read_bytes() for path in folder.glob("*.gz")}


def _private_apt(scratch: Path) -> dict[str, str]:
    """Return an environment in which apt-get uses the system's settings, but writes below `scratch` only.

    The settings are copied rather than overridden, because the hooks among them (which clean or refresh the system's
    caches after an update) cannot be taken back by a later setting.
    """
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    environment = {**os.environ, "LC_ALL": "C"}
    settings = _run(["apt-config", "dump"], scratch, environment).stdout.splitlines()
    kept = [line for line in settings if not line.lower().startswith("apt::update::")]
    private = [
        f'Dir::State::Lists "{scratch}/lists";',
        f'Dir::Cache "{scratch}/cache";',
        'Dir::Etc::Main "/dev/null";',
        'Dir::Etc::Parts "/dev/null";',
        'APT::Sandbox::User "root";',  # no change of user, who could not write here
        'Acquire::Retries "0";',
        'Acquire::http::Timeout "5";',
        'Acquire::https::Timeout "5";',
    ]
    (scratch / "apt.conf").write_text("\n".join(kept + private) + "\n", encoding="utf-8")
    return {**environment, "APT_CONFIG": str(scratch / "apt.conf")}


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a process group of its own, so that a time-out ends its children as well."""
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise UnreachableError(f"there is no {command[0]} on this system") from error
    with process:
        try:
            stdout, stderr = process.communicate(timeout=STEP_LIMIT)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise UnreachableError(f"`{' '.join(command)}`: time-out after {STEP_LIMIT:g} s") from error
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _complaint(stderr: str) -> str:
    """Return the first thing that apt or dpkg complained about: what follows is a consequence of it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith(("E:", "W:", "Err", "dpkg"))]
    return (complaints or lines or ["it failed without a word"])[0]
