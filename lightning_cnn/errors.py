"""The errors that a user can mend: the command line shows them as plain text, without a traceback."""


class UserError(Exception):
    """Something the user gave is wrong. The message names the value, the rule and a way out."""

    exit_status = 2


class DataError(UserError):
    """A dataset cannot be had or is not what it should be; nothing is wrong with the command itself."""

    exit_status = 1
