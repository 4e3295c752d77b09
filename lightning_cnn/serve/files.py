"""The pages of a server: files that are sent as they are."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from lightning_cnn.serve.settings import Settings

#: The folder of the pages.
PAGE = Path(__file__).parent / "page"


def add_pages(app: FastAPI, settings: Settings) -> None:
    """Add the page that describes the server, and at `/` the one to draw on, or a way to the other one."""

    async def docs() -> Response:
        return FileResponse(PAGE / "docs.html")

    async def start() -> Response:
        return FileResponse(PAGE / "index.html") if settings.page else RedirectResponse("docs")

    for path, answer in (("/docs", docs), ("/", start)):
        app.add_api_route(path, answer, include_in_schema=False, methods=["GET", "HEAD"])
    app.mount("/page", StaticFiles(directory=PAGE), "page")
