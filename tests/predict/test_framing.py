import io
from contextlib import suppress

import numpy as np
import pytest
from pictures.kinds import KINDS
from PIL import Image, ImageDraw, ImageOps

from lightning_cnn.data import sources
from lightning_cnn.data.facts import Framing
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.predict.framing import frame as framed
from lightning_cnn.predict.objects import find_object


def frame(*arguments, **options) -> np.ndarray:
    """What the network sees."""
    return framed(*arguments, **options).pixels


DIGITS, CLOTHES = MNIST.framing, FASHION_MNIST.framing


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Real digits, of the sample that ships with the package."""
    return sources.load_sample(MNIST).train_images[:100]


@pytest.fixture(scope="module")
def clothes() -> np.ndarray:
    return sources.load_sample(FASHION_MNIST).train_images[:100]


def paper(digit: np.ndarray, size: tuple[int, int] = (200, 200), side: int = 120, at: tuple[int, int] = (60, 20)):
    """A digit in black on white."""
    image = Image.new("L", size, 255)
    image.paste(Image.fromarray(255 - digit).resize((side, side), Image.Resampling.BICUBIC), at)
    return image


def box(image: np.ndarray, faint: int = 20) -> tuple[int, int, int, int]:
    """Top, left, height and width of the foreground."""
    rows, columns = np.flatnonzero((image > faint).any(axis=1)), np.flatnonzero((image > faint).any(axis=0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def distance(image: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of the grey values."""
    return float(np.abs(image.astype(int) - other).mean())


def shifted_distance(seen: np.ndarray, digit: np.ndarray) -> float:
    """Least distance over shifts by at most a pixel, because a centre may be rounded up or down."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return min(distance(np.roll(seen, shift, axis=(0, 1)), digit) for shift in shifts)


def assert_alike(seen: np.ndarray, digit: np.ndarray, others: np.ndarray) -> None:
    """Assert that the framed image is close to the digit, and closer than to all but two similar ones."""
    assert shifted_distance(seen, digit) < 10
    assert sum(shifted_distance(seen, other) < shifted_distance(seen, digit) for other in others) <= 2


# Images of 28×28


def test_framed_images_are_unchanged(digits, clothes):
    for images, given in ((digits, DIGITS), (clothes, CLOTHES)):
        for image in images:
            assert np.array_equal(frame(Image.fromarray(image), given), image)
            assert np.array_equal(frame(Image.fromarray(255 - image), given), image)
            assert np.array_equal(frame(Image.fromarray(image).convert("RGB"), given), image)


def test_contrast_of_framed_images_is_unchanged(digits):
    faint = digits[0] // 4 + 10

    assert np.array_equal(frame(Image.fromarray(faint), DIGITS), faint)


def test_inversion_and_cropping_can_be_given(digits, clothes):
    image = Image.fromarray(clothes[0])

    assert np.array_equal(frame(image, CLOTHES, invert=True), 255 - clothes[0])
    assert np.array_equal(frame(Image.fromarray(255 - clothes[0]), CLOTHES, invert=False), 255 - clothes[0])
    moved = np.roll(digits[0] // 2, (-3, 3), axis=(0, 1))
    seen = frame(Image.fromarray(moved), DIGITS, crop=True)
    assert distance(seen, digits[0]) < 1 < distance(moved, digits[0])


def test_cropping_of_a_large_image_can_be_disabled(digits):
    large = Image.fromarray(digits[0]).resize((280, 280), Image.Resampling.NEAREST)

    assert distance(frame(large, DIGITS, crop=False), digits[0]) < 3
    wide = frame(Image.fromarray(np.repeat(np.repeat(255 - digits[0], 10, 0), 20, 1)), DIGITS, crop=False)
    assert box(wide)[2] <= 14
    assert (wide[:7] == 0).all() and (wide[21:] == 0).all()


# Images of other sizes


def test_digits_are_scaled_to_20_and_centred_by_mass(digits):
    for digit in digits[:30]:
        seen = frame(paper(digit), DIGITS)
        mass = seen.astype(float)
        assert max(box(seen, 0)[2:]) == 20
        assert seen.max() == 255
        for axis in (0, 1):
            assert np.average(np.arange(28), weights=mass.sum(axis=1 - axis)) == pytest.approx(14, abs=0.51)


def test_clothes_are_scaled_to_28_and_centred_by_their_box(clothes):
    for image in clothes[:30]:
        seen = frame(paper(image), CLOTHES)
        top, left, height, width = box(seen, 0)
        assert max(height, width) == 28
        assert abs(2 * top + height - 28) <= 1 and abs(2 * left + width - 28) <= 1


def test_proportions_are_kept():
    image = Image.new("L", (300, 200), "white")
    for sides in ((30, 40, 129, 48), (30, 81, 129, 89), (30, 40, 38, 89)):  # a C of 100×50
        ImageDraw.Draw(image).rectangle(sides, fill="black")

    assert box(frame(image, DIGITS))[2:] == (10, 20)
    assert box(frame(image, Framing(side=28, by_mass=False))) == (7, 0, 14, 28)


@pytest.mark.parametrize("size", [(200, 200), (400, 150), (3000, 2000)])
@pytest.mark.parametrize("negative", [False, True])
def test_redrawn_digits_are_restored(digits, size, negative):
    for digit in digits[:4]:
        image = paper(digit, size, side=130, at=(size[0] // 3, 10))
        seen = frame(Image.eval(image, lambda v: 255 - v) if negative else image, DIGITS)
        assert_alike(seen, digit, digits)


def test_16_bit_images_of_low_contrast_are_framed(digits):
    steps = np.asarray(paper(digits[0]), np.float32) / 257

    assert distance(frame(Image.fromarray(steps), DIGITS), digits[0]) < 10


def test_noise_of_jpeg_is_background(digits):
    for digit in digits[:10]:
        file = io.BytesIO()
        paper(digit).save(file, "JPEG", quality=20)
        assert shifted_distance(frame(Image.open(file).convert("L"), DIGITS), frame(paper(digit), DIGITS)) < 10


def photo(digit: np.ndarray, size: tuple[int, int], side: int, at: tuple[int, int]) -> Image.Image:
    """A digit on grey paper, lit from the left, with vignetting and noise."""
    strokes = 1 - np.asarray(paper(digit, size, side, at), np.float32) / 255
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in size[::-1]), indexing="ij")
    light = 165 - 35 * x + 10 * y - 20 * (x**2 + y**2)
    noise = np.random.default_rng(0).normal(0, 5, light.shape)
    return Image.fromarray(np.clip(light * (1 - 0.6 * strokes) + noise, 0, 255).astype(np.uint8))


def test_digits_on_unevenly_lit_paper_are_restored(digits):
    for digit in digits[:5]:
        seen = frame(photo(digit, (900, 600), side=200, at=(600, 50)), DIGITS)
        assert_alike(seen, digit, digits)


def line(width: int) -> Image.Image:
    """A 7 drawn with a pen of this width in pixels, in a corner of a large photograph."""
    image = Image.new("L", (3000, 2000), 200)
    ImageDraw.Draw(image).line([(2400, 300), (2700, 300), (2500, 800)], fill=60, width=width, joint="curve")
    noise = np.random.default_rng(0).normal(0, 4, (2000, 3000))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("width", [2, 5, 9])
@pytest.mark.parametrize("negative", [False, True])
def test_a_long_straight_stroke_is_not_a_ruled_line(width, negative):
    image = Image.new("L", (280, 280), 255)
    for stroke in ([(106, 56), (84, 146), (196, 146)], [(180, 40), (180, 240)]):  # a 4
        ImageDraw.Draw(image).line(stroke, fill=0, width=width)

    seen = frame(ImageOps.invert(image) if negative else image, DIGITS)

    top, _, height, across = box(seen, 60)
    assert (height, across) in {(20, 11), (20, 12)}
    assert (seen[top : top + 20].max(axis=1) > 60).all()  # the stem is whole


@pytest.mark.parametrize("width", [5, 12, 40])
def test_a_thin_stroke_in_a_large_photograph_is_found(width):
    seen = frame(line(width), DIGITS)

    top, left, height, across = box(seen, 60)
    assert (height, across) in {(20, 12), (20, 13), (19, 12)}
    assert seen.max() == 255
    assert (seen > 60).sum() < 110  # a thin stroke
    assert seen[top, left : left + across].min() > 60  # the bar of the 7
    assert seen[top + 4 :, left].max() == 0


def test_foreground_on_the_rim_is_not_background(clothes):
    distances = []
    for image in clothes:
        _, _, height, width = box(image, 12)
        rows, columns = (np.flatnonzero((image > 12).any(axis=axis)) for axis in (1, 0))
        tight = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        large = Image.fromarray(255 - tight).resize((10 * width, 10 * height), Image.Resampling.BICUBIC)
        distances.append(shifted_distance(frame(large, CLOTHES), image))

    assert np.median(distances) < 20
    assert np.mean(np.array(distances) < 50) > 0.9


def test_a_digit_in_a_very_long_image_is_found(digits):
    for size, at in (((20_000, 30), (15_000, 1)), ((30, 20_000), (1, 700))):
        assert distance(frame(paper(digits[0], size, 28, at), DIGITS), digits[0]) < 3


@pytest.mark.parametrize("size", [(3, 3), (2, 400), (27, 28), (256, 1), (257, 1), (30_000, 2)])
def test_any_size_is_framed(size):
    pixels = np.zeros(size[::-1], np.uint8)
    pixels[size[1] // 2 :, size[0] // 2 :] = 200

    seen = frame(Image.fromarray(pixels), DIGITS)

    assert (seen.shape, seen.dtype, seen.max()) == ((28, 28), np.uint8, 255)


def test_random_rectangles_in_noise_of_any_size_are_framed_or_blank():
    rng, framed = np.random.default_rng(0), 0
    for _ in range(60):
        height, width = (int(length) for length in np.exp(rng.uniform(0, 6, 2)))
        pixels = rng.integers(0, rng.integers(2, 256), (height, width), np.uint8)
        top, left = rng.integers(height), rng.integers(width)
        pixels[top : top + height // 2 + 1, left : left + width // 2 + 1] = 255
        for given in (DIGITS, CLOTHES, Framing(side=1)):
            with suppress(ImageFileError):
                assert frame(Image.fromarray(pixels), given).shape == (28, 28)
                framed += 1
    assert 0 < framed < 180, framed


# Blank images


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (3000, 9)])
@pytest.mark.parametrize("tone", [0, 130, 255])
def test_a_blank_image_is_refused(size, tone):
    with pytest.raises(ImageFileError, match=r"^blank: all its pixels are alike; give an image with something in it$"):
        frame(Image.new("L", size, tone), DIGITS)


def test_blank_paper_is_refused_although_it_is_noisy():
    nothing = photo(np.zeros((28, 28), np.uint8), (1500, 1000), 100, (0, 0))

    with pytest.raises(ImageFileError, match=r"^blank: nothing in it stands out from the noise; "):
        frame(nothing, DIGITS)


def test_dots_that_vanish_in_the_reduced_image_are_blank():
    chequered = np.indices((600, 600)).sum(axis=0).astype(np.uint8) % 2 * 255

    with pytest.raises(ImageFileError, match=r"^blank: nothing in it stands out"):
        frame(Image.fromarray(chequered), DIGITS)


@pytest.mark.parametrize("size", [20, 28, 40])
def test_the_image_has_the_size_of_the_training_images(digits, size):
    seen = framed(paper(digits[0]), Framing(side=16), size=size).pixels

    assert seen.shape == (size, size)
    assert max(box(seen)[2:]) == 16


def test_an_odd_margin_is_wider_on_the_left():
    page = np.full((300, 200), 255, np.uint8)
    page[38:262, 50:138] = 60  # 28 pixels high and 11 wide

    assert box(framed(Image.fromarray(page), CLOTHES).pixels) == (0, 9, 28, 11)


# The whole datasets


@pytest.mark.parametrize("facts", [MNIST, FASHION_MNIST], ids=lambda facts: facts.name)
def test_all_real_images_and_their_negatives_are_unchanged(real_data_dir, facts):
    raw = sources.load(facts, real_data_dir)

    for image in raw.test_images:
        assert np.array_equal(frame(Image.fromarray(image), facts.framing), image)
        assert np.array_equal(frame(Image.fromarray(255 - image), facts.framing), image)


# Pictures as people take them

#: Kinds of pictures that are framed as if the digit were on clean paper.
ALIKE = [
    "ruled_paper",
    "soft_shadow",
    "black_border",
    "dark_table",
    "boxed",
    "form_cell",
    "dust",
    "one_speck",
    "page_number",
    "red_on_green",
]


@pytest.mark.parametrize("kind", ALIKE)
def test_the_digit_is_found_among_what_is_around_it(digits, kind):
    distances = [
        shifted_distance(frame(KINDS[kind].picture(digits, number), DIGITS), digits[number]) for number in range(12)
    ]

    assert np.median(distances) < 14
    assert sum(distance > 25 for distance in distances) <= 1


def test_an_own_image_of_28_pixels_is_framed_again(digits):
    distances = [
        shifted_distance(frame(KINDS["own_28px"].picture(digits, number), DIGITS), digits[number])
        for number in range(20)
    ]

    assert np.median(distances) < 14


def test_several_digits_are_told(digits):
    told = [framed(KINDS["several_digits"].picture(digits, number), DIGITS).unclear for number in range(12)]

    assert told.count("several marks") >= 11


def test_a_clean_picture_is_clear(digits):
    assert not any(framed(paper(digit), DIGITS).unclear for digit in digits[:20])


def test_an_object_is_looked_at_again_within_its_picture():
    image = Image.fromarray(255 - np.eye(40, dtype=np.uint8) * 200)
    found = find_object(image.resize((144, 144)))

    assert found.refined(image, (0, 0, 144, 144)).shape == (40, 40)


@pytest.mark.parametrize("noise", [0, 3])
def test_a_grey_picture_is_framed_alike_in_grey_and_in_rgb(noise):
    rng = np.random.default_rng(0)
    pixels = np.full((150, 150), 235.0)
    pixels[40:120, 50:90] = 222  # hardly darker than its backdrop
    pixels[60:100, 60:80] = 90
    grey = Image.fromarray(np.clip(pixels + rng.normal(0, noise, pixels.shape), 0, 255).astype(np.uint8))

    assert (frame(grey, CLOTHES) == frame(grey.convert("RGB"), CLOTHES)).all()
