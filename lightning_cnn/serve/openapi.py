"""The description of the server, which cannot be derived where a body is read by us."""

from typing import Any

from fastapi import FastAPI

from lightning_cnn.serve.messages import Question
from lightning_cnn.serve.settings import Limits

_QUESTION = Question.model_json_schema()
#: The body of /predict: JSON, or a form with files.
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Question"}},
            "multipart/form-data": {
                "schema": {"$ref": "#/components/schemas/Form"},
                "encoding": {"images": {"contentType": "application/octet-stream"}},
            },
        },
    }
}


def describe(app: FastAPI, limits: Limits) -> None:
    """Complete the description of an application with what bodies are."""
    schema = app.openapi()
    images = {**_QUESTION["properties"]["images"], "maxItems": limits.max_images}
    as_text = {**images, "items": {"type": "string", "contentEncoding": "base64", "minLength": 1}}
    as_file = {**images, "items": {"type": "string", "format": "binary"}, "description": "Image files"}
    schemas = schema["components"]["schemas"]
    for name, of in (("Question", as_text), ("Form", as_file)):
        schemas[name] = {**_QUESTION, "title": name, "properties": {**_QUESTION["properties"], "images": of}}
