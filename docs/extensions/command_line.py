"""Directives for the command line: all options of a command, and all settings of a config, as the program has them.

```{options} fit
```

```{settings} mnist/cnn
```
"""

import argparse
import contextlib
import io
import logging
import re
from collections.abc import Iterator
from importlib import import_module

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lightning_cnn.cli import main

#: What jsonargparse says beside the help: classes of other packages that an option takes, which `--NAME.help` lists.
_CLASSES = re.compile(r",?\s*known subclasses: [^)]*")

#: Code within a text.
_CODE = re.compile(r"(`[^`]+`|(?<![\w-])--[a-z][\w.+]*\w)")


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of a command."""
    parser: argparse.ArgumentParser = import_module(f"lightning_cnn.commands.{command}").build_parser()
    parser.color = False  # which Python 3.14 has in terminals
    return parser


class Options(SphinxDirective):
    """The description of a command, its options and its examples."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the parts of the help."""
        command = self.arguments[0]
        parser = parser_of(command)
        formatter = parser._get_formatter()
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        parts: list[nodes.Node] = [nodes.literal_block(usage, usage, language="text"), *paragraphs(parser.description)]
        for group in parser._action_groups:
            if not (actions := [action for action in group._group_actions if is_documented(action)]):
                continue
            heading = str(group.title or "").rstrip(":")
            parts.append(nodes.rubric("", "", *inline(heading[:1].upper() + heading[1:])))
            items = [item(command, action, formatter) for action in actions]
            parts.append(nodes.definition_list("", *items, classes=["options"]))
        return [*parts, *paragraphs(parser.epilog)]


class Settings(SphinxDirective):
    """All settings of a config with those that it leaves to their defaults, in YAML."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what `fit --print_config` prints."""
        logging.disable(logging.INFO)  # of Lightning, about the seed
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(["fit", "--config", self.arguments[0], "--print_config"]) == 0
        logging.disable(logging.NOTSET)
        return [nodes.literal_block(printed.getvalue(), printed.getvalue(), language="yaml")]


def is_documented(action: argparse.Action) -> bool:
    """Whether an option is shown: not what prints help, and not a whole group as a file."""
    names = action.option_strings
    is_help = any(name.endswith(".help") or name == "--help" for name in names)
    return action.help != argparse.SUPPRESS and not is_help and action.help != "Path to a configuration file."


def item(command: str, action: argparse.Action, formatter: argparse.HelpFormatter) -> nodes.definition_list_item:
    """Return an option, which can be linked to, and its help."""
    names = [name for name in action.option_strings if not name.endswith("+")]
    metavar = formatter._get_default_metavar_for_optional(action)
    shape = formatter._format_args(action, metavar).lstrip("\b")  # with which jsonargparse hides a space
    value = "" if action.nargs == 0 else shape
    shown = ", ".join(names) or str(action.metavar or action.dest)
    anchor = nodes.make_id(f"{command} {(names or [shown])[-1]}")
    term = nodes.term("", "", nodes.literal("", f"{shown} {value}".strip() if names else shown), ids=[anchor])
    text = _CLASSES.sub("", formatter._expand_help(action))
    return nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", "", *inline(text))))


def paragraphs(text: str | None) -> Iterator[nodes.Element]:
    """Yield paragraphs; indented lines, and those that follow `examples:`, stay as they are."""
    for block in (text or "").strip("\n").split("\n\n"):
        title, _, rest = block.partition("\n")
        if title.endswith(":") and rest.startswith("  "):
            yield nodes.paragraph("", "", *inline(title[:1].upper() + title[1:]))
            block = rest
        if block.startswith("  "):
            code = "\n".join(line.removeprefix("  ") for line in block.splitlines())
            yield nodes.literal_block(code, code, language="yaml" if ": {" in code else "text")
        elif block:
            yield nodes.paragraph("", "", *inline(" ".join(block.split())))


def inline(text: str) -> Iterator[nodes.Node]:
    """Yield the text, with options and what is between backticks as code."""
    for part in _CODE.split(text):
        if part:
            yield nodes.literal("", part.strip("`")) if _CODE.fullmatch(part) else nodes.Text(part)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("options", Options)
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
