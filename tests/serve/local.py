"""A server in a thread of this process, for tests in a browser."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from serve.processes import wait_until

from lightning_cnn.predict.pipeline import Predictor
from lightning_cnn.serve.app import create_app
from lightning_cnn.serve.models import ServedModel
from lightning_cnn.serve.protocol import Protocol
from lightning_cnn.serve.server import listen
from lightning_cnn.serve.settings import Settings


@contextmanager
def running(models, **options) -> Iterator[str]:
    """Serve models, with the page, and yield the address."""
    settings = Settings(files={}, page=True, **options)
    served = {
        name: model
        if isinstance(model, ServedModel)
        else ServedModel(name, Predictor(model), settings.limits.max_pixels)
        for name, model in models.items()
    }
    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(
            uvicorn.Config(create_app(settings, served), http=Protocol, log_level="critical", ws="none")
        )
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
