"""A server in this process, with models whose answers are known."""

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from lightning_cnn.data.facts import Framing
from lightning_cnn.data.resize import Resize
from lightning_cnn.predict.pipeline import Predictor
from lightning_cnn.serve.app import create_app
from lightning_cnn.serve.models import ServedModel
from lightning_cnn.serve.settings import Limits, Settings

CLASSES = ["dark", "grey", "light"]


class Brightness:
    """A model that knows dark, grey and light images: its probabilities follow from their mean."""

    def __init__(self, framing: Framing | Resize | None = None, channels: int = 1) -> None:
        self.class_names = CLASSES
        self.image_shape = (channels, 28, 28)
        self.framing = framing or Resize((28, 28), channels=channels)
        self.label_smoothing = 0.0

    def probabilities(self, images):
        mean = images.mean(axis=(1, 2, 3), dtype=np.float32) / 255
        return np.stack([(1 - mean) ** 2, 2 * mean * (1 - mean), mean**2], axis=1)


def picture(level: int = 255, size: tuple[int, int] = (40, 40), kind: str = "PNG", mode: str = "L") -> bytes:
    file = io.BytesIO()
    color = level if mode == "L" else (level,) * 3
    Image.new(mode, size, color).save(file, kind, **({"compression": "tiff_deflate"} if kind == "TIFF" else {}))
    return file.getvalue()


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture
def serve() -> Iterator[Callable[..., TestClient]]:
    """Return a function that starts a server with limits, a key and models of one's own."""
    with ExitStack() as clients:

        def start(models=None, host: str = "127.0.0.1", **options) -> TestClient:
            names = ("max_bytes", "max_images", "max_pixels", "max_waiting", "timeout")
            limits = Limits(**{name: options.pop(name) for name in names if name in options})
            settings = Settings(files={}, limits=limits, **options)
            models = {"brightness": Brightness()} if models is None else models
            served = {name: ServedModel(name, Predictor(model), limits.max_pixels) for name, model in models.items()}
            client = TestClient(create_app(settings, served), f"http://{host}", raise_server_exceptions=False)
            return clients.enter_context(client)

        yield start


@pytest.fixture(scope="session")
def page() -> Path:
    return Path(__file__).parents[2] / "lightning_cnn" / "serve" / "page"
