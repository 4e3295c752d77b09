"""How Sphinx builds the documentation; `scripts/docs` runs it."""

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

from lightning_cnn import __version__

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "lightning_cnn"
author = "The lightning_cnn developers"
project_copyright = author
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_line"]
exclude_patterns = ["_build"]
# Single backticks of docstrings are code.
default_role = "literal"
# Dashes, but no quotes, which are part of types: autodoc writes two hyphens after the name of an argument.
smartquotes_action = "D"
# Headings are targets: `page.md#a-heading`.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

# Notebooks are committed without outputs. They run in a temporary folder, on the sample, with a network or without.
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove"
os.environ |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")

# An example belongs to its class, and a class has one entry: what it is called with, and its docstring.
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# An argument on each line, where one line is too short.
maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False

nitpicky = True
# What other packages document is not linked, as nothing is downloaded for a build; what is private is not documented.
nitpick_ignore_regex = [("py:.*", r"(?!lightning_cnn\.).*|.*\._.*")]

html_theme = "furo"
html_title = f"lightning_cnn {version}"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sourcelink = False
# Summaries of search results are fetched, which browsers refuse for pages that are files.
html_show_search_summary = False


def readable(
    _app: Sphinx, _kind: str, _name: str, _of: object, _options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Return a signature in which classes have their names; the parser of the command line sees a network as a dict."""
    if arguments:
        arguments = re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", arguments)
        arguments = arguments.replace("network: dict[str, ~typing.Any]", "network: ~typing.Callable | ~torch.nn.Module")
    return arguments, returned


def setup(app: Sphinx) -> None:
    """Make signatures readable."""
    app.connect("autodoc-process-signature", readable)
