"""What ends a command: errors that a user can mend, shown as plain text without a traceback, and signals."""

import signal


class UserError(Exception):
    """Something the user gave is wrong. The message names the value, the rule and a way out."""

    exit_status = 2


class DataError(UserError):
    """A dataset cannot be had or is not what it should be; nothing is wrong with the command itself."""

    exit_status = 1


class Interrupted(BaseException):
    """A signal has ended the work; like KeyboardInterrupt, this is nothing that `except Exception` should catch.

    Args:
        received: The signal.
        note: What to tell the user beyond its name.
        is_told: Whether the user is told by another process.
    """

    def __init__(self, received: signal.Signals, note: str = "", is_told: bool = False) -> None:
        super().__init__(f"stopped by {received.name}{note}")
        self.received = received
        self.is_told = is_told
        self.exit_status = 128 + received  # as a shell has it


class DivergenceError(UserError):
    """Training has come to a loss, a gradient or a weight that is no finite number; the command itself was sound."""

    exit_status = 1
