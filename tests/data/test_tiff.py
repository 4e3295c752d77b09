import io
import struct
from pathlib import Path

import numpy as np
import pytest
from documents import LONG, SHORT, grey, tiff
from PIL import Image

from lightning_cnn.data import image_files
from lightning_cnn.data.image_files import read, read_pages
from lightning_cnn.data.pillow_images import ImageFileError

#: Grey values 0 to 255, with no symmetry.
RAMP = np.add.outer(np.arange(0, 160, 4), np.arange(0, 96, 4)).astype(np.uint8)
DAMAGED = "damaged or truncated; save or copy it again"


def written(content: bytes) -> Path:
    Path("a.tif").write_bytes(content)
    return Path("a.tif")


def saved(image: Image.Image, **options: object) -> Path:
    file = io.BytesIO()
    image.save(file, "TIFF", **options)
    return written(file.getvalue())


def read_all(path: Path) -> tuple[list[tuple[str, Image.Image]], list[tuple[str, str]]]:
    """Return the pages of a file, and what is wrong with the others."""
    wrong: list[tuple[str, str]] = []
    found = [(str(name), image) for name, image in read_pages(path, lambda name, e: wrong.append((name, str(e))))]
    return found, wrong


def refusal(path: Path) -> str:
    with pytest.raises(ImageFileError) as caught:
        read(path)
    return str(caught.value)


# Pixels


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        *(("1", name) for name in (None, "group3", "group4", "packbits", "tiff_lzw")),
        *((mode, name) for mode in ("L", "LA", "P", "RGB", "RGBA", "CMYK") for name in (None, "tiff_lzw")),
        *(("RGB", name) for name in ("jpeg", "tiff_deflate", "tiff_adobe_deflate", "packbits", "zstd")),
    ],
)
def test_every_mode_and_compression_gives_the_same_image(mode, compression):
    pixels = np.where(RAMP > 100, 255, 0).astype(np.uint8)
    image = Image.fromarray(pixels).convert("RGBA" if "A" in mode else "RGB").convert(mode)

    found = read(saved(image, compression=compression))

    assert found.mode in ("L", "RGB")
    assert np.abs(np.asarray(found.convert("L")).astype(int) - pixels).mean() < 8


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_both_orders_and_sizes_are_read(order, big):
    found = read(written(tiff(grey(20, 30), order=order, big=big)))

    assert np.asarray(found).ravel().tolist() == [i % 256 for i in range(600)]


@pytest.mark.parametrize(("order", "white"), [("<", 1), (">", 1), ("<", 0)])
def test_sixteen_bits_are_grey_from_0_to_255(order, white):
    values = np.arange(0, 60_000, 100, dtype=np.uint16).reshape(30, 20)
    pixels = values.astype(f"{order}u2").tobytes()

    found = read(written(tiff(grey(pixels=pixels, T258=(SHORT, (16,)), T262=(SHORT, (white,))), order=order)))

    assert found.mode == "F"
    np.testing.assert_allclose(np.asarray(found), values / 257 if white else 255 - values / 257, atol=1e-3)


def test_twelve_bits_are_grey_from_0_to_255():
    pixels = bytes([0xFF, 0xF0, 0x00] * 10 * 30)  # two pixels in three bytes: 4095 and 0

    found = np.asarray(read(written(tiff(grey(pixels=pixels, T258=(SHORT, (12,)))))))

    assert found.shape == (30, 20) and np.allclose(found[0, :4], [255, 0, 255, 0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 0.25, 1.0], [0, 63.75, 255]), ([-1.0, 0.0, 1.0], [0, 127.5, 255]), ([0.0, 100.0, 400.0], [0, 63.75, 255])],
)
def test_floats_from_0_to_1_are_kept_and_others_stretched(values, expected):
    image = Image.fromarray(np.tile(np.array(values, np.float32), (5, 1)))

    found = read(saved(image))

    assert found.mode == "F"
    np.testing.assert_allclose(np.asarray(found)[0], expected, rtol=1e-6)


def test_whole_numbers_of_32_bits_are_stretched():
    found = read(saved(Image.fromarray(np.array([[-5, 0, 5]] * 5, np.int32))))

    np.testing.assert_allclose(np.asarray(found)[0], [0, 127.5, 255], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(value):
    path = saved(Image.fromarray(np.array([[0, 1, value]] * 5, np.float32)))

    assert refusal(path) == "has pixels that are NaN or infinite; save it with 8 or 16 bits"


def test_all_values_alike_give_one_grey():
    assert np.asarray(read(saved(Image.new("F", (5, 5), 7.0)))).tolist() == [[0] * 5] * 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_page_is_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pages = [Image.fromarray(RAMP), Image.fromarray(RAMP[:20])]
    path = saved(pages[0], save_all=True, append_images=pages[1:], exif=exif)
    with Image.open(io.BytesIO(path.read_bytes())) as image:  # Pillow's own way from a file turns the wrong size
        expected = []
        for number in (0, 1):
            image.seek(number)
            image.load()
            expected.append(np.array(image))  # a copy, as the next page takes the same memory

    found, wrong = read_all(path)

    assert wrong == []
    for (_, one), other in zip(found, expected, strict=True):
        assert np.array_equal(np.asarray(one), other)
    assert found[0][1].size == ((24, 40) if orientation < 5 else (40, 24))


# Pages


def test_one_page_has_the_name_of_the_file():
    ((name, _),), wrong = read_all(saved(Image.fromarray(RAMP)))

    assert (name, wrong) == ("a.tif", [])


def test_every_page_is_an_image_of_its_own_kind():
    pages = [Image.fromarray(RAMP), Image.new("RGB", (30, 20), "red"), Image.fromarray(RAMP[:20].astype(np.uint16))]
    path = saved(pages[0], save_all=True, append_images=pages[1:])

    found, wrong = read_all(path)

    assert wrong == []
    assert [(name, image.mode, image.size) for name, image in found] == [
        ("a.tif[1]", "L", (24, 40)),
        ("a.tif[2]", "RGB", (30, 20)),
        ("a.tif[3]", "F", (24, 20)),
    ]
    assert np.array_equal(np.asarray(found[0][1]), RAMP)


@pytest.mark.parametrize("kind", [1, 4, 5])
@pytest.mark.parametrize("order", ["<", ">"])
def test_small_copies_and_masks_are_no_pages(kind, order):
    copy = grey(10, 10, T254=(LONG, (kind,)))

    assert [name for name, _ in read_all(written(tiff(grey(), copy, order=order)))[0]] == ["a.tif"]
    assert read(written(tiff(copy, grey(), order=order))).size == (20, 30)
    assert read(written(tiff(copy, order=order))).size == (10, 10)


def test_pages_of_a_book_are_pages():
    page = grey(T254=(LONG, (2,)))

    assert [name for name, _ in read_all(written(tiff(page, page)))[0]] == ["a.tif[1]", "a.tif[2]"]


def test_a_page_that_cannot_be_read_is_named_and_the_others_are_read():
    odd = grey(T258=(SHORT, (7,)))
    large = grey(T256=(LONG, (60_000,)), T257=(LONG, (60_000,)))

    found, wrong = read_all(written(tiff(grey(), odd, large, grey())))

    assert [name for name, _ in found] == ["a.tif[1]", "a.tif[4]"]
    assert wrong == [
        ("a.tif[2]", DAMAGED),
        ("a.tif[3]", "more than 50,000,000 pixels; save it in a smaller size"),
    ]


def test_one_image_is_expected_in_training():
    assert refusal(written(tiff(grey(), grey(), grey()))) == (
        "has several pages; save the one that is meant as a file of its own"
    )


def test_more_pages_than_a_book_has_are_refused(monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PAGES", 3)

    assert len(read_all(written(tiff(*[grey()] * 3)))[0]) == 3
    assert read_all(written(tiff(*[grey()] * 4))) == ([], [("a.tif", "has more than 3 pages; split it")])


# Damage


@pytest.mark.parametrize("last", [1, 2])
def test_pages_in_a_circle_are_refused(last):
    assert read_all(written(tiff(grey(), grey(), last=last))) == ([], [("a.tif", DAMAGED)])


@pytest.mark.parametrize("end", [4, 8, 9, 60, 135, 500])
def test_truncated_files_are_refused(end):
    assert "; " in refusal(written(tiff(grey())[:end]))


def test_tags_that_would_fill_the_memory_are_refused():
    content = tiff(grey(T258=(SHORT, 50_000_000)))

    assert refusal(written(content + bytes(100_000_000))) == DAMAGED


def test_a_directory_of_too_many_tags_is_refused():
    content = bytearray(tiff(grey(), big=True))
    struct.pack_into("<Q", content, 16, 2**60)

    assert refusal(written(bytes(content))) == DAMAGED


def test_tiles_larger_than_any_image_are_refused():
    tiles = {"T322": (LONG, (60_000,)), "T323": (LONG, (60_000,)), "T324": (LONG, (8,)), "T325": (LONG, (100,))}

    assert refusal(written(tiff(grey(**tiles, T259=(SHORT, (5,)))))) == DAMAGED


@pytest.mark.parametrize("compression", [6, 34925, 34676])
def test_rare_compressions_are_refused(compression):
    message = refusal(written(tiff(grey(T259=(SHORT, (compression,))))))

    assert message.startswith("a TIFF compressed by ") and message.endswith("; save it with LZW or Deflate")


def test_other_colour_spaces_are_refused():
    lab = grey(pixels=bytes(1800), T258=(SHORT, (8, 8, 8)), T277=(SHORT, (3,)), T262=(SHORT, (8,)))

    assert refusal(written(tiff(lab))) == "a TIFF in the colour space Lab; save it in RGB"


def test_kinds_that_pillow_does_not_read_are_refused():
    five = grey(T258=(SHORT, (16,) * 5), T277=(SHORT, (5,)))

    for content in (tiff(five), tiff(grey(), order=">", big=True)):
        assert refusal(written(content)) == (
            "damaged, or a kind of TIFF that is not read; save it in greyscale or RGB with 8 bits"
        )


def test_a_missing_strip_is_damage():
    assert refusal(written(tiff(grey(pixels=bytes(100))))) == DAMAGED
    assert refusal(written(tiff(grey(T273=(LONG, (4_000_000_000,)))))) == DAMAGED
