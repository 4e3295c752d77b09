"""A process that decodes images with libraries which a small file can make run forever, crash or fill the memory.

`isolated` starts it by its path: it imports nothing of this package, so that it is quick to start. It reads requests
from stdin, each one a line of JSON with a `Request` and the length of a file, and the file. It answers on stdout with
lines of JSON: the number of pages, and then for each page an error, or its mode, size and stride, followed by its
pixels; or earlier with an error that is the last answer.
"""

import io
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

#: Bytes of memory that the process may take: 50 megapixels as they are decoded.
_MEMORY = 1 << 30
#: The resolution of pages of PDF: that of a scan, and not more pixels than an A4 page has then.
_DOTS_PER_INCH, _MAX_SIDE = 200, 2_400
_PASSWORD = 4  # PDFium's FPDF_ERR_PASSWORD
_BITS, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH = 258, 262, 322, 323  # tags of TIFF


class Request(NamedTuple):
    """What is read of a file.

    Attributes:
        kind: PDF, HEIC, AVIF or TIFF.
        pixels: The most pixels of an image.
        side: The longest side.
        pages: The most pages; of more, nothing is read.
        seconds: The most computing time of a page.
        numbers: Which images of a TIFF are pages.
        compressions: The compressions of TIFF that are read, by Pillow's names.
    """

    kind: str
    pixels: int
    side: int
    pages: int
    seconds: int
    numbers: Sequence[int] = (0,)
    compressions: Sequence[str] = ()


#: An answer, and the pixels after it.
Answer = tuple[dict[str, Any], bytes]


def _pdf(content: bytes, request: Request) -> Iterator[Answer]:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        yield {"error": "password" if error.err_code == _PASSWORD else "damaged", "last": True}, b""
        return
    count = len(document)
    yield {"pages": count}, b""
    for number in range(count if count <= request.pages else 0):
        _start_clock(request.seconds)
        try:
            page = document[number]
            scale = min(_DOTS_PER_INCH / 72, _MAX_SIDE / max(page.get_size()))
            bitmap = page.render(scale=scale, rev_byteorder=True)
            size = (bitmap.width, bitmap.height)
            answer = {"mode": bitmap.mode, "size": size, "stride": bitmap.stride}, bytes(bitmap.buffer)
            page.close()
        except (pypdfium2.PdfiumError, ValueError, ArithmeticError):
            answer = {"error": "damaged"}, b""
        yield answer


def _heic(content: bytes, request: Request) -> Iterator[Answer]:
    import pillow_heif

    image = pillow_heif.open_heif(content)  # without making Pillow read this format, too
    yield {"pages": 1}, b""
    pixels = bytes(image.data) if _fits(image.size, request) else b""  # upright, as its decoder makes it
    yield {"mode": image.mode, "size": image.size, "stride": image.stride if pixels else 0}, pixels


def _pillow(content: bytes, request: Request) -> Iterator[Answer]:
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    try:
        image = Image.open(io.BytesIO(content), formats=(request.kind,))
    except UnidentifiedImageError:
        yield {"error": "kind" if request.kind == "TIFF" else "damaged", "last": True}, b""
        return
    yield {"pages": len(request.numbers)}, b""
    for number in request.numbers:
        _start_clock(request.seconds)
        try:
            answer = _frame(image, number, request)
        except MemoryError:
            answer = {"error": "memory"}, b""
        except Exception:  # noqa: BLE001  # whatever struct, zlib and Pillow's own bugs raise
            answer = {"error": "damaged"}, b""
        yield answer


def _frame(image: Any, number: int, request: Request) -> Answer:
    from PIL import ImageOps

    if number:
        image.seek(number)
    tags = getattr(image, "tag_v2", {})  # of TIFF
    compression = image.info.get("compression", "")
    if tags and compression not in request.compressions:
        return {"error": "compression", "what": compression}, b""
    if image.mode == "LAB":
        return {"error": "lab"}, b""
    if tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0) > request.pixels:
        return {"error": "damaged"}, b""
    pixels = b""
    if _fits(image.size, request):
        image.load()
        try:
            ImageOps.exif_transpose(image, in_place=True)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  # damaged EXIF data
            pass
        if image.mode in ("P", "PA"):  # the palette is not sent
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        pixels = image.tobytes()
    bits, photometric = tags.get(_BITS, (16,))[0], tags.get(_PHOTOMETRIC, 1)
    head = {"mode": image.mode, "size": image.size, "stride": 0, "bits": bits, "inverted": photometric == 0}
    return head, pixels


def _fits(size: tuple[int, int], request: Request) -> bool:
    return size[0] * size[1] <= request.pixels and max(size) <= request.side


def _start_clock(seconds: float) -> None:
    """Let the system end this process, wherever it is, when it has computed for so long from now on; 0 for never."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


_KINDS = {"PDF": _pdf, "HEIC": _heic, "AVIF": _pillow, "TIFF": _pillow}


def _answer(content: bytes, request: Request) -> Iterator[Answer]:
    """Yield the answers to a request; errors of the libraries are of any type."""
    try:
        yield from _KINDS[request.kind](content, request)
    except ImportError:
        yield {"error": "import", "last": True}, b""
    except MemoryError:
        yield {"error": "memory", "last": True}, b""
    except Exception:  # noqa: BLE001
        yield {"error": "damaged", "last": True}, b""


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while line := requests.readline():
        head = json.loads(line)
        content, request = requests.read(head["bytes"]), Request(*head["request"])
        _start_clock(request.seconds)
        for answer, pixels in _answer(content, request):
            answers.write(json.dumps({**answer, "bytes": len(pixels)}).encode() + b"\n" + pixels)
            answers.flush()
        _start_clock(0)


def main() -> None:
    """Serve requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the other process ends this one
    for limit, most in ((resource.RLIMIT_DATA, _MEMORY), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what libraries print is not an answer
        _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
