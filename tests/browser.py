"""Fixtures for tests of web pages in headless Chromium.

A test module loads them with `pytest_plugins = ["browser"]`.
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
    """A page in the browser with its errors and all requested addresses, `data:` included."""

    page: "Page"
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        width: int = self.page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth")
        return width


# Of the module, not of the session: Playwright keeps an event loop in this thread while it runs.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium; the test is skipped if it is not installed."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no Chromium here: install the system's package chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root cannot use the sandbox
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=executable, args=arguments) as browser,
    ):
        yield browser


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Callable[..., Visit]]:
    """Open a file or an address in a new window, which is closed after the test.

    Further options are those of Playwright's `Browser.new_page`, for example `color_scheme`.
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
