"""How any image file of the user is decoded safely. Used by `predict` and `decoding`; `image_paths` finds the files.

It must be safe for arbitrary bytes: limits on memory and time, and one error for all failures. `pillow_images` has what
becomes of a decoded image.
"""

# ruff: noqa: PTH116, PTH123  # pathlib raises where a path is too long or not accessible

import errno
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from lightning_cnn.data import isolated, tiff
from lightning_cnn.data.decoder_process import Answer, Request
from lightning_cnn.data.pillow_images import (
    DAMAGED,
    MAX_PIXELS,
    MAX_SIDE,
    TOO_LARGE,
    ImageFileError,
    as_image_file_errors,
    make_upright,
    opaque,
    require_moderate_size,
)
from lightning_cnn.errors import install_extra, reason

#: The formats that are left to Pillow, by its names; its other decoders are not exposed to untrusted files.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
#: The file name endings of images; other files in a folder are skipped.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif")
#: The file name endings of documents, whose pages `predict` reads as images. In training they are not meant as images.
DOCUMENTS = (".pdf",)
#: What `predict` reads where it is given `-`.
STDIN = Path("<stdin>")
MAX_BYTES = 256 * 2**20
#: Maximum of pages of a file: what a scanner makes of a book.
MAX_PAGES = 1_000
#: Maximum of computing time for a page of TIFF, PDF, HEIC or AVIF: a page of a scanner takes a tenth of a second.
SECONDS = 6
#: Maximum of passes times pixels of a progressive JPEG, a few seconds. Cameras write a dozen passes; a small malicious
#: file could take days.
_MAX_WORK = 200 * MAX_PIXELS
_START_OF_PASS = b"\xff\xda"
#: Maximum of reads by Pillow, whose parsers of headers take seconds for a million tiny parts.
_MAX_READS = 1_000_000
#: The packages of the extra `pictures` that decode other formats.
_PACKAGES = {"HEIC": "pillow_heif", "PDF": "pypdfium2"}
#: The brands of files that are images of these formats, in the standard of both (ISO/IEC 23008-12).
_BRANDS = {
    "AVIF": {b"avif", b"avis"},
    "HEIC": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"},
}
#: What the errors of `decoder_process` mean.
_ERRORS = {
    "damaged": DAMAGED,
    "memory": TOO_LARGE,
    "password": "protected by a password; save it without one",
    "time": f"takes more than {SECONDS} s to decode; save it as PNG or JPEG",
    "crash": "too large for the memory of its decoder, or made to crash it; save it as PNG or JPEG",
    "kind": "damaged, or a kind of TIFF that is not read; save it in greyscale or RGB with 8 bits",
    "compression": "a TIFF compressed by {what}; save it with LZW or Deflate",
    "lab": "a TIFF in the colour space Lab; save it in RGB",
    "import": f"needs a package that cannot be imported; {install_extra('pictures')}",
}


#: Called with the name of what cannot be found or read, and the reason.
OnError = Callable[[str, ImageFileError], object]
#: The pages of a file: how many, and each one or why it cannot be read.
_Pages = tuple[int, Iterator[Image.Image | ImageFileError]]


def read_pages(path: Path, on_error: OnError, fill: str | None = None) -> Iterator[tuple[Path, Image.Image]]:
    """Yield the images of a file that may have several pages, each one with its name, as `read` returns them.

    Args:
        path: The file. If it has several pages, the second one is named `file[2]`.
        on_error: Called for a file or page that cannot be read.
        fill: The colour of transparent pixels, as for `read`.
    """
    try:
        count, pages = _open(read_bytes(path), MAX_PAGES, fill)
    except ImageFileError as error:
        on_error(str(path), error)
        return
    number = 0
    for number, page in enumerate(pages, 1):
        name = path if count == 1 else Path(f"{path}[{number}]")
        if isinstance(page, ImageFileError):
            on_error(str(name), page)
        else:
            yield name, page
    if number < count:
        on_error(str(path), ImageFileError(f"{count - number:,} pages after that are left out; save them as PNG"))


def read(path: Path, fill: str | None = None) -> Image.Image:
    """Return the image in a file: upright, the first frame of an animation, on an opaque background.

    Args:
        path: The file.
        fill: The colour of transparent pixels; None for white if the visible ones are dark, otherwise black.

    Returns:
        An image of mode RGB, L or (from more than 8 bits of grey) F, with values from 0 to 255.

    Raises:
        ImageFileError: If the file is missing, cannot be read, is not an image, is damaged, is too large, or has
            several pages.
    """
    return decode(read_bytes(path), fill)


def read_bytes(path: Path | str) -> bytes:
    """Return the content of a file that may be an image, for `decode`.

    Raises:
        ImageFileError: If the file is missing, empty, too large, or cannot be read.
    """
    try:
        if path is STDIN:
            return _read_stdin()
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe or a device may block
            raise ImageFileError("not a regular file; pass files, folders or patterns, or - for stdin")
        if status.st_size == 0:
            raise ImageFileError("empty; save or copy it again")
        if status.st_size > MAX_BYTES:
            raise ImageFileError(f"larger than {MAX_BYTES >> 20} MiB; save it in a smaller size")
        with open(path, "rb") as file:
            return file.read(status.st_size)  # which bounds it, even if the file grows
    except FileNotFoundError as error:
        raise ImageFileError("does not exist; pass files, folders or patterns") from error
    except OSError as error:
        is_too_long = error.errno == errno.ENAMETOOLONG
        way_out = "use a shorter name" if is_too_long else "change its permissions or leave it out"
        raise ImageFileError(f"cannot be read ({reason(error)}); {way_out}") from error
    except MemoryError as error:
        raise ImageFileError(TOO_LARGE) from error


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise ImageFileError("closed; pipe an image into it")
    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    if not content:
        raise ImageFileError("empty; pipe an image into it, and give - once")
    if len(content) > MAX_BYTES:
        raise ImageFileError(f"larger than {MAX_BYTES >> 20} MiB; save it in a smaller size")
    return content


def decode(content: bytes, fill: str | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the image that a file with this content has, as `read` does.

    Args:
        content: The content.
        fill: The colour of transparent pixels, as for `read`.
        max_pixels: The most pixels, at most `MAX_PIXELS`; an image with more is not decoded.

    Raises:
        ImageFileError: If it is not an image, is damaged, is too large, or has several pages.
    """
    _, pages = _open(content, 1, fill, max_pixels)
    page = next(pages)
    if isinstance(page, ImageFileError):
        raise page
    return page


def _open(content: bytes, most: int, fill: str | None, max_pixels: int = MAX_PIXELS) -> _Pages:
    """Return the pages of a file.

    Raises:
        ImageFileError: If it has none that can be read, or more than `most`.
    """
    if not (kind := _kind(content)):
        return 1, iter([_decode(content, fill, max_pixels)])
    if kind in _PACKAGES and find_spec(_PACKAGES[kind]) is None:
        raise ImageFileError(f"{kind} needs {_PACKAGES[kind]}; {install_extra('pictures')}; or save it as PNG")
    numbers = [0]
    if kind == "TIFF":
        with as_image_file_errors():
            numbers = tiff.pages(content, most)
        _require_pages(len(numbers), most)
    if kind == "AVIF":
        from PIL import features  # only for such a file

        if not features.check("avif"):
            raise ImageFileError("AVIF, which this Pillow was built without; save it as PNG")
    answers = isolated.answers(content, Request(kind, max_pixels, MAX_SIDE, most, SECONDS, numbers, tiff.COMPRESSIONS))
    head, _ = next(answers)
    _require_no_error(head)
    _require_pages(head["pages"], most)
    return head["pages"], _images(answers, fill, max_pixels)


def _kind(content: bytes) -> str:
    """Return the format of a file that is not simply left to Pillow, or an empty text."""
    if tiff.is_tiff(content):
        return "TIFF"
    if content.startswith(b"%PDF-"):
        return "PDF"
    if content[4:8] == b"ftyp":
        brands = {content[i : i + 4] for i in range(8, min(int.from_bytes(content[:4]), 256), 4)}
        return next((kind for kind, of_kind in _BRANDS.items() if brands & of_kind), "")
    return ""


def _require_pages(count: int, most: int) -> None:
    if count > most == 1:
        raise ImageFileError("has several pages; save the one that is meant as a file of its own")
    if count > most:
        raise ImageFileError(f"has more than {most:,} pages; split it")


class _File(io.BytesIO):
    """A file that can be read a limited number of times."""

    left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ImageFileError(f"has more than {_MAX_READS:,} parts, too slow to decode; save it again")
        return super().read(size)


def _decode(content: bytes, fill: str | None, max_pixels: int) -> Image.Image:
    """Return the image in a file of one of `FORMATS`."""
    with as_image_file_errors(), Image.open(_File(content), formats=FORMATS) as image:
        require_moderate_size(image.size, max_pixels)
        _check_passes(image, content)
        image.load()
        make_upright(image)
        return opaque(image, fill)


def _images(answers: Iterator[Answer], fill: str | None, max_pixels: int) -> Iterator[Image.Image | ImageFileError]:
    """Yield the pages of a file that another process decodes."""
    for head, pixels in answers:
        page: Image.Image | ImageFileError
        try:
            _require_no_error(head)
            size, mode = (head["size"][0], head["size"][1]), head["mode"]
            require_moderate_size(size, max_pixels)
            with as_image_file_errors():
                image = Image.frombytes(mode, size, pixels, "raw", mode, head["stride"])
                page = opaque(image, fill, head.get("bits", 16), head.get("inverted", False))
        except ImageFileError as error:
            page = error
        yield page


def _require_no_error(head: dict[str, Any]) -> None:
    if error := head.get("error"):
        raise ImageFileError(_ERRORS[error].format(what=head.get("what")))


def _check_passes(image: Image.Image, content: bytes) -> None:
    """Reject a JPEG, before it is decoded, that would take too much time."""
    if image.format in ("JPEG", "MPO"):
        passes = content.count(_START_OF_PASS)
        if passes * image.width * image.height > _MAX_WORK:
            raise ImageFileError(f"has {passes:,} passes over its pixels, too slow to decode; save it again")
