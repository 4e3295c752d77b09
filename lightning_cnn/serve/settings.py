"""What a server is told: its models, its limits and its key. Imports no package of the extra `serve`."""

import os
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from lightning_cnn.errors import UserError
from lightning_cnn.run import Run
from lightning_cnn.weights import name_of

#: The environment variable of the key: a command line can be read by other users of the machine.
KEY_VARIABLE = "LIGHTNING_CNN_API_KEY"
#: The environment variable of the folder in which several processes count together; prometheus-client reads it when it
#: is imported.
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: Addresses that only this machine reaches, as clients name them in the header `Host`.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host in LOOPBACK or ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Limits:
    """What a server accepts; everything beyond is refused with a status and a message.

    Attributes:
        max_bytes: Bytes of the body of a request, at least 1.
        max_images: Images of a request, at least 1.
        max_pixels: Pixels of an image, at least 1, and at most `data.pillow_images.MAX_PIXELS`.
        max_waiting: Requests that a process works on or keeps waiting, at least 1; half of them, rounded up, from one
            address.
        timeout: Seconds in which a request must arrive, and again in which it must be answered, more than 0.
    """

    max_bytes: int = 16 * 2**20
    max_images: int = 32
    max_pixels: int = 25_000_000
    max_waiting: int = 256
    timeout: float = 30.0

    @property
    def max_per_client(self) -> int:
        """Requests at a time from one address, so that one client cannot keep out all others."""
        return -(-self.max_waiting // 2)

    @property
    def max_memory(self) -> int:
        """Bytes of all bodies that a process keeps at a time."""
        return 16 * self.max_bytes


@dataclass(frozen=True)
class Settings:
    """The settings of a server, which are given to each of its processes.

    Attributes:
        files: The files of the models, by their names; the first one is used where a request names none.
        class_path: Class path of a network or classifier of the user's own, as for `open_model`.
        limits: What a request may be.
        key: What clients must send, or an empty text if they need nothing.
        page: Whether `/` is the page to draw on.
        local: Whether only names of this machine are accepted in the header `Host`. Otherwise a page from elsewhere
            could, in the user's browser, pass itself off as a page of this server by a name that leads to loopback.
    """

    files: dict[str, Path]
    class_path: str | None = None
    limits: Limits = field(default_factory=Limits)
    key: str = field(default="", repr=False)
    page: bool = False
    local: bool = True


def read_key() -> str:
    """Return the key in the environment, or an empty text if there is none.

    Raises:
        UserError: If it cannot be sent in a header; the message does not contain it.
    """
    key = os.environ.get(KEY_VARIABLE)
    if key is None:
        return ""
    if not key or not all("!" <= character <= "~" for character in key):
        raise UserError(f"{KEY_VARIABLE} must be visible ASCII characters, at least one, without spaces; or unset it")
    return key


def name_models(paths: list[Path]) -> dict[str, Path]:
    """Return the files by names that tell them apart: of a run, its folder, and otherwise the file's name.

    Weights of this package have their own, such as `mnist/tiny`.

    Example:
        >>> list(name_models([Path("logs/mnist-cnn/version_0/checkpoints/best.ckpt"), Path("digits.onnx")]))
        ['mnist-cnn/version_0', 'digits']
    """
    named: dict[str, Path] = {}
    for path in paths:
        run = Run.of_checkpoint(path)
        name = name_of(path) or path.stem
        if run.has_checkpoint(path):
            name = "/".join(run.folder.absolute().parts[-2:]) + ("" if path.stem == "best" else f"/{path.stem}")
        unique, number = name, 2
        while unique in named:
            unique, number = f"{name} ({number})", number + 1
        named[unique] = path
    return named
