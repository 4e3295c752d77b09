"""The README and the pages of the documentation: their order, their commands and their code."""

import re
from collections.abc import Iterator
from pathlib import Path

from checkout import ROOT

DOCS = ROOT / "docs"


def below(page: Path) -> Iterator[Path]:
    """Yield a page of `docs`, and the pages of its tables of contents in their order."""
    yield page
    for tree in blocks("{toctree}", page.read_text(encoding="utf-8")):
        for name in re.findall(r"^[\w/]+$", tree, re.MULTILINE):
            if (page.parent / f"{name}.md").is_file():  # not a notebook
                yield from below(page.parent / f"{name}.md")


def blocks(language: str, text: str) -> list[str]:
    """Return the content of all code blocks in a language."""
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


#: What a newcomer reads, in this order.
PAGES = (ROOT / "README.md", *below(DOCS / "index.md"), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md")
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
#: Each command, once.
COMMANDS = list(
    dict.fromkeys(
        command
        for block in blocks("sh", TEXT)
        for line in re.sub(r"\\\n *", "", block).splitlines()
        if (command := line.partition("#")[0].strip())
    )
)
#: Each piece of Python, once: files that begin with their names, and examples.
_CODE = dict.fromkeys(blocks("python", TEXT))
FILES = {name[1]: code for code in _CODE if (name := re.match(r"# (\w+\.py)\n", code))}
EXAMPLES = [code for code in _CODE if code not in FILES.values()]
