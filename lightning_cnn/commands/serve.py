"""``lightning-cnn serve``: answer requests over HTTP with the predictions of one model or several."""

import argparse
import os
from importlib.util import find_spec

from lightning_cnn.config.options import Parser, integer, positive
from lightning_cnn.data.pillow_images import MAX_PIXELS
from lightning_cnn.errors import UserError, install_extra
from lightning_cnn.run import DEFAULT_ROOT, find_runs, resolve_checkpoint
from lightning_cnn.serve.settings import (
    KEY_VARIABLE,
    LOOPBACK,
    METRICS_VARIABLE,
    Limits,
    Settings,
    is_local,
    name_models,
    read_key,
)

#: The packages of the extra `serve`, by the names that they are imported by.
_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")

_DESCRIPTION = f"""\
Answer requests over HTTP with the predictions of one model or several. POST images to
/predict as JSON (in base64) or as a form; the answer has label, confidence, the most
likely classes, and whether it is unclear. /info lists models and limits, /health says
that the server answers, /metrics is for Prometheus, /docs describes all of it.

Only this machine is answered unless --host says otherwise. With the environment variable
{KEY_VARIABLE}, requests must send its value as `Authorization: Bearer KEY`.
Ctrl-C or SIGTERM ends the server after it has answered what it has accepted.
"""

_EXAMPLES = """\
examples:
  lightning-cnn serve logs/mnist-cnn/version_0
  lightning-cnn serve digits.onnx clothes.onnx --workers 4
  curl -F images=@digit.png http://127.0.0.1:8000/predict
"""


def main(argv: list[str]) -> int:
    """Run ``serve`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, a model cannot be used, or a package is missing.
        Interrupted: When a signal has ended the server.
    """
    run(build_parser().parse(argv[1:]), page=False)
    return 0


def build_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser("lightning-cnn serve", _DESCRIPTION, _EXAMPLES)
    add_options(parser, models="+")
    return parser


def run(arguments: argparse.Namespace, page: bool) -> None:
    """Start the server that the arguments describe; it runs until a signal comes.

    Args:
        arguments: Those of `add_options`.
        page: Whether `/` is the page to draw on.

    Raises:
        UserError: If an argument is wrong, a model cannot be used, or a package is missing.
        Interrupted: When a signal has ended the server.
    """
    require_packages()
    paths = [resolve_checkpoint(given, find_runs(DEFAULT_ROOT), folder_means="best") for given in arguments.models]
    settings = Settings(
        files=name_models(paths),
        class_path=arguments.model,
        limits=Limits(
            max_bytes=arguments.max_mib * 2**20,
            max_images=arguments.max_images,
            max_pixels=arguments.max_pixels,
            max_waiting=arguments.max_waiting,
            timeout=arguments.timeout,
        ),
        key=read_key(),
        page=page,
        local=is_local(arguments.host),
    )
    os.environ.pop(METRICS_VARIABLE, None)  # of another program; read by the next import
    from lightning_cnn.serve.server import listen, serve

    listening = listen(arguments.host, arguments.port)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if not settings.local and not settings.key:
        print(f"Anyone who can reach {address} can use it; {KEY_VARIABLE} sets a key", flush=True)
    with listening:
        serve(settings, listening, f"{', '.join(settings.files)}: {address}", arguments.workers, arguments.access_log)


def require_packages() -> None:
    """Require the packages of the extra `serve`.

    Raises:
        UserError: If one is missing.
    """
    if missing := [package for package in _PACKAGES if find_spec(package) is None]:
        raise UserError(f"a server needs {missing[0].replace('_', '-')}; {install_extra('serve')}")


def add_options(parser: Parser, models: str) -> None:
    """Add the models, with this number of them in argparse's terms, and the options of a server."""
    defaults = Limits()
    add = parser.add_argument
    add(
        "models",
        nargs=models,
        metavar="MODEL",
        default=["best"],
        help="a checkpoint, an exported file, a run folder (for its best checkpoint), best, last or previous of the "
        "newest run in logs, or weights of this package, such as mnist; requests name one of several, or get the first"
        + (" (default: best)" * (models == "*")),
    )
    add("--host", default=LOOPBACK[0], metavar="ADDRESS", help="where to listen (default: %(default)s)")
    add("--port", type=integer(0, 65_535), default=8000, metavar="N", help="0 for a free one (default: %(default)s)")
    add("--workers", type=integer(1, 64), default=1, metavar="N", help="processes that answer (default: %(default)s)")
    add(
        "--max_mib",
        type=integer(1, 1024),
        default=defaults.max_bytes >> 20,
        metavar="N",
        help="the most MiB of a request (default: %(default)s)",
    )
    add(
        "--max_images",
        type=positive,
        default=defaults.max_images,
        metavar="N",
        help="the most images of a request (default: %(default)s)",
    )
    add(
        "--max_pixels",
        type=integer(1, MAX_PIXELS),
        default=defaults.max_pixels,
        metavar="N",
        help="the most pixels of an image (default: %(default)s)",
    )
    add(
        "--max_waiting",
        type=positive,
        default=defaults.max_waiting,
        metavar="N",
        help="the most requests that a process works on or keeps waiting; half of them from one address (default: "
        "%(default)s)",
    )
    add(
        "--timeout",
        type=integer(1, 3600),
        default=int(defaults.timeout),
        metavar="N",
        help="seconds in which a request must arrive, and then be answered (default: %(default)s)",
    )
    parser.add_switch("--access_log", help="whether to write each request to stdout")
    add(
        "--model",
        metavar="MODULE.CLASS",
        help="your own network or classifier, such as wide_mlp.WideMLP; its module is imported",
    )
