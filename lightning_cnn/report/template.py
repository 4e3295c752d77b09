"""Where pages get their form: the templates beside this module."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lightning_cnn import __version__
from lightning_cnn.report import words

NOT_RECORDED = "not recorded"


def render(name: str, **values: object) -> str:
    """Fill a template.

    Args:
        name: Its file, for example `run.html`.
        values: What it asks for; text is escaped, as it comes from files that anybody may have written.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=words.percent, figure=words.figure, count=words.count, breakable=breakable)
    environment.globals.update(version=__version__, NOTHING=words.NOTHING, NOT_RECORDED=NOT_RECORDED)
    return environment.get_template(name).render(values)


def breakable(text: str) -> Markup:
    """Let a line end after `/`, `.`, `_` or `-`, unless a number follows, in a path or the name of a setting."""
    return Markup("<wbr>").join(re.split(r"(?<=[/._-])(?=\D)", text))
