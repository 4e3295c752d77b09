"""Ways to break an image file: damaged bytes, false sizes, other files, links, pipes and more."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from lightning_cnn.data.image_files import MAX_BYTES

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp"}
#: Whether a file must be refused, must be predicted, or may be either.
REFUSED, PREDICTED, EITHER = "refused", "predicted", "either"


@dataclass(frozen=True)
class Fault:
    """How to break an image.

    Attributes:
        what: What is done.
        fate: Whether the file must be refused or predicted.
        content: Makes the bytes from those of a valid file and its format.
        as_before: Whether the prediction must be that of the valid file.
    """

    what: str
    fate: str
    content: Callable[[Random, bytes, str], bytes]
    as_before: bool = False


@dataclass(frozen=True)
class Place:
    """Something other than a regular image file, made by a function of its path."""

    what: str
    make: Callable[[Path], object]
    fate: str = REFUSED


def _flipped(rng: Random, content: bytes, kind: str) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 40])):
        data[rng.randrange(min(len(data), rng.choice([40, 10_000])))] ^= rng.randrange(1, 256)
    return bytes(data)


def _zeroed(rng: Random, content: bytes, kind: str) -> bytes:
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice([1, 16, 500]))
    return content[:start] + bytes(end - start) + content[end:]


def _cut(rng: Random, content: bytes, kind: str) -> bytes:
    return content[: rng.randrange(1, len(content) * 8 // 10)]


def _shuffled(rng: Random, content: bytes, kind: str) -> bytes:
    start, end = sorted(rng.sample(range(len(content)), 2))
    return content[end:] + content[start:end] + content[:start]


def _junk(rng: Random, content: bytes, kind: str) -> bytes:
    return content + rng.randbytes(rng.choice([1, 300, 5_000]))


def _header_only(rng: Random, content: bytes, kind: str) -> bytes:
    return content[: rng.choice([2, 4, 8, 12])] + rng.randbytes(rng.randrange(300))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as a file of a kind, by Pillow's name of it."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _picture(rng: Random, mode: str = "L", side: int = 40) -> Image.Image:
    """A bright spot on noise."""
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 60, (side, side), np.uint8)
    pixels[side // 3 : side // 2, side // 4 : side // 2] += 180
    return Image.fromarray(pixels).convert("RGBA" if mode == "LA" else "RGB").convert(mode)


def _of_mode(kind: str, mode: str) -> Callable[[Random, bytes, str], bytes]:
    return lambda rng, content, _: encoded(_picture(rng, mode), kind)


def _sixteen_bits(rng: Random, content: bytes, kind: str) -> bytes:
    return encoded(Image.fromarray(np.asarray(_picture(rng)).astype(np.uint16) * 257), "PNG")


def _exif(rng: Random, content: bytes, kind: str) -> bytes:
    start = rng.choice([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff"])
    return encoded(_picture(rng), "JPEG", exif=b"Exif\0\0" + start + rng.randbytes(rng.randrange(200)))


def _frames(rng: Random, content: bytes, kind: str) -> bytes:
    frames = [Image.new("L", (28, 28), shade % 256) for shade in range(2_000)]
    return encoded(_picture(rng), "GIF", save_all=True, append_images=frames)


def _chunked(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of chunks, each with a right checksum."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _png(width: int, height: int, pixels: bytes, *chunks: tuple[bytes, bytes], colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return _chunked((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))


def _claiming(rng: Random, content: bytes, kind: str) -> bytes:
    """Claim an enormous size in a small file."""
    side = rng.choice([20_000, 60_000, 65_500])
    match kind:
        case "PNG":
            return _png(*rng.choice([(side, side), (2**31 - 1, 1), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1)]), b"0")
        case "JPEG":
            place = content.index(b"\xff\xc0") + 5
            return content[:place] + struct.pack(">HH", side, side) + content[place + 4 :]
        case "GIF":
            return content[:6] + struct.pack("<HH", side, side) + content[10:]
        case "BMP":
            width, height = rng.choice([(side, side), (2**31 - 1, 2**31 - 1), (2**31 - 1, -(2**31)), (2**30, 1)])
            return content[:18] + struct.pack("<ii", width, height) + content[26:]
        case _:
            canvas = rng.choice([2**24 - 1, 65_535, 16_384]).to_bytes(3, "little")
            body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + canvas + content[12:]
            return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _packed(name: bytes, start: bytes) -> Callable[[Random, bytes, str], bytes]:
    """Hide 100 MB of nothing in a chunk of a PNG."""
    pixels = b"".join(b"\0" + bytes(range(0, 240, 12)) for _ in range(20))
    return lambda rng, content, kind: _png(20, 20, pixels, (name, start + zlib.compress(bytes(100_000_000), 1)))


def _forty_nine_megapixels(rng: Random, content: bytes, kind: str) -> bytes:
    return _png(7_000, 7_000, bytes(7_000 * (4 * 7_000 + 1)), colour=6)


def _slow(rng: Random, content: bytes, kind: str) -> bytes:
    content = encoded(Image.new("L", (3_000, 3_000), 100), "JPEG", progressive=True)
    return content[:-2] + 3_000 * content[content.rindex(b"\xff\xda") : -2] + content[-2:]


def _sparse(size: int) -> Callable[[Path], object]:
    """A sparse file."""

    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, size)

    return make


class _Payload:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch pwned",)


def _zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../pwned.png", "no image")
    return file.getvalue()


_OTHER_THINGS = {
    "text": b"hello\n",
    "html": b"<!doctype html><html><body>404 Not Found</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "zip": _zipped(),
    "pickle": pickle.dumps(_Payload()),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n(pwned) (w) file\n",
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "tiff": encoded(Image.new("L", (30, 30), 7), "TIFF"),
    "icon": encoded(Image.new("L", (32, 32), 7), "ICO"),
    "ppm": b"P6 60000 60000 255\n",
    "zeros": bytes(5_000),
    "nothing": b"",
}

FAULTS: tuple[Fault | Place, ...] = (
    Fault("bytes changed", EITHER, _flipped),
    Fault("bytes zeroed", EITHER, _zeroed),
    Fault("parts exchanged", EITHER, _shuffled),
    Fault("bytes appended", PREDICTED, _junk, as_before=True),
    Fault("another suffix", PREDICTED, lambda rng, content, kind: content, as_before=True),
    Fault("cut off", REFUSED, _cut),
    Fault("a header and noise", REFUSED, _header_only),
    Fault("noise", REFUSED, lambda rng, content, kind: rng.randbytes(rng.randrange(1, 5_000))),
    Fault("a false size", REFUSED, _claiming),
    Fault("EXIF of noise", PREDICTED, _exif),
    Fault("CMYK", PREDICTED, _of_mode("JPEG", "CMYK")),
    *(Fault(f"PNG of mode {mode}", PREDICTED, _of_mode("PNG", mode)) for mode in ("1", "LA", "P", "RGBA")),
    Fault("16 bits", PREDICTED, _sixteen_bits),
    Fault("one pixel", REFUSED, lambda rng, content, kind: encoded(Image.new("L", (1, 1)), kind)),
    Fault("blank", REFUSED, lambda rng, content, kind: encoded(Image.new("RGB", (50, 50), "red"), kind)),
    *(
        Fault(name, REFUSED, lambda rng, content, kind, thing=thing: thing)  # type: ignore[misc]
        for name, thing in _OTHER_THINGS.items()
    ),
    Place("a link to /dev/zero", lambda path: path.symlink_to("/dev/zero")),
    Place("a link to /etc/passwd", lambda path: path.symlink_to("/etc/passwd")),
    Place("a link to itself", lambda path: path.symlink_to(path.name)),
    Place("a link to nothing", lambda path: path.symlink_to("../nowhere.png")),
    Place("a pipe", os.mkfifo),
    Place("256 MiB of nothing", _sparse(MAX_BYTES + 1)),
    Place("a terabyte of nothing", _sparse(2**40)),
)
#: Large files: one of each is enough.
ONCE: tuple[Fault, ...] = (
    Fault("2,001 frames", PREDICTED, _frames),
    Fault("49 megapixels of nothing", REFUSED, _forty_nine_megapixels),
    Fault("3,006 passes", REFUSED, _slow),
    Fault("100 MB of profile", EITHER, _packed(b"iCCP", b"a\0\0")),
    Fault("100 MB of text", EITHER, _packed(b"zTXt", b"a\0\0")),
    Fault("100 MB of other text", EITHER, _packed(b"iTXt", b"a\0\1\0\0\0")),
)
