"""The Debian and Ubuntu archive: a dataset as a system package, downloaded and unpacked without installing it."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from lightning_cnn.data.files import MissingError, Source, UnreachableError, announce
from lightning_cnn.errors import reason

#: Seconds for each of the steps: updating the package lists, downloading, unpacking.
STEP_LIMIT = 180.0

# Read after the system's own settings. An update would otherwise run the system's hooks, which clean or refresh its
# caches; only `#clear` removes them.
_APT_SETTINGS = """\
#clear APT::Update;
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "root";  // another user could not write to the folder
Acquire::Retries "0";
Acquire::http::Timeout "5";
Acquire::https::Timeout "5";
"""


class DebianArchive(Source):
    """A package of the system's archive that contains the gzipped files.

    apt-get writes to a temporary folder only: root is not needed, and the system is not changed.

    Args:
        package: The package's name.
        folder: Where the package installs the files, for example ``/usr/share/datasets/fashion-mnist``.
    """

    def __init__(self, package: str, folder: str) -> None:
        super().__init__(f"Debian package {package}", f"Debian package {package}")
        self.package = package
        self.folder = folder

    def read_stored(self, file: str) -> bytes:
        """Return the gzipped bytes of `file`, or raise `SourceError`."""
        if file not in self._files:
            raise MissingError("missing")
        return self._files[file]

    @cached_property
    def _files(self) -> dict[str, bytes]:
        """The gzipped content of each file in the package."""
        if shutil.which("apt-get") is None:
            raise UnreachableError("there is no apt-get on this system")
        announce(f"fetching the {self.name} with apt-get (about 40 MB)")
        try:
            with TemporaryDirectory(prefix="lightning-cnn-") as folder:
                return self._download(Path(folder))
        except OSError as error:
            raise UnreachableError(reason(error)) from error

    def _download(self, folder: Path) -> dict[str, bytes]:
        for needed in ("lists/partial", "cache/archives/partial"):
            (folder / needed).mkdir(parents=True)
        (folder / "apt.conf").write_text(_APT_SETTINGS.format(folder=folder), encoding="utf-8")
        # An update may fail for a repository that is not needed, so only a failed download counts.
        messages = _run(["apt-get", "update", "-c", "apt.conf"], folder)
        messages += _run(["apt-get", "download", "-c", "apt.conf", self.package], folder)
        packages = list(folder.glob("*.deb"))
        if packages:
            messages = _run(["dpkg-deb", "-x", str(packages[0]), "unpacked"], folder)
        unpacked = folder / "unpacked" / self.folder.lstrip("/")
        if not unpacked.is_dir():
            raise UnreachableError(_first_error(messages))
        return {path.stem: path.read_bytes() for path in unpacked.glob("*.gz")}


def _run(command: list[str], folder: Path) -> str:
    """Run a command and return its stderr. It has its own process group, so that a time-out ends its children too."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with process:
        try:
            return process.communicate(timeout=STEP_LIMIT)[1]
        except BaseException as error:
            with suppress(ProcessLookupError):  # an interrupt may come when it has just ended
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise UnreachableError(f"`{command[0]} {command[1]}` timed out after {STEP_LIMIT:g} s") from error
            raise


def _first_error(stderr: str) -> str:
    """Return the first error of apt or dpkg; the others follow from it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "W:", "Err", "dpkg"))]
    return (errors or lines or ["it failed without a message"])[0]
