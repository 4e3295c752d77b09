import io
import os
import random
import socket
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lightning_cnn.data import image_files
from lightning_cnn.data.facts import Framing
from lightning_cnn.data.image_files import MAX_BYTES, STDIN, SUFFIXES, read
from lightning_cnn.data.pillow_images import ImageFileError, thumbnail
from lightning_cnn.predict.framing import frame

#: Grey values 0 to 255, with no symmetry.
RAMP = np.add.outer(np.arange(0, 160, 4), np.arange(0, 96, 4)).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def rgba(ink: int, opacity: np.ndarray) -> Image.Image:
    """Ink of one grey whose opacity is given."""
    image = Image.new("RGB", opacity.shape[::-1], (ink, ink, ink))
    image.putalpha(Image.fromarray(opacity))
    return image


def grey(path: Path) -> np.ndarray:
    return np.asarray(read(path).convert("L"))


# Decoding


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_belongs_to_a_format_that_is_read(suffix):
    if suffix in (".heic", ".heif"):
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.from_pillow(Image.fromarray(RAMP)).save(f"a{suffix}")
    else:
        Image.fromarray(RAMP).save(f"a{suffix}")

    assert np.abs(grey(Path(f"a{suffix}")).astype(int) - RAMP).max() <= 30


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("GIF", mode) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ],
)
def test_every_mode_of_every_format_gives_the_same_image(tmp_path, kind, mode):
    pixels = np.where(RAMP > 100, 255, 0).astype(np.uint8)
    image = Image.fromarray(pixels).convert("RGBA" if "A" in mode else "RGB").convert(mode)
    (tmp_path / "a").write_bytes(encoded(image, kind))

    assert read(tmp_path / "a").mode in ("L", "RGB")
    assert np.abs(grey(tmp_path / "a").astype(int) - pixels).mean() < 8


def test_sixteen_bits_keep_their_resolution(tmp_path):
    steps = np.arange(0, 40, dtype=np.uint16).reshape(5, 8) * 100
    Image.fromarray(steps).save(tmp_path / "a.png")

    image = read(tmp_path / "a.png")

    assert image.mode == "F"
    np.testing.assert_allclose(np.asarray(image), steps / 257, rtol=1e-6)
    assert thumbnail(image).shape == (5, 8, 3)


@pytest.mark.parametrize(("ink", "background"), [(0, 255), (60, 255), (200, 0), (255, 0)])
def test_the_background_contrasts_with_the_visible_pixels(tmp_path, ink, background):
    opacity = np.zeros((20, 30), np.uint8)
    opacity[5:10, 5:10] = 255
    opacity[10] = 1
    rgba(ink, opacity).save(tmp_path / "a.png")

    pixels = grey(tmp_path / "a.png")

    assert pixels[0, 0] == background
    assert (pixels[5:10, 5:10] == ink).all()


def test_a_transparent_palette_colour_becomes_background(tmp_path):
    image = Image.fromarray(np.where(RAMP > 100, 1, 0).astype(np.uint8)).convert("P")
    image.putpalette([9, 9, 9, 250, 250, 250])
    image.save(tmp_path / "a.png", transparency=0)

    pixels = grey(tmp_path / "a.png")

    assert set(np.unique(pixels)) == {0, 250}  # and not 9


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    first, second = Image.fromarray(RAMP).convert("RGB"), Image.new("RGB", (24, 40), "red")
    for kind in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        (tmp_path / kind).write_bytes(encoded(first, kind, save_all=True, append_images=[second], **options))
        assert np.abs(grey(tmp_path / kind).astype(int) - RAMP).max() <= 2


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "WEBP"):
        content = encoded(Image.fromarray(RAMP), kind, exif=exif)
        (tmp_path / kind).write_bytes(content)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("L")
        assert np.array_equal(grey(tmp_path / kind), np.asarray(expected))


@pytest.mark.parametrize(
    "exif_data", [b"", b"\xff" * 40, b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9]
)
def test_damaged_exif_data_is_ignored(tmp_path, exif_data):
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(RAMP), "JPEG", exif=b"Exif\0\0" + exif_data))

    assert grey(tmp_path / "a.jpg").shape == RAMP.shape


# Rejected files


def refusal(path: Path) -> str:
    with pytest.raises(ImageFileError) as caught:
        read(path)
    return str(caught.value)


def test_files_that_are_not_images_are_rejected(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    Image.fromarray(RAMP).save(tmp_path / "other.ppm")
    (tmp_path / "film.mp4").write_bytes(struct.pack(">I", 16) + b"ftypisom\0\0\0\0" + bytes(100))
    message = "not an image; PNG, JPEG, GIF, BMP, WebP, TIFF, AVIF, HEIC and PDF are read"

    for name in ("text.png", "other.ppm", "film.mp4"):
        assert refusal(tmp_path / name) == message
    assert refusal(tmp_path / "empty.png") == "empty; save or copy it again"
    assert refusal(tmp_path / "nowhere.png") == "does not exist; pass files, folders or patterns"
    assert refusal(tmp_path / "text.png" / "below.png").startswith("cannot be read (not a directory)")
    assert refusal(tmp_path / ("long" * 100)).startswith("cannot be read (file name too long)")


def test_broken_and_circular_links_are_rejected(tmp_path):
    (tmp_path / "a.png").symlink_to("nowhere")
    (tmp_path / "b.png").symlink_to("b.png")

    assert refusal(tmp_path / "a.png").startswith("does not exist")
    assert refusal(tmp_path / "b.png").startswith("cannot be read (too many levels of symbolic links)")


def test_a_file_without_permission_is_rejected(tmp_path, monkeypatch):
    Image.fromarray(RAMP).save(tmp_path / "a.png")

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)

    assert refusal(tmp_path / "a.png") == "cannot be read (permission denied); change its permissions or leave it out"


@pytest.mark.timeout(20)
@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in the file system")
def test_pipes_sockets_devices_and_folders_are_rejected_without_blocking(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    os.mkfifo("pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        for path in (Path("pipe.png"), Path("socket.png"), Path("/dev/zero"), tmp_path):
            assert refusal(path) == "not a regular file; pass files, folders or patterns, or - for stdin"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_truncated_files_are_rejected(tmp_path, kind):
    content = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)), kind)
    (tmp_path / "a").write_bytes(content[: len(content) * 2 // 3])

    assert refusal(tmp_path / "a") == "damaged or truncated; save or copy it again"


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header announces this size, with almost no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


@pytest.mark.parametrize("size", [(10_000, 5_001), (10_000, 10_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_rejected_before_decoding(tmp_path, size, monkeypatch):
    monkeypatch.setattr(image_files, "make_upright", lambda image: pytest.fail("was decoded"))
    (tmp_path / "a.png").write_bytes(png_of(*size))

    assert refusal(tmp_path / "a.png") == "more than 50,000,000 pixels; save it in a smaller size"


@pytest.mark.parametrize("size", [(65_536, 2), (2, 65_536), (50_000_000, 1)])
def test_too_long_a_side_is_rejected_before_decoding(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_of(*size))

    assert refusal(tmp_path / "a.png") == "more than 65,535 pixels wide or high; split it"


def test_a_jpeg_with_too_many_passes_is_rejected(tmp_path):
    content = encoded(Image.new("L", (2_000, 2_000), 100), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    for passes in (100, 3_000):
        (tmp_path / f"{passes}.jpg").write_bytes(content[:-2] + passes * last + content[-2:])

    assert read(tmp_path / "100.jpg").size == (2_000, 2_000)
    assert refusal(tmp_path / "3000.jpg") == "has 3,006 passes over its pixels, too slow to decode; save it again"


def test_a_file_of_too_many_parts_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files._File, "left", 1_000)
    jpeg, png, gif = (encoded(Image.fromarray(RAMP), kind) for kind in ("JPEG", "PNG", "GIF"))
    chunk = struct.pack(">I4sI", 0, b"teSt", zlib.crc32(b"teSt"))
    comment = gif.index(b",\0\0\0\0")
    for name, content in (
        ("fill bytes", jpeg[:2] + b"\xff" * 3_000 + jpeg[2:]),
        ("chunks", png[:33] + chunk * 500 + png[33:]),
        ("comments", gif[:comment] + b"!\xfe\1a\0" * 500 + gif[comment:]),
    ):
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name) == "has more than 1,000,000 parts, too slow to decode; save it again"


def test_a_lack_of_memory_is_not_reported_as_damage(tmp_path, monkeypatch):
    def refuse(image):
        raise MemoryError

    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(RAMP), "PNG"))
    monkeypatch.setattr(image_files, "make_upright", refuse)

    assert refusal(tmp_path / "a.png") == "too large for the memory; save it in a smaller size"


def test_fifty_megapixels_are_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(png_of(10_000, 5_000))

    assert refusal(tmp_path / "a.png").startswith("damaged")  # by the decoder, not for its size


def test_too_large_files_are_rejected_unread(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)

    assert refusal(tmp_path / "a.png") == "larger than 256 MiB; save it in a smaller size"


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Change, cut or add a few bytes."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 2, 8, 40])):
        place = rng.randrange(min(len(data), rng.choice([60, 10_000])))
        data[place] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    place = rng.randrange(len(data))
    match rng.randrange(4):
        case 0:
            del data[place:]
        case 1:
            data[place:place] = rng.randbytes(50)
        case 2:
            data[place:place] = data[place : place + 200]
    return bytes(data)


def test_any_bytes_give_an_image_or_one_error(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(RAMP)
    seeds = [
        *(encoded(image, kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP")),
        *(encoded(rgba(9, RAMP), kind, save_all=True, append_images=[image]) for kind in ("PNG", "WEBP")),
        encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG"),
        encoded(image, "JPEG", exif=exif, progressive=True),
        encoded(image.convert("P"), "GIF", transparency=3),
    ]
    rng = random.Random(0)
    outcomes = set()
    for _ in range(60):
        for seed in seeds:
            (tmp_path / "a").write_bytes(damaged(seed, rng))
            try:
                outcomes.add(read(tmp_path / "a").mode)
            except ImageFileError as error:
                outcomes.add(str(error).split()[0])

    assert outcomes == {"L", "RGB", "damaged", "not", "more", "empty;"}


@pytest.fixture
def stdin(monkeypatch):
    """Give stdin a content, or close it."""

    def give(content: bytes | None) -> None:
        monkeypatch.setattr(sys, "stdin", None if content is None else io.TextIOWrapper(io.BytesIO(content)))

    return give


def test_an_image_is_read_from_stdin_as_from_a_file(stdin):
    stdin(encoded(Image.fromarray(RAMP), "PNG"))

    assert np.array_equal(np.asarray(read(STDIN)), RAMP)


def test_a_file_named_as_stdin_is_shown_is_a_file(stdin):
    stdin(b"")
    Image.fromarray(RAMP).save("<stdin>", "PNG")

    assert np.array_equal(np.asarray(read(Path("<stdin>"))), RAMP)


def test_nothing_or_too_much_on_stdin_is_refused(stdin, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_BYTES", 1 << 20)
    for content, message in (
        (None, "closed; pipe an image into it"),
        (b"", "empty; pipe an image into it, and give - once"),
        (b"hello", "not an image; PNG, JPEG, GIF, BMP, WebP, TIFF, AVIF, HEIC and PDF are read"),
        (bytes((1 << 20) + 1), "larger than 1 MiB; save it in a smaller size"),
    ):
        stdin(content)
        assert refusal(STDIN) == message


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("any") / "a.png"


PICTURES = st.sampled_from(
    [encoded(Image.fromarray(RAMP), kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "AVIF")]
)
PIECES = st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 40), st.binary(max_size=40)), max_size=5)


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(PICTURES | st.binary(), PIECES, st.none() | st.booleans())
def test_any_bytes_give_a_framed_image_or_one_error(place, content, pieces, crop):
    for start, length, piece in pieces:
        content = content[:start] + piece + content[start + length :]
    place.write_bytes(content)

    try:
        outcome = frame(read(place), Framing(), crop=crop).pixels
    except ImageFileError as error:
        outcome = str(error)

    if isinstance(outcome, str):
        assert "; " in outcome and outcome.isprintable()
    else:
        assert (outcome.shape, outcome.dtype) == ((28, 28), np.uint8)
