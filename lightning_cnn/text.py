"""Untrusted text, such as names of files and classes, made safe for a terminal, a page or a spreadsheet."""

import codecs
import re

#: What replaces characters of messages and tables where the output has only ASCII.
_IN_ASCII = {
    **{"·": "-", "…": "...", "→": "->", "±": "+-", "×": "x", "−": "-", "–": "-"},
    **{"─": "-", "━": "-", "│": "|", "┃": "|"},
}
#: The name of the error handler for output that cannot show all characters.
READABLE = "lightning_cnn.readable"
#: The longest word of a message: names of files and classes are shorter.
_LONGEST_WORD = 300
#: What is shown of the message of a library.
_LONGEST_LINE = 500
#: The first characters of a formula in a spreadsheet; those of full width in some languages.
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def printable(text: str) -> str:
    r"""Return the text with Python's escapes for control sequences and other unprintable characters.

    Example:
        >>> printable("a\x1b[31m")
        'a\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that cannot be encoded by readable ones, all others by Python's escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


codecs.register_error(READABLE, _replace)


def encodable(text: str, encoding: str | None) -> str:
    """Return the text with readable replacements for characters that an encoding, UTF-8 if it is None, does not have.

    Example:
        >>> encodable("5 s · 91 ± 1 %", "ascii")
        '5 s - 91 +- 1 %'
    """
    return text.encode(encoding or "utf-8", READABLE).decode(encoding or "utf-8")


def shorten_words(text: str) -> str:
    """Return the text with the middle of very long words left out, which nobody would read."""
    half = _LONGEST_WORD // 2
    words = (w if len(w) <= _LONGEST_WORD else f"{w[:half]}…{w[-half:]}" for w in text.split(" "))
    return " ".join(words)


def in_one_line(found: object) -> str:
    """Return what a library or code of the user's own says as one line; classes and objects in it by their names.

    Example:
        >>> in_one_line("expected <class 'torch.Tensor'>,   got a list")
        'expected Tensor, got a list'
    """
    text = " ".join(re.sub(r"<(?:class ')?(?:\w+\.)*(\w+)(?:'| object at 0x\w+)>", r"\1", str(found)).split())
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would evaluate this text, or take its beginning for the next cell."""
    return text.startswith(("\t", "\r", "\n")) or text.lstrip().startswith(_FORMULA_STARTS)


def spreadsheet_safe_path(path: str) -> str:
    """Return a relative path as a cell that no spreadsheet evaluates, and which still names the file.

    Example:
        >>> spreadsheet_safe_path("=1.png"), spreadsheet_safe_path("a/=1.png")
        ('./=1.png', 'a/=1.png')
    """
    return f"./{path}" if is_formula(path) else path


def path_from_spreadsheet(cell: str) -> str:
    """Return the path of which `spreadsheet_safe_path` has made a cell.

    Example:
        >>> path_from_spreadsheet("./=1.png")
        '=1.png'
    """
    return cell[2:] if cell.startswith("./") and is_formula(cell[2:]) else cell


def spreadsheet_safe(text: str) -> str:
    """Return the text as a cell of a CSV file that no spreadsheet evaluates; different texts stay different.

    Example:
        >>> spreadsheet_safe("=1+1"), spreadsheet_safe("'Bag"), spreadsheet_safe("Bag")
        ("'=1+1", "''Bag", 'Bag')
    """
    return f"'{text}" if is_formula(text) or text.startswith("'") else text


def text_from_spreadsheet(cell: str) -> str:
    """Return the text of which `spreadsheet_safe` has made a cell.

    Example:
        >>> text_from_spreadsheet("'=1+1"), text_from_spreadsheet("''Bag"), text_from_spreadsheet("'s")
        ('=1+1', "'Bag", "'s")
    """
    return cell[1:] if cell.startswith("'") and spreadsheet_safe(cell[1:]) == cell else cell
