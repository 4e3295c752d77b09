"""HEIC, AVIF and PDF, which another process decodes."""

import io
import os
import signal
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from documents import forms, page, pages, pdf, tiling
from PIL import Image, ImageOps, features

from lightning_cnn.data import image_files, isolated
from lightning_cnn.data.image_files import read, read_pages
from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.errors import install_extra

pytest.importorskip("pypdfium2")
pillow_heif = pytest.importorskip("pillow_heif")

#: Grey values 0 to 255, with no symmetry.
RAMP = np.add.outer(np.arange(0, 160, 4), np.arange(0, 96, 4)).astype(np.uint8)
DAMAGED = "damaged or truncated; save or copy it again"
TOO_LARGE = "more than 50,000,000 pixels; save it in a smaller size"


@pytest.fixture(scope="module", autouse=True)
def _stopped():
    yield
    isolated.stop()


@pytest.fixture
def _not_started():
    isolated.stop()


def written(content: bytes) -> Path:
    Path("a").write_bytes(content)
    return Path("a")


def heic(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **options)
    return file.getvalue()


def avif(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "AVIF", speed=10, **options)
    return file.getvalue()


def sized(content: bytes, width: int, height: int) -> bytes:
    """Let an HEIC or AVIF claim another size."""
    place = content.index(b"ispe") + 8
    return content[:place] + struct.pack(">II", width, height) + content[place + 8 :]


def read_all(path: Path) -> tuple[list[tuple[str, Image.Image]], list[tuple[str, str]]]:
    """Return the pages of a file, and what is wrong with the others."""
    wrong: list[tuple[str, str]] = []
    found = [(str(name), image) for name, image in read_pages(path, lambda name, e: wrong.append((name, str(e))))]
    return found, wrong


def refusal(content: bytes) -> str:
    with pytest.raises(ImageFileError) as caught:
        read(written(content))
    return str(caught.value)


# HEIC and AVIF


@pytest.mark.parametrize("encode", [heic, avif])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_photographs_are_read(encode, mode):
    image = Image.fromarray(RAMP).convert(mode)

    found = read(written(encode(image, quality=95)))

    assert found.mode in ("L", "RGB")
    assert np.abs(np.asarray(found.convert("L")).astype(int) - RAMP).max() <= 6


@pytest.mark.parametrize("encode", [heic, avif])
def test_transparent_pixels_become_background(encode):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((30, 30, 30, 255), (16, 16, 48, 48))

    pixels = np.asarray(read(written(encode(image))).convert("L"))

    assert pixels[0, 0] == 255 and abs(int(pixels[32, 32]) - 30) < 10


@pytest.mark.parametrize("encode", [heic, avif])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photographs_are_upright(encode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Image.fromarray(RAMP)
    turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned)).astype(int)

    found = np.asarray(read(written(encode(Image.fromarray(RAMP), exif=exif.tobytes()))).convert("L"))

    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 6


def test_heic_of_more_than_8_bits_of_grey_is_read():
    steps = np.arange(0, 64 * 80 * 12, 12, dtype=np.uint16).reshape(64, 80)

    found = read(written(heic(Image.fromarray(steps), quality=100)))

    assert found.mode == "F"
    assert np.abs(np.asarray(found) - steps / 257).mean() < 2


@pytest.mark.parametrize("encode", [heic, avif])
def test_the_size_is_checked_before_decoding(encode):
    content = encode(Image.fromarray(RAMP))

    # libheif compares it with the size of the compressed data.
    assert refusal(sized(content, 10_000, 5_001)) == (TOO_LARGE if encode is avif else DAMAGED)
    assert refusal(sized(content, 2**31 - 1, 2**31 - 1)) in (TOO_LARGE, DAMAGED)
    assert refusal(sized(content, 70_000, 2)) in ("more than 65,535 pixels wide or high; split it", DAMAGED)


@pytest.mark.parametrize("encode", [heic, avif])
def test_damaged_photographs_are_refused(encode):
    content = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)))

    for end in (20, 100, len(content) // 2, len(content) - 100):
        assert refusal(content[:end]) == DAMAGED
    assert read(written(content)).size == (60, 60)  # the process goes on


def test_an_animated_avif_is_its_first_frame():
    content = avif(Image.fromarray(RAMP), save_all=True, append_images=[Image.new("L", (24, 40))], quality=95)

    ((name, image),), wrong = read_all(written(content))

    assert (name, wrong) == ("a", [])
    assert np.abs(np.asarray(image.convert("L")).astype(int) - RAMP).max() <= 6


# PDF


def test_a_page_is_drawn_as_a_scan_would_have_it():
    ((name, image),), wrong = read_all(written(pages(1)))

    assert (name, wrong) == ("a", [])
    pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (200, 200)  # an inch
    dark = pixels < 128
    assert abs(dark[:, 100].sum() - 40 / 72 * 200) < 3 and abs(dark[100].sum() - 30 / 72 * 200) < 3
    assert np.flatnonzero(dark.any(axis=0))[0] == pytest.approx(20 / 72 * 200, abs=2)


def test_every_page_is_an_image():
    found, wrong = read_all(written(pages(3)))

    assert [name for name, _ in found] == ["a[1]", "a[2]", "a[3]"]
    assert wrong == []
    assert refusal(pages(3)) == "has several pages; save the one that is meant as a file of its own"
    assert read(written(pages(1))).size == (200, 200)


def test_a_scan_in_a_pdf_of_pillow_is_read():
    file = io.BytesIO()
    Image.fromarray(RAMP).resize((240, 400)).save(file, "PDF", resolution=200)

    found = read(written(file.getvalue()))

    assert abs(found.width - 240) <= 1 and abs(found.height - 400) <= 1
    assert np.abs(np.asarray(found.convert("L").resize((24, 40))).astype(int) - RAMP).mean() < 6


@pytest.mark.parametrize(
    "box", [b"0 0 14400 14400", b"0 0 14400 1", b"-9e9 -9e9 9e9 9e9", b"0 0 1e-9 1e-9", b"9 9 9 9"]
)
def test_any_size_of_a_page_gives_few_pixels(box):
    found, wrong = read_all(written(pages(1, box)))

    assert [max(image.size) <= 2400 for _, image in found] + wrong in ([True], [("a", DAMAGED)])


def test_more_pages_than_a_book_has_are_refused():
    tree = b"<</Type/Pages/Kids[3 0 R]/Count 1000000>>"
    one = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"

    content = pdf(b"<</Type/Catalog/Pages 2 0 R>>", tree, one)

    assert read_all(written(content)) == ([], [("a", "has more than 1,000 pages; split it")])
    assert read(written(pages(1))).size == (200, 200)  # the process goes on


def test_a_page_that_is_damaged_is_named():
    tree = b"<</Type/Pages/Kids[2 0 R 3 0 R]/Count 2>>"
    one = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>"

    found, wrong = read_all(written(pdf(b"<</Type/Catalog/Pages 2 0 R>>", tree, one)))

    assert len(found) + len(wrong) == 2 and wrong
    assert {message for _, message in wrong} == {DAMAGED}


def test_a_protected_pdf_is_refused():
    encryption = b"/Encrypt<</Filter/Standard/V 1/R 2/P -1/O(%s)/U(%s)>>/ID[(a)(a)]" % (b"o" * 32, b"u" * 32)
    content = pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>", trailer=encryption)

    assert refusal(content) == "protected by a password; save it without one"


NO_PAGES = pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>")


@pytest.mark.parametrize("content", [b"%PDF-1.7", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", pages(1)[:150], NO_PAGES])
def test_a_damaged_pdf_is_refused(content):
    assert refusal(content) == DAMAGED


@pytest.mark.parametrize("content", [tiling(), forms(9, 9)])
def test_a_pdf_that_takes_forever_is_given_up(content, monkeypatch):
    monkeypatch.setattr(image_files, "_ERRORS", {"time": "time; a", "crash": "crash; b"})
    monkeypatch.setattr(image_files, "SECONDS", 1)

    assert refusal(content) == "time; a"
    assert not isolated._running


def test_pages_after_one_that_takes_forever_are_told_of(monkeypatch):
    monkeypatch.setattr(image_files, "SECONDS", 1)
    content = forms(9, 9).replace(b"/Kids[3 0 R]/Count 1", b"/Kids[3 0 R 3 0 R 3 0 R]/Count 3")

    found, wrong = read_all(written(content))

    assert found == []
    assert wrong == [
        ("a[1]", "takes more than 6 s to decode; save it as PNG or JPEG"),
        ("a", "2 pages after that are left out; save them as PNG"),
    ]


def test_javascript_and_actions_of_a_pdf_do_nothing():
    action = b"/AA<</O<</S/JavaScript/JS(app.launchURL\\('http://a'\\);)>>>>/Annots[<</Subtype/Link/Rect[0 0 72 72]/A"
    content = page(b"9 9 40 40 re f", entries=action + b"<</S/Launch/F(/bin/touch pwned)>>>>]")

    assert read(written(content)).size == (200, 200)
    assert not Path("pwned").exists()


# The process


@pytest.mark.usefixtures("_not_started")
def test_the_process_is_started_once_and_ends_with_this_one():
    for _ in range(3):
        read(written(pages(1)))
    ((own, process),) = isolated._running.items()

    assert own == os.getpid() and process.poll() is None
    process.stdin.close()  # as the system does at the end
    assert process.wait(timeout=20) == 0


@pytest.mark.usefixtures("_not_started")
def test_a_process_that_is_killed_is_named_and_replaced():
    read(written(pages(1)))
    (process,) = isolated._running.values()
    process.kill()
    process.wait()

    assert refusal(pages(1)) == ("too large for the memory of its decoder, or made to crash it; save it as PNG or JPEG")
    assert read(written(pages(1))).size == (200, 200)


def test_the_process_is_ended_when_its_answers_are_not_wanted():
    number = 0
    for number, _ in enumerate(read_pages(written(pages(40)), lambda *_: None), 1):
        if number == 2:
            break

    assert number == 2
    deadline = time.monotonic() + 10
    while isolated._running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not isolated._running


def test_ctrl_c_leaves_the_end_of_the_process_to_this_one():
    read(written(pages(1)))
    (process,) = isolated._running.values()
    process.send_signal(signal.SIGINT)

    assert read(written(pages(1))).size == (200, 200)
    assert process.poll() is None


@pytest.mark.usefixtures("_not_started")
@pytest.mark.parametrize(
    ("content", "kind", "package"),
    [(heic(Image.fromarray(RAMP)), "HEIC", "pillow_heif"), (pages(1), "PDF", "pypdfium2")],
)
def test_without_the_extra_its_name_and_another_way_are_told(content, kind, package, monkeypatch):
    found = image_files.find_spec
    monkeypatch.setattr(image_files, "find_spec", lambda name: None if name == package else found(name))

    assert refusal(content) == f"{kind} needs {package}; {install_extra('pictures')}; or save it as PNG"
    assert not isolated._running


def test_without_avif_in_pillow_another_way_is_told(monkeypatch):
    content = avif(Image.fromarray(RAMP))
    monkeypatch.setattr(features, "check", lambda name: name != "avif")

    assert refusal(content) == "AVIF, which this Pillow was built without; save it as PNG"


def test_pillow_reads_no_more_formats_than_before():
    before = {*Image.registered_extensions()}

    read(written(heic(Image.fromarray(RAMP))))

    assert {*Image.registered_extensions()} == before
