"""Fills the HTML templates in `templates/`, and formats numbers for them."""

import math
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lightning_cnn import __version__
from lightning_cnn.text import printable

NOT_RECORDED = "not recorded"
#: Stands for a value that is missing or NaN.
NOTHING = "–"
#: Beyond it, a number is shown with an exponent.
_LONG = 1e9


def render(name: str, **values: object) -> str:
    """Fill a template.

    Args:
        name: File name of the template, for example `run.html`.
        values: Its variables; text is escaped, because the files of a run may be untrusted.
    """
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        decimal=decimal,
        metric=metric,
        whole=whole,
        count=count,
        breakable=breakable,
        printable=printable,
    )
    environment.globals.update(version=__version__, NOTHING=NOTHING, NOT_RECORDED=NOT_RECORDED)
    return environment


def percent(share: float) -> str:
    """Return a share, 0 to 1, as percent, for example `89.53 %`."""
    return NOTHING if math.isnan(share) else f"{100 * share:.2f} %" if abs(share) < _LONG else f"{100 * share:.4g} %"


def decimal(value: float) -> str:
    """Return a loss, for example `0.2958`."""
    return NOTHING if math.isnan(value) else f"{value:.4f}" if abs(value) < _LONG else f"{value:.4g}"


def metric(value: float, kind: str) -> str:
    """Return the value of a metric: an accuracy as percent, any other as a decimal number."""
    return percent(value) if kind.endswith(("acc", "accuracy")) else decimal(value)


def whole(value: float) -> str:
    """Return a whole number, for example `402,986`."""
    return NOTHING if math.isnan(value) else f"{value:,.0f}"


def count(n: int, one: str, many: str = "") -> str:
    """Return a number of things, for example `1 epoch`, `10,000 images`, `2 classes`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def breakable(text: str) -> Markup:
    """Allow a line break after `/`, `.`, `_` or `-`, unless a digit follows, in a path or the name of a setting."""
    return Markup("<wbr>").join(re.split(r"(?<=[/._-])(?=\D)", text))
