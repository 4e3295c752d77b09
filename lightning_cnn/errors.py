"""The exceptions that end a command without a traceback, and what their messages share."""

import difflib
import os
import signal
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """An argument, a file or a setting is wrong. The message names the value, the rule and a way out."""

    exit_status = 2


class DataError(UserError):
    """A dataset is missing or damaged; the command itself was right."""

    exit_status = 1


class ForeignError(UserError):
    """A checkpoint is undamaged, as far as can be seen, but was not written by this package."""


class Interrupted(BaseException):
    """A signal has ended the work; like `KeyboardInterrupt`, `except Exception` does not catch it.

    Args:
        received: The signal.
        note: What the message says beyond the name of the signal.
        already_reported: Whether another process prints the message.
    """

    def __init__(self, received: signal.Signals, note: str = "", already_reported: bool = False) -> None:
        super().__init__(f"stopped by {received.name}{note}")
        self.received = received
        self.note = note
        self.already_reported = already_reported
        self.exit_status = 128 + received  # as a shell has it


class DivergenceError(UserError):
    """A loss, a gradient or a weight is NaN or infinite; the command itself was right."""

    exit_status = 1


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message, `; did you mean …?` with the known name closest to `name`, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def as_file(word: str) -> str:
    """Return the end of a message about a word that was read as an option, if there is a file of that name."""
    exists = os.path.exists(word)  # noqa: PTH110  # a name may be too long for a path
    return f"; for the file, write ./{word}" if exists else ""


def reason(error: BaseException) -> str:
    """Return why an operation failed, in a few words: the system's text for an `OSError`, otherwise the message."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if not text:
        return type(error).__name__
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def install_extra(name: str) -> str:
    """Return how to install an extra of this project, which is on no package index: from its checkout or its wheel."""
    if (Path(__file__).parents[1] / "pyproject.toml").is_file():
        return f"run scripts/bootstrap in the checkout of lightning_cnn, or pip install '.[{name}]' there"
    return f"install the wheel of lightning_cnn again with it: pip install 'lightning_cnn-….whl[{name}]'"
