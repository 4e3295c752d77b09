"""The application: routes, checks of every request, and errors that are one line of JSON."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from lightning_cnn import __version__
from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.errors import UserError
from lightning_cnn.serve.files import add_pages
from lightning_cnn.serve.gate import Gate
from lightning_cnn.serve.messages import Answer, Health, Info, LimitsInfo, Problem
from lightning_cnn.serve.metrics import CountRequests, Metrics
from lightning_cnn.serve.models import ServedModel, open_models
from lightning_cnn.serve.openapi import BODY, describe
from lightning_cnn.serve.reading import read_body, read_question
from lightning_cnn.serve.responses import AddHeaders, Linger
from lightning_cnn.serve.settings import KEY_VARIABLE, LOOPBACK, Settings, is_local

Result = TypeVar("Result")
Refusals = dict[int | str, dict[str, Any]]
#: Why a request may be refused, for the description of the server.
_REFUSALS: Refusals = {
    400: {"model": Problem, "description": "The form is damaged"},
    401: {"model": Problem, "description": "The key is missing or wrong"},
    403: {"model": Problem, "description": "The request is for another server"},
    404: {"model": Problem, "description": "There is no such model"},
    408: {"model": Problem, "description": "The request did not arrive in time"},
    413: {"model": Problem, "description": "Too many bytes"},
    415: {"model": Problem, "description": "The body is neither JSON nor a form"},
    422: {"model": Problem, "description": "A field or an image cannot be used, or there are too many images"},
    429: {"model": Problem, "description": "Too many requests of yours are waiting"},
    503: {"model": Problem, "description": "Too many requests are waiting, or the answer takes too long"},
}


def create_app(settings: Settings, models: dict[str, ServedModel] | None = None) -> FastAPI:
    """Return the application of a process.

    Args:
        settings: Those of the server.
        models: Its models; None opens those of the settings.

    Raises:
        UserError: If a model cannot be opened.
    """
    models = open_models(settings) if models is None else models
    metrics = Metrics()
    # One thread computes, which bounds the memory for decoded images; the network may compute in several.
    computing = ThreadPoolExecutor(1, "predict")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        computing.shutdown()

    app = FastAPI(
        title="lightning-cnn",
        version=__version__,
        description="Classifies images.",
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(_require_host(settings))],
        exception_handlers={StarletteHTTPException: _refuse, Exception: _fail},
    )
    _add_routes(app, settings, models, metrics, computing)
    add_pages(app, settings)
    describe(app, settings.limits)
    app.add_middleware(Linger)
    app.add_middleware(AddHeaders)
    app.add_middleware(CountRequests, metrics=metrics)
    return app


def _add_routes(
    app: FastAPI,
    settings: Settings,
    models: dict[str, ServedModel],
    metrics: Metrics,
    computing: ThreadPoolExecutor,
) -> None:
    gate = Gate(settings.limits)
    needs_key = [Depends(_require_key(settings))] if settings.key else []
    refusals: Refusals = {status: of for status, of in _REFUSALS.items() if settings.key or status != 401}
    few: Refusals = {status: refusals[status] for status in refusals if status in (401, 403)}

    async def compute(work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(computing, work, *arguments)

    @app.post(
        "/predict", responses=refusals, openapi_extra=BODY, dependencies=needs_key, response_model_exclude_none=True
    )
    async def predict(request: Request) -> Answer:
        """Classify one image or several."""
        with gate.admit(request.client.host if request.client else "") as bring:
            chunks = []
            async for chunk in read_body(request, settings.limits):
                bring(len(chunk))
                chunks.append(chunk)
            images, asked = await read_question(request, b"".join(chunks), settings.limits)
            chunks.clear()
            model = next(iter(models.values())) if asked.model is None else models.get(asked.model)
            if model is None:
                raise HTTPException(404, f"there is no model {asked.model!r}; choose from {', '.join(models)}")
            try:
                async with asyncio.timeout(settings.limits.timeout):
                    frames = []
                    for i, content in enumerate(images):  # one by one: others get their turn in between
                        try:
                            frames.append(await compute(model.frame, content))
                        except ImageFileError as error:
                            raise HTTPException(422, f"images[{i}]: {error}") from error
                    predictions = await compute(model.predict, frames, asked.top_k, asked.seen)
            except TimeoutError as error:
                seconds = f"{settings.limits.timeout:g} s"
                raise HTTPException(503, f"not answered within {seconds}; send fewer images, or later") from error
        metrics.predicted(model.name, predictions)
        return Answer(model=model.name, predictions=predictions)

    @app.get("/info", responses=few, dependencies=needs_key)
    async def info() -> Info:
        """Say which models and limits there are."""
        limits = LimitsInfo(**asdict(settings.limits))
        return Info(version=__version__, models=[model.info() for model in models.values()], limits=limits)

    @app.get("/health", responses={403: _REFUSALS[403]})
    async def health() -> Health:
        """Say that the server answers."""
        return Health(status="ok")

    @app.get("/metrics", responses=few, dependencies=needs_key, response_class=_Text)
    async def count() -> Response:
        """Return counts and times in Prometheus' text format, of all processes of the server."""
        return _Text(metrics.text())


class _Text(Response):
    media_type = "text/plain; version=0.0.4; charset=utf-8"


def _require_host(settings: Settings) -> Callable[[Request], Awaitable[None]]:
    """Return a check that a request is for this server, by the name that it was sent to."""

    async def check(request: Request) -> None:
        name, _, port = request.headers.get("host", "").rpartition(":")
        name = name if port.isdecimal() else f"{name}:{port}".removeprefix(":")  # without a port
        if settings.local and not settings.key and not is_local(name.strip("[]").lower()):
            raise HTTPException(
                403, f"only requests to {LOOPBACK[1]} are answered; set {KEY_VARIABLE} to answer those to other names"
            )

    return check


def _require_key(settings: Settings) -> Callable[..., Awaitable[None]]:
    """Return a check of the key, which takes as long for a wrong one as for the right one."""

    async def check(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        sent = b"" if given is None else given.credentials.encode()
        if not hmac.compare_digest(sent, settings.key.encode()):
            raise HTTPException(
                401, "send the key of the server as `Authorization: Bearer KEY`", {"WWW-Authenticate": "Bearer"}
            )

    return check


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    detail = error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = "there is nothing here; /docs describes the server"
    if error.status_code == 405:
        detail = f"{request.method} is not allowed here; /docs describes the server"
    return JSONResponse({"detail": detail}, error.status_code, error.headers)


async def _fail(_: Request, error: Exception) -> JSONResponse:
    """Answer that the server has failed, without saying how; its log does."""
    detail = str(error) if isinstance(error, UserError) else "the server has failed; its log says why"
    return JSONResponse({"detail": detail}, 500)
