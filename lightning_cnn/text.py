"""Untrusted text, such as names of files and classes, made safe for a terminal, a page or a spreadsheet."""

#: The first characters of a formula in a spreadsheet.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    r"""Return the text with Python's escapes for control sequences and other unprintable characters.

    Example:
        >>> printable("a\x1b[31m")
        'a\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would evaluate this text."""
    return text.startswith(_FORMULA_STARTS)


def spreadsheet_safe(text: str) -> str:
    """Return the text as a cell of a CSV file that no spreadsheet evaluates; different texts stay different.

    Example:
        >>> spreadsheet_safe("=1+1"), spreadsheet_safe("'Bag"), spreadsheet_safe("Bag")
        ("'=1+1", "''Bag", 'Bag')
    """
    return f"'{text}" if is_formula(text) or text.startswith("'") else text
