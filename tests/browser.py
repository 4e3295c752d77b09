"""A browser without a window, for tests of what is meant to be looked at.

A test module asks for the fixtures with `pytest_plugins = ["browser"]`.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@dataclass
class Visit:
    """A page in the browser, what went wrong on it, and every address that was asked for, `data:` included."""

    page: "Page"
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        width: int = self.page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth")
        return width


# For a module and not for the session: Playwright keeps an event loop running in this thread as long as it lives.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium, where the system has it."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no Chromium here: install the system's package chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to work for root otherwise
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=executable, args=arguments) as browser,
    ):
        yield browser


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Callable[..., Visit]]:
    """Open a file or an address in a window of its own, which is closed after the test.

    Further options, `color_scheme` say, are those of Playwright's `Browser.new_page`.
    """
    with ExitStack() as pages:

        def open_page(place: str | Path, width: int = 1280, height: int = 900, **options: object) -> Visit:
            page = pages.enter_context(browser.new_page(viewport={"width": width, "height": height}, **options))
            visit = Visit(page)
            page.on("console", lambda message: visit.errors.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: visit.errors.append(str(error)))
            page.on("request", lambda request: visit.requests.append(request.url))
            page.goto(place.resolve().as_uri() if isinstance(place, Path) else place)
            return visit

        yield open_page
