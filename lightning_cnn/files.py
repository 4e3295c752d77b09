"""Files: those that ship with this package, and new ones that are whole or absent."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path` to write to; on leaving it takes the name `path`, or is gone on an error.

    Of a link, the file that it leads to is replaced.
    """
    path = path.resolve()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are private; results are for whoever may read the folder
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped_config(name: str) -> Path:
    """Return a config of this project, for example `mnist/cnn.yaml`."""
    package = Path(__file__).parent
    folder = package if (package / "configs").is_dir() else package.parent  # installed as a wheel, or a checkout
    return folder / "configs" / name
