"""Image files that mean harm, for `predict`: bombs, lies, damage, names, and what is not a file at all."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from documents import pages
from hostile.common import Case
from PIL import Image

#: Formats that another process decodes.
ISOLATED = ("TIFF", "AVIF", "HEIC", "PDF")
#: Name, what makes the content, and whether the file may be read.
Content = tuple[str, Callable[[], bytes], bool]
READ, REFUSED = True, False

_NAMES = (
    *("a\nb.png", "\x1b[2J\x1b[31m.png", "\x1b]0;title\x07.png", "\r.png", "=cmd|' calc'!A0.png", "@SUM(1).png"),
    *("+1.png", "-1.png", "\t=1.png", "\u202egnp.exe.png", "$(touch pwned).png", "`touch pwned`.png", ";id;.png"),
    *("%s%n.png", "{0.__class__}.png", "*.png", "[a-z].png", "\udcff.png", f"{'n' * 250}.png", "a: error: b.png"),
)
_ARGUMENTS = (
    *("http://127.0.0.1:9/a.png", "https://example.org/a.png", "ftp://example.org/a.png", "s3://bucket/a.png"),
    *("file:///etc/passwd", f"data:image/png;base64,{'A' * 100_000}", "-", "/dev/zero", "/dev/random", "/dev/stdin"),
    *("/proc/self/mem", "/proc/kmsg", "n" * 5_000, "/".join("a" * 2_500), "\x1b[2J", "a\nb", "[", "**/*.png", "~no/a"),
)


def cases(run: Path) -> Iterator[Case]:
    """Yield a case for each file, each name and each argument."""
    checkpoint = str(run / "checkpoints/best.ckpt")
    for content in (*_damaged(), *_claims(), *_pngs(), *_jpegs(), *_others()):
        yield case(checkpoint, *content)
    for name, place in _places():
        yield Case(name, ("predict", checkpoint, "a.png"), place)
    for name in _NAMES:
        for what, content, may_work in (("image", encoded(picture(), "PNG"), READ), ("text", b"text", REFUSED)):
            make = partial(_write, name=name, content=content)
            argv = ("predict", checkpoint, ".", "--output", "out.csv")
            yield Case(f"{what} named {name[:20]!r}", argv, make, ("out.csv",), may_work)
    for number, name in enumerate(_ARGUMENTS):
        yield Case(f"argument {number}", ("predict", checkpoint, name), lambda folder: None)


def case(checkpoint: str, name: str, content: Callable[[], bytes], may_work: bool, errors: int = 1) -> Case:
    """Return the case of a file whose name begins with its format."""
    argv = ("predict", checkpoint, "a.png")
    starts = name.startswith(ISOLATED)
    return Case(name, argv, lambda folder: _write(folder, "a.png", content()), (), may_work, errors, starts)


def _write(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


# Pieces


def picture(side: int = 40) -> Image.Image:
    """Return a bright spot on noise."""
    pixels = np.random.default_rng(0).integers(0, 60, (side, side), np.uint8)
    pixels[side // 3 : side // 2, side // 4 : side // 2] += 180
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as a file of a kind, by Pillow's name of it, or HEIC."""
    file = io.BytesIO()
    if kind == "HEIC":
        import pillow_heif

        pillow_heif.from_pillow(image).save(file, **options)
    else:
        image.save(file, kind, **options)
    return file.getvalue()


def replaced(content: bytes, place: int, piece: bytes) -> bytes:
    """Return the content with a piece in place of what was there."""
    return content[:place] + piece + content[place + len(piece) :]


# Damage and lies


def _damaged() -> Iterator[Content]:
    """Yield files of every format that are cut, changed or hidden behind other bytes."""
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", *ISOLATED):
        sound = pages(1) if kind == "PDF" else encoded(picture(), kind)
        for share in (0.05, 0.3, 0.7):
            yield f"{kind} cut at {share}", partial(sound.__getitem__, slice(int(len(sound) * share))), REFUSED
        yield f"{kind} behind noise", partial(b"%b%b".__mod__, (b"noise" * 6, sound)), REFUSED
        for number in range(3):
            yield f"{kind} changed {number}", partial(_changed, sound, number), READ
        middle = len(sound) // 2
        yield f"{kind} with zeros", partial(replaced, sound, middle, bytes(99)), READ
        yield f"{kind} of 255s", partial(replaced, sound, 30, b"\xff" * 100_000), READ


def _changed(sound: bytes, seed: int) -> bytes:
    rng = Random(seed)
    content = bytearray(sound)
    for _ in range(8):
        content[rng.randrange(min(len(content), 200))] = rng.choice([0, 1, 127, 255])
    return bytes(content)


def _claims() -> Iterator[Content]:
    """Yield small files that claim an enormous size."""
    sound = {kind: encoded(picture(), kind) for kind in ("JPEG", "GIF", "BMP", "WEBP", "AVIF", "HEIC")}
    for side in (65_500, 20_000):
        place = sound["JPEG"].index(b"\xff\xc0") + 5
        yield f"JPEG claims {side}", partial(replaced, sound["JPEG"], place, struct.pack(">HH", side, side)), REFUSED
        yield f"GIF claims {side}", partial(replaced, sound["GIF"], 6, struct.pack("<HH", side, side)), REFUSED
    for width, height in ((2**31 - 1, 2**31 - 1), (2**31 - 1, -(2**31)), (2**30, 1), (0, 0)):
        size = struct.pack("<ii", width, height)
        yield f"BMP claims {width}x{height}", partial(replaced, sound["BMP"], 18, size), REFUSED
    for width, height in ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (60_000, 60_000), (0, 1)):
        yield f"PNG claims {width}x{height}", partial(_png, width, height, 1), REFUSED
    for kind in ("AVIF", "HEIC"):
        place = sound[kind].index(b"ispe") + 8
        for width, height in ((2**32 - 1, 2**32 - 1), (10_000, 10_000), (70_000, 1), (0, 0)):
            size = struct.pack(">II", width, height)
            yield f"{kind} claims {width}x{height}", partial(replaced, sound[kind], place, size), REFUSED
    for side in (2**24 - 1, 16_383):
        size = side.to_bytes(3, "little")
        body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size + size + sound["WEBP"][12:]
        yield f"WEBP claims {side}", partial(_riff, body), REFUSED


def _riff(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


# Each format


def _chunked(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _png(
    width: int, height: int, size: int, *chunks: tuple[bytes, bytes], bits: int = 8, colour: int = 0, interlace: int = 0
) -> bytes:
    """Return a PNG with so many bytes of pixels: a ramp at first, and zeros after that."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    pixels = zlib.compress(bytes(range(min(size, 200))).ljust(size, b"\0"))
    return _chunked((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b""))


def _small_png(*chunks: tuple[bytes, bytes], more: int = 0, **options: int) -> bytes:
    return _png(20, 20, 420 + more, *chunks, **options)


def _pngs() -> Iterator[Content]:
    for name, start in ((b"iCCP", b"a\0\0"), (b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        yield f"PNG with 100 MB in {name.decode()}", partial(_bomb, name, start), READ
    side = 7_000
    yield "PNG of 49 megapixels in colour", lambda: _png(side, side, side * (4 * side + 1), colour=6), READ
    yield "PNG of 49 megapixels, 16 bits", lambda: _png(side, side, side * (2 * side + 1), bits=16), READ
    yield "PNG of 49 megapixels, interlaced", lambda: _png(side, side, 4 * side * side, colour=2, interlace=1), READ
    yield "PNG of a long line", lambda: _png(65_535, 700, 700 * 65_536), READ
    yield "PNG with more pixels than it has", lambda: _small_png(more=100_000_000), READ
    yield "PNG of 100,000 chunks", lambda: _small_png(*[(b"tEXt", b"a\0b")] * 100_000), READ
    yield "PNG of 2 million chunks", lambda: _small_png(*[(b"teSt", b"")] * 2_000_000), REFUSED
    yield "PNG of 2 billion frames", lambda: _small_png((b"acTL", struct.pack(">II", 2**31 - 1, 0))), READ
    control = struct.pack(">IIIIIHHBB", 0, 2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1, 0, 0, 2, 1)
    frames = struct.pack(">II", 9, 0)
    yield "PNG of frames elsewhere", lambda: _small_png((b"acTL", frames), (b"fcTL", control)), READ
    yield "PNG without its palette", lambda: _small_png(colour=3), READ
    yield "PNG of a long palette", lambda: _small_png((b"PLTE", bytes(30_000)), (b"tRNS", bytes(9_999)), colour=3), READ
    loop = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\0\0\0\0"
    yield "PNG with EXIF in a circle", lambda: _small_png((b"eXIf", loop)), READ
    yield "PNG of 50 large frames", lambda: _animated("PNG", 1_000, 50), READ


def _bomb(name: bytes, start: bytes) -> bytes:
    return _small_png((name, start + zlib.compress(bytes(100_000_000), 1)))


def _animated(kind: str, side: int, count: int) -> bytes:
    frames = [Image.new("RGB", (side, side), (number % 256, 0, 0)) for number in range(count)]
    return encoded(picture(side).convert("RGB"), kind, save_all=True, append_images=frames)


def _jpegs() -> Iterator[Content]:
    sound = encoded(picture(), "JPEG")
    yield "JPEG of 3,000 passes", partial(_passes, 3_000, 3_000), REFUSED
    yield "JPEG of 100,000 passes", partial(_passes, 400, 100_000), REFUSED
    yield "JPEG of fill bytes", lambda: sound[:2] + b"\xff" * 200_000_000 + sound[2:], REFUSED
    yield "JPEG of 60,000 segments", lambda: sound[:2] + b"\xff\xe5\0\4ab" * 60_000 + sound[2:], READ
    yield "JPEG of restarts", lambda: sound[:-2] + b"\xff\xd0" * 1_000_000 + sound[-2:], READ
    loop = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"
    yield "JPEG with EXIF in a circle", lambda: encoded(picture(), "JPEG", exif=loop), READ
    many = b"MPF\0II*\0\x08\0\0\0\x01\0\x01\xb0\x04\0\x01\0\0\0\xff\xff\xff\xff\0\0\0\0"
    segment = b"\xff\xe2" + struct.pack(">H", len(many) + 2) + many
    yield "JPEG of 4 billion pictures", lambda: sound[:2] + segment + sound[2:], READ
    yield "JPEG within JPEG", lambda: sound[:-2] * 50, READ
    yield "JPEG of arithmetic code", lambda: sound.replace(b"\xff\xc0", b"\xff\xc9"), READ
    yield "JPEG of no components", lambda: replaced(sound, sound.index(b"\xff\xc0") + 9, b"\0"), REFUSED


def _passes(side: int, count: int) -> bytes:
    content = encoded(Image.new("L", (side, side), 100), "JPEG", progressive=True)
    return content[:-2] + count * content[content.rindex(b"\xff\xda") : -2] + content[-2:]


def _others() -> Iterator[Content]:
    gif, bmp, webp = (
        encoded(picture().convert(mode), kind) for mode, kind in (("L", "GIF"), ("P", "BMP"), ("L", "WEBP"))
    )
    frame = gif.index(b",\0\0\0\0") + 5
    yield "GIF of 2,001 frames", lambda: _animated("GIF", 28, 2_000), READ
    yield "GIF of a million comments", lambda: gif[:-1] + b"!\xfe\1a\0" * 1_000_000 + b";", READ
    comments = b"!\xfe\1a\0" * 5_000_000
    yield "GIF of 5 million comments before it", lambda: gif[: frame - 5] + comments + gif[frame - 5 :], REFUSED
    yield "GIF of a frame beyond its screen", lambda: replaced(gif, frame, b"\xff\xff\xff\xff"), REFUSED
    yield "GIF of a code of 12 bits", lambda: replaced(gif, frame + 5, b"\x0c"), READ
    yield "WEBP of 30 large frames", lambda: _animated("WEBP", 1_500, 30), READ
    yield "WEBP of a long chunk", lambda: replaced(webp, 16, struct.pack("<I", 2**32 - 1)), REFUSED
    yield "BMP of 2 billion colours", lambda: replaced(bmp, 46, struct.pack("<I", 2**31 - 1)), READ
    yield "BMP of a long header", lambda: replaced(bmp, 14, struct.pack("<I", 2**31 - 1)), REFUSED
    for form in (1, 2, 3, 4, 5, 6, 99):
        yield f"BMP compressed by {form}", partial(replaced, bmp, 30, struct.pack("<I", form)), READ
    runs = replaced(replaced(bmp, 30, struct.pack("<I", 1)), 18, struct.pack("<ii", 7_000, 7_000))[:1_078]
    yield "BMP of empty runs", lambda: runs + b"\0\0" * 6_000 + b"\0\1", READ
    yield "BMP of moves beyond its end", lambda: runs + b"\0\2\xff\xff" * 500_000, READ
    yield "icon", lambda: encoded(picture(), "ICO"), REFUSED
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(../outside) (w) file\n"
    yield "postscript", lambda: program, REFUSED
    yield "vector", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', REFUSED
    yield "entities", lambda: b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><svg>&c;</svg>', REFUSED


# Other things than files


def _places() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Yield what is no regular file, or one that is elsewhere or enormous."""
    for target in ("/dev/zero", "/dev/random", "/dev/tty", "/proc/self/mem", "/proc/self/environ", "/etc/passwd"):
        yield f"link to {target}", partial(_link, target)
    yield "link to itself", partial(_link, "a.png")
    yield "link to nothing", partial(_link, "../nowhere.png")
    yield "link to open files", partial(_link, "/proc/self/fdinfo")
    yield "pipe", lambda folder: os.mkfifo(folder / "a.png")
    yield "socket", _bind
    yield "256 MiB", partial(_sparse, 2**28 + 1)
    yield "a terabyte", partial(_sparse, 2**40)
    yield "nothing", lambda folder: (folder / "a.png").touch()
    yield "folder in a circle", _circle
    yield "400 folders in each other", lambda folder: (folder / "a.png" / "/".join(["d"] * 400)).mkdir(parents=True)


def _link(target: str, folder: Path) -> None:
    (folder / "a.png").symlink_to(target)


def _bind(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.png")
    os.chdir(here)


def _sparse(size: int, folder: Path) -> None:
    with (folder / "a.png").open("wb") as file:
        file.truncate(size)


def _circle(folder: Path) -> None:
    (folder / "a.png").mkdir()
    (folder / "a.png/again.png").symlink_to(folder / "a.png")
