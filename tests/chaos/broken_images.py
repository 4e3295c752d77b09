"""Broken image files, named as badly, in one folder with sound ones, through `lightning-cnn predict`.

A broken file must be named on stderr with the reason, unless there is still a picture in it; the sound ones must be
predicted as they are without the others, nothing else may be said or written, and memory and time are bounded.
"""

import csv
import io
import os
import pickle
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np
from chaos.outcome import Outcome
from idx import images_and_labels, write_idx_dataset
from PIL import Image

from lightning_cnn.cli import main
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.data.image_files import MAX_BYTES
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.files import shipped_config
from lightning_cnn.predict.output import printable

#: Most that the resident memory may grow by, in MiB: what 50 megapixels take, and some for a batch.
MEMORY = 800
#: Seconds that a file may take on average.
TIME = 1.0

_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp"}
#: Beginnings of names, each with something that a shell, a terminal, a spreadsheet or a format string would obey.
_NAMES = (
    *("", "-", "--output=", "=1+1", "@", " ", "a\nb", "\r", "\x1b[31m", "\x07", "a..", "*", "[1]", "?", "~", "\\..\\"),
    *("$(touch pwned)", "`id`", ";id;", "%s%n", "{0}", "<b>", '"', "'", "é", "‮", "😀", "\udcff", "n" * 200),
)

#: Whether a file must be refused, must be predicted, or may be either.
REFUSED, PREDICTED, EITHER = "refused", "predicted", "either"


@dataclass(frozen=True)
class Fault:
    """How to break an image.

    Attributes:
        what: What is done, in words.
        fate: What must become of the file.
        content: Makes the bytes from those of a sound file and its format.
        as_before: Whether the prediction must be that of the sound file.
    """

    what: str
    fate: str
    content: Callable[[Random, bytes, str], bytes]
    as_before: bool = False


@dataclass(frozen=True)
class Place:
    """A file that is none, or not what its name says: made by a function of its path."""

    what: str
    make: Callable[[Path], object]
    fate: str = REFUSED


@dataclass
class Said:
    """What `predict` left: its exit status, the lines on stderr, the rows of its table, growth (MiB), seconds."""

    status: int = 0
    lines: list[str] = field(default_factory=list)
    rows: dict[str, tuple[str, float]] = field(default_factory=dict)
    growth: float = 0.0
    seconds: float = 0.0


# Bytes


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


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
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
    return lambda rng, content, _: _encoded(_picture(rng, mode), kind)


def _sixteen_bits(rng: Random, content: bytes, kind: str) -> bytes:
    return _encoded(Image.fromarray(np.asarray(_picture(rng)).astype(np.uint16) * 257), "PNG")


def _exif(rng: Random, content: bytes, kind: str) -> bytes:
    start = rng.choice([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff"])
    return _encoded(_picture(rng), "JPEG", exif=b"Exif\0\0" + start + rng.randbytes(rng.randrange(200)))


def _frames(rng: Random, content: bytes, kind: str) -> bytes:
    frames = [Image.new("L", (28, 28), shade % 256) for shade in range(2_000)]
    return _encoded(_picture(rng), "GIF", save_all=True, append_images=frames)


def _chunked(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of chunks, each with a right checksum."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _png(width: int, height: int, pixels: bytes, *chunks: tuple[bytes, bytes], colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return _chunked((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))


def _claiming(rng: Random, content: bytes, kind: str) -> bytes:
    """Announce an enormous picture in a small file."""
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
    content = _encoded(Image.new("L", (3_000, 3_000), 100), "JPEG", progressive=True)
    return content[:-2] + 3_000 * content[content.rindex(b"\xff\xda") : -2] + content[-2:]


def _sparse(size: int) -> Callable[[Path], object]:
    """Claim a size that takes no room on the disk."""

    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, size)

    return make


class _Payload:
    """Makes a file if it is ever unpickled."""

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
    "tiff": _encoded(Image.new("L", (30, 30), 7), "TIFF"),
    "icon": _encoded(Image.new("L", (32, 32), 7), "ICO"),
    "ppm": b"P6 60000 60000 255\n",
    "zeros": bytes(5_000),
    "nothing": b"",
}

FAULTS: tuple[Fault | Place, ...] = (
    Fault("bytes changed", EITHER, _flipped),
    Fault("bytes zeroed", EITHER, _zeroed),
    Fault("parts exchanged", EITHER, _shuffled),
    Fault("bytes appended", PREDICTED, _junk, as_before=True),
    Fault("another ending", PREDICTED, lambda rng, content, kind: content, as_before=True),
    Fault("cut off", REFUSED, _cut),
    Fault("a beginning and noise", REFUSED, _header_only),
    Fault("noise", REFUSED, lambda rng, content, kind: rng.randbytes(rng.randrange(1, 5_000))),
    Fault("a size it has not", REFUSED, _claiming),
    Fault("notes of noise", PREDICTED, _exif),
    Fault("four colours of ink", PREDICTED, _of_mode("JPEG", "CMYK")),
    *(Fault(f"PNG of mode {mode}", PREDICTED, _of_mode("PNG", mode)) for mode in ("1", "LA", "P", "RGBA")),
    Fault("16 bits", PREDICTED, _sixteen_bits),
    Fault("one pixel", REFUSED, lambda rng, content, kind: _encoded(Image.new("L", (1, 1)), kind)),
    Fault("blank", REFUSED, lambda rng, content, kind: _encoded(Image.new("RGB", (50, 50), "red"), kind)),
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
#: Large ones, of which one each will do.
ONCE: tuple[Fault, ...] = (
    Fault("2,001 frames", PREDICTED, _frames),
    Fault("49 megapixels of nothing", REFUSED, _forty_nine_megapixels),
    Fault("3,006 passes", REFUSED, _slow),
    Fault("100 MB of profile", EITHER, _packed(b"iCCP", b"a\0\0")),
    Fault("100 MB of text", EITHER, _packed(b"zTXt", b"a\0\0")),
    Fault("100 MB of other text", EITHER, _packed(b"iTXt", b"a\0\1\0\0\0")),
)


# The run


@dataclass(frozen=True)
class Broken:
    """A broken file: where it is, how it was made, and of which sound file."""

    path: Path
    fault: Fault | Place
    sound: Path


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Predict a folder of `tries` broken images and some sound ones."""
    rng = Random(seed)
    folder.mkdir(exist_ok=True)
    checkpoint = _checkpoint(folder)
    images = folder / "images"
    images.mkdir()
    sound = _write_sound(images, seed)
    alone = _predict(checkpoint, images, folder / "alone.csv")
    broken = [_break(number, sound, rng) for number in range(tries)]
    before = _listing(folder)
    said = _predict(checkpoint, images, folder / "all.csv")
    written = sorted({path for path, state in _listing(folder).items() if before.get(path) != state} - {"all.csv"})

    lost = [f"{one.path.name!r} ({one.fault.what}, seed {seed}): {wrong}" for one, wrong in _wrongs(broken, said)]
    for path in sound:
        now, then = _row(path, said), _row(path, alone)
        lost += [] if _alike(now, then) else [f"{path.name}, sound: {now}, but alone {then}"]
    lost += _wrong_in_all(broken, said)
    lost += [f"{path} was written or changed" for path in written]
    lost += [f"memory grew by {said.growth:.0f} MiB"] if said.growth > MEMORY else []
    lost += [f"took {said.seconds:.0f} s"] if said.seconds > TIME * (tries + len(sound)) else []
    return Outcome(f"broken images in a folder (memory grew by {said.growth:.0f} MiB)", tries, lost)


def _wrongs(broken: list[Broken], said: Said) -> Iterator[tuple[Broken, str]]:
    """Yield the broken files that did not end as they should, and how they did."""
    for one in broken:
        if wrong := _wrong(one, said):
            yield one, wrong


def _wrong_in_all(broken: list[Broken], said: Said) -> list[str]:
    """Return what is wrong with the exit status or with what stderr says besides the errors."""
    told = tuple(_told(one.path) for one in broken)
    rest = [line for line in said.lines if not line.startswith(told)]
    if said.status == 1 and len(rest) == 2 and rest[0].startswith("Checkpoint: ") and " predicted, " in rest[1]:
        return []
    return [f"exit status {said.status}, and besides the errors stderr says {rest}"]


def _told(path: Path) -> str:
    """How an error of a file begins."""
    return f"lightning-cnn: error: {printable(str(path))}: "


def _wrong(broken: Broken, said: Said) -> str:
    """Return what is wrong with what was said of a broken file, if anything."""
    errors = [line for line in said.lines if line.startswith(_told(broken.path))]
    row, fate = _row(broken.path, said), broken.fault.fate
    if len(errors) + (row is not None) != 1:
        return f"told {len(errors)} times, predicted as {row}"
    if fate != EITHER and (row is None) != (fate == REFUSED):
        return f"must be {fate}, but {errors[0] if errors else row}"
    if errors and "; " not in errors[0]:
        return f"no way out in: {errors[0]}"
    if isinstance(broken.fault, Fault) and broken.fault.as_before and not _alike(row, _row(broken.sound, said)):
        return f"predicted as {row}, but {broken.sound.name} as {_row(broken.sound, said)}"
    return ""


def _row(path: Path, said: Said) -> tuple[str, float] | None:
    return said.rows.get(os.fsencode(path).decode(errors="surrogateescape").encode(errors="backslashreplace").decode())


def _alike(one: tuple[str, float] | None, other: tuple[str, float] | None) -> bool:
    """Whether two predictions are the same, up to the last digit, which the size of the batch may change."""
    return one is not None and other is not None and one[0] == other[0] and abs(one[1] - other[1]) <= 2e-6


def _checkpoint(folder: Path) -> Path:
    """Train a little, and return the checkpoint."""
    facts = write_idx_dataset(folder / "data", MNIST)
    settings = {
        "--config": shipped_config("mnist/cnn.yaml"),
        "--data.data_dir": folder / "data",
        "--data.val_size": 50,
        "--trainer.default_root_dir": folder / "logs",
        "--trainer.max_epochs": 1,
        "--trainer.precision": "32-true",
        "--trainer.accelerator": "cpu",
        "--plots.enabled": "false",
        "--dashboard.enabled": "false",
    }
    words = [str(word) for setting in settings.items() for word in setting]
    with (
        mock.patch.object(MNISTDataModule, "facts", facts),
        _stderr(folder / "fit.txt") as errors,
        redirect_stdout(io.StringIO()),
    ):
        status = main(["fit", *words])
    if status != 0:
        raise RuntimeError(errors.read_text(encoding="utf-8"))
    return folder / "logs" / "mnist-cnn" / "version_0"


def _write_sound(folder: Path, seed: int) -> list[Path]:
    images, _ = images_and_labels(20, 10, np.random.default_rng(seed))
    paths = []
    for number, pixels in enumerate(images):
        kind = list(_SUFFIXES)[number % len(_SUFFIXES)]
        path = folder / f"sound {number:02}{_SUFFIXES[kind]}"
        path.write_bytes(_encoded(Image.fromarray(pixels), kind))
        paths.append(path)
    return paths


def _break(number: int, sound: list[Path], rng: Random) -> Broken:
    """Write a broken file among the sound ones."""
    once = number < len(ONCE)
    fault = ONCE[number] if once else FAULTS[(number - len(ONCE)) % len(FAULTS)]
    original = rng.choice(sound)
    suffix = rng.choice(list(_SUFFIXES.values())) if fault.what == "another ending" else original.suffix
    path = original.with_name(f"{rng.choice(_NAMES)}{number:05}{suffix}")
    if isinstance(fault, Place):
        fault.make(path)
    else:
        kind = next(kind for kind, of_kind in _SUFFIXES.items() if of_kind == original.suffix)
        path.write_bytes(fault.content(rng, original.read_bytes(), kind))
    return Broken(path, fault, original)


def _predict(checkpoint: Path, images: Path, output: Path) -> Said:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with _stderr(output.with_suffix(".txt")) as errors:
        status = main(["predict", str(checkpoint), str(images), "--output", str(output)])
    seconds = time.monotonic() - start
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    with output.open(newline="", encoding="utf-8") as file:
        rows = {row["file"]: (row["predicted"], float(row["confidence"])) for row in csv.DictReader(file)}
    lines = errors.read_text(encoding="utf-8").splitlines()
    errors.unlink()
    return Said(status, lines, rows, growth, seconds)


@contextmanager
def _stderr(path: Path) -> Iterator[Path]:
    """Have in a file what Python writes to stderr, and what libraries in C write there past it."""
    sys.stderr.flush()
    before = os.dup(2)
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stderr(file):
                yield path
        finally:
            os.dup2(before, 2)
            os.close(before)


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of everything below a folder, and of what a payload would have made."""
    states = {}
    for path in [*folder.rglob("*"), Path("pwned")]:
        if os.path.lexists(path):
            status = path.lstat()
            states[os.path.relpath(path, folder)] = (status.st_size, status.st_mtime_ns)
    return states
