"""Text from elsewhere, such as names of files and classes, made safe for a terminal, a page or a spreadsheet."""

#: A spreadsheet computes a cell that begins like this.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    r"""Return the text with Python's escapes for what a terminal or a page would not show, or would obey.

    Example:
        >>> printable("a\x1b[31m")
        'a\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def spreadsheet_safe(text: str, prefix: str = "'") -> str:
    """Return the text as a cell of a CSV file that no spreadsheet computes.

    Args:
        text: The text.
        prefix: What is put before a text that begins like a formula, or with the prefix; different texts therefore
            stay different.

    Example:
        >>> spreadsheet_safe("=1+1"), spreadsheet_safe("-a.png", prefix="./"), spreadsheet_safe("Bag")
        ("'=1+1", './-a.png', 'Bag')
    """
    return prefix + text if text.startswith((*_FORMULA_STARTS, prefix)) else text
