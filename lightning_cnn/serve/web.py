"""A folder with the page to draw on that needs no server: ONNX Runtime computes the model in the browser."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from lightning_cnn import __version__
from lightning_cnn.errors import UserError, reason
from lightning_cnn.files import atomic_write, cache_dir
from lightning_cnn.predict.model import Model
from lightning_cnn.predict.prediction import min_confidence

#: The npm package that computes models in a browser, with the checksum that npm publishes for this version.
_PACKAGE, _VERSION = "onnxruntime-web", "1.30.0"
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
#: What is used of it, and the names in the folder: `.js`, for some hosts do not know `.mjs`.
_RUNTIME = {
    "package/dist/ort.wasm.bundle.min.mjs": "onnxruntime.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
}
_NOTICE = f"{_PACKAGE} {_VERSION}: Copyright (c) Microsoft Corporation. Licensed under the MIT License.\n"
#: Seconds in which npm must have fetched it: 32 MB.
_TIMEOUT = 900
_PAGE = Path(__file__).parent / "page"
#: Files of the page that describe a server, or are put elsewhere.
_LEFT_OUT = ("index.html", "docs.html", "docs.css", "docs.js", "backend.js", "local.js")
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)


class SiteError(UserError):
    """A site cannot be written; the command itself was right."""

    exit_status = 1


def build_site(onnx_path: Path, folder: Path, model: Model, name: str, card: str, overwrite: bool = False) -> None:
    """Write a folder for any static web host, in which a page classifies drawings and pictures in the browser.

    Args:
        onnx_path: The exported model: uint8 images `(B, C, H, W)` in; `probabilities`, or else logits first, out.
        folder: The folder to write; it appears when all of it is written.
        model: The model in the file, for its classes and its framing.
        name: What the page calls it.
        card: Its model card, in Markdown.
        overwrite: Whether to replace the folder if it exists.

    Raises:
        UserError: If the folder exists, and `overwrite` is false.
        SiteError: If npm is missing or cannot fetch the package.
    """
    if folder.exists() and not overwrite:
        raise UserError(f"{folder} exists; add --overwrite to replace it, or name another")
    archive = fetch_runtime()
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{folder.name}.", suffix=".part") as part:
        site = Path(part) / "site"
        _write_page(site)
        _write_runtime(site / "runtime", archive)
        shutil.copyfile(onnx_path, site / "model.onnx")
        (site / "model.onnx.md").write_text(card, encoding="utf-8")
        facts = {
            "name": name,
            "class_names": model.class_names,
            "image_shape": model.image_shape,
            "framing": asdict(model.framing),
            "min_confidence": min_confidence(model.framing, model.label_smoothing, len(model.class_names)),
            "file": "model.onnx",
        }
        text = json.dumps(
            {"models": [facts], "about": f"lightning-cnn {__version__}, computed in this browser"}, indent=1
        )
        (site / "site.json").write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            folder.replace(Path(part) / "before")
        site.replace(folder)


def fetch_runtime() -> Path:
    """Return the archive of the npm package, from the user's cache or else fetched with npm.

    Raises:
        SiteError: If npm is missing, cannot fetch it, or it is not the one that is meant.
    """
    folder = cache_dir()
    if folder is None:
        raise SiteError("there is no home folder for the cache; set LIGHTNING_CNN_CACHE_DIR")
    archive = folder / f"{_PACKAGE}-{_VERSION}.tgz"
    if archive.is_file() and _is_right(archive):
        return archive
    npm = shutil.which("npm")
    if npm is None:
        raise SiteError(f"npm, which fetches {_PACKAGE}, is not installed; install Node.js (https://nodejs.org)")
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as scratch:
        command = [npm, "pack", f"{_PACKAGE}@{_VERSION}", "--pack-destination", scratch, "--silent"]
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise SiteError(f"npm has not fetched {_PACKAGE} in {_TIMEOUT} s; try again") from error
        fetched = Path(scratch) / archive.name
        if done.returncode or not fetched.is_file():
            why = (done.stderr.strip() or "no reason given").splitlines()[-1]
            raise SiteError(f"npm cannot fetch {_PACKAGE} {_VERSION} ({why}); check the network and npm's registry")
        if not _is_right(fetched):
            raise SiteError(f"{_PACKAGE} {_VERSION} is not the one that was published; check npm's registry")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(archive) as temporary:
                shutil.copyfile(fetched, temporary)
        except OSError as error:
            raise SiteError(
                f"{archive} cannot be written ({reason(error)}); set LIGHTNING_CNN_CACHE_DIR to a folder of yours"
            ) from error
    return archive


def _is_right(archive: Path) -> bool:
    with suppress(OSError), archive.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode() == _SHA512
    return False


def _write_page(site: Path) -> None:
    """Write the page, whose models are computed by local.js, and with a policy that hosts need not send."""
    (site / "page").mkdir(parents=True)
    for file in _PAGE.iterdir():
        if file.name not in _LEFT_OUT:
            shutil.copyfile(file, site / "page" / file.name)
    shutil.copyfile(_PAGE / "local.js", site / "page" / "backend.js")
    page = (_PAGE / "index.html").read_text(encoding="utf-8")
    charset = '<meta charset="utf-8">\n'
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    (site / "index.html").write_text(page.replace(charset, charset + policy, 1), encoding="utf-8")


def _write_runtime(folder: Path, archive: Path) -> None:
    folder.mkdir()
    with tarfile.open(archive) as package:
        for member, name in _RUNTIME.items():
            content = package.extractfile(member)
            assert content is not None, member
            with (folder / name).open("wb") as file:
                shutil.copyfileobj(content, file)
    (folder / "NOTICE.txt").write_text(_NOTICE, encoding="utf-8")
