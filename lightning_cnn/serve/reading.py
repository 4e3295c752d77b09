"""From the body of a request to a question with the bytes of its images."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from typing import Any

from fastapi import HTTPException, Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from lightning_cnn.serve.messages import Options, Question
from lightning_cnn.serve.settings import Limits

#: The fields of a form, besides `images`.
_OPTIONS = tuple(Options.model_fields)


async def read_question(request: Request, body: bytes, limits: Limits) -> tuple[list[bytes], Options]:
    """Return the content of the image files in a body that has been read, and how to classify them.

    Raises:
        HTTPException: If it is wrong: 415 if it is of another type, otherwise 422.
    """
    if name := next(iter(request.query_params), ""):
        raise HTTPException(422, f"{name!r} is in the address, where it has no effect; send it as a field of the body")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _json(body, limits)
    if kind == "multipart/form-data":
        return await _form(request, body, limits)
    raise HTTPException(415, "send application/json, or multipart/form-data with files named images")


async def read_body(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """Yield the body of a request.

    Raises:
        HTTPException: 413 if it is too large, 408 if it does not arrive in time.
    """
    too_large = HTTPException(
        413, f"the request has more than {limits.max_bytes:,} bytes; send smaller or fewer images"
    )
    if int(request.headers.get("content-length", "0")) > limits.max_bytes:
        raise too_large
    received = 0
    try:
        async with asyncio.timeout(limits.timeout):
            async for chunk in request.stream():
                received += len(chunk)
                if received > limits.max_bytes:
                    raise too_large
                yield chunk
    except TimeoutError as error:
        raise HTTPException(408, f"the request has not arrived within {limits.timeout:g} s; send it again") from error


def _json(body: bytes, limits: Limits) -> tuple[list[bytes], Options]:
    try:
        question = Question.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise HTTPException(422, _first(error)) from error
    _require_few(len(question.images), limits)
    images = [_decoded(text, i) for i, text in enumerate(question.images)]
    question.images.clear()  # the base64 is not needed any more
    return images, question


def _first(error: ValidationError) -> str:
    """Return what is wrong first, in one line."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = first["msg"]
    return f"{place}: {message}" if place else message


def _decoded(text: str, number: int) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, f"images[{number}]: not base64; encode the whole file, without line breaks") from error


async def _form(request: Request, body: bytes, limits: Limits) -> tuple[list[bytes], Options]:
    if not body.rstrip(b"\r\n").endswith(b"--"):  # of which starlette would leave a file open
        raise HTTPException(400, "the form is cut off; send all of it")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    again = Request(request.scope, receive)
    async with again.form(max_files=limits.max_images + 1, max_fields=len(_OPTIONS) + 1) as form:
        return await _of_form(form, limits)


async def _of_form(form: FormData, limits: Limits) -> tuple[list[bytes], Options]:
    if unknown := form.keys() - {"images", *_OPTIONS}:
        raise HTTPException(422, f"there is no field {min(unknown)!r}; choose from images, {', '.join(_OPTIONS)}")
    files = form.getlist("images")
    if not files or not all(isinstance(file, UploadFile) for file in files):
        raise HTTPException(422, "images: send at least one file of this name, as `curl -F images=@digit.png` does")
    _require_few(len(files), limits)
    if wrong := [name for name in _OPTIONS if isinstance(form.get(name), UploadFile)]:
        raise HTTPException(422, f"{wrong[0]}: Input should be a text, not a file")
    try:
        options = Options.model_validate_strings({name: form[name] for name in _OPTIONS if name in form})
    except ValidationError as error:
        raise HTTPException(422, _first(error)) from error
    images = [await file.read() for file in files if isinstance(file, UploadFile)]
    return images, options


def _require_few(count: int, limits: Limits) -> None:
    if count > limits.max_images:
        raise HTTPException(422, f"{count:,} images, more than {limits.max_images:,}; send several requests")
