"""Pictures as people take them, of official test images: each kind is a function of a generator and of images.

Digits are light on black, 28×28, as in MNIST, and clothes as in Fashion-MNIST; handwriting is 8×8, as in optdigits.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pictures import scene
from pictures.scene import BLACK, BLUE, CREAM, GREY, NAVY, PENCIL, WHITE, YELLOW, Floats, box, one_of, written
from PIL import Image
from scipy import ndimage

Generator = np.random.Generator
Bytes = NDArray[np.uint8]
#: What is on the pictures of a kind.
DIGITS, CLOTHES, HANDWRITING = "digits", "clothes", "handwriting"


@dataclass(frozen=True)
class Kind:
    """A kind of picture.

    Attributes:
        name: The name of its function.
        draw: Takes a generator and images, and returns a picture.
        subject: What the images are.
        num_images: How many images are on a picture.
        is_unclear: Whether there is no right answer: the picture is unclear or blank.
    """

    name: str
    draw: Callable[..., Image.Image]
    subject: str
    num_images: int
    is_unclear: bool

    def picture(self, images: Bytes, number: int, seed: int = 0) -> Image.Image:
        """Return the picture of the image with this number; the same whenever it is drawn, and whatever else is."""
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode()), number])
        return self.draw(rng, *(images[(number + other) % len(images)] for other in range(self.num_images)))


KINDS: dict[str, Kind] = {}


def kind(subject: str = DIGITS, num_images: int = 1, is_unclear: bool = False) -> Callable[[Any], Any]:
    def add(draw: Callable[..., Image.Image]) -> Callable[..., Image.Image]:
        KINDS[draw.__name__] = Kind(draw.__name__, draw, subject, num_images, is_unclear)
        return draw

    return add


def _pen(rng: Generator) -> scene.Colour:
    return one_of(rng, BLACK, BLACK, BLUE, NAVY)


def _paper(rng: Generator, where: scene.Size) -> Floats:
    return scene.plain(where, one_of(rng, WHITE, WHITE, CREAM, YELLOW))


def _scan(mask: Floats) -> Image.Image:
    """A mask in black on white, greyscale."""
    return Image.fromarray((255 - 255 * np.clip(mask, 0, 1)).astype(np.uint8))


# Clean


@kind()
def black_on_white(rng: Generator, image: Bytes) -> Image.Image:
    return _scan(written(rng, image, scene.size(rng)))


@kind()
def white_on_black(rng: Generator, image: Bytes) -> Image.Image:
    return Image.eval(_scan(written(rng, image, scene.size(rng))), lambda value: 255 - value)


@kind()
def soft_on_white(rng: Generator, image: Bytes) -> Image.Image:
    """Enlarged without sharpening."""
    side = int(rng.integers(80, 161))
    left, top = rng.integers(0, 201 - side, size=2).tolist()
    page = Image.new("RGB", (200, 200), "white")
    page.paste(Image.fromarray(255 - image).resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return page


# Lines


def _lined(rng: Generator, image: Bytes, both: bool, margin_line: bool = False) -> Image.Image:
    where = scene.size(rng, 240)
    mask = written(rng, image, where, (0.22, 0.6))
    top, left, bottom, right = box(mask)
    digit = max(bottom - top, right - left)
    spacing = max(8, rng.uniform(0.14, 0.5 if both else 0.9) * digit)
    width, angle = rng.uniform(0.8, max(1, 0.004 * min(where))), one_of(rng, 0.0, rng.uniform(-2, 2))
    page = _paper(rng, where)
    tone = rng.uniform(0.55, 0.85) * np.float32(one_of(rng, (0.85, 0.95, 1.1), (1, 1, 1), (0.8, 1, 1.2)))
    for turned in (0, 90)[: 1 + both]:
        page = scene.covered(page, scene.lines(where, spacing, width, angle + turned, rng.uniform(0, spacing)), tone)
    if margin_line:
        at = rng.uniform(0.1, 0.9) * where[1]
        red = scene.rectangle(where, (where[0] / 2, at), (2 * where[0], max(1, width)), angle)
        page = scene.covered(page, red, (0.85, 0.3, 0.3))
    page = scene.covered(page, mask, _pen(rng))
    return scene.photo(rng, page, scene.gradient(rng, where, rng.uniform(0, 0.12)))


@kind()
def ruled_paper(rng: Generator, image: Bytes) -> Image.Image:
    return _lined(rng, image, both=False)


@kind()
def squared_paper(rng: Generator, image: Bytes) -> Image.Image:
    return _lined(rng, image, both=True)


@kind()
def red_margin_line(rng: Generator, image: Bytes) -> Image.Image:
    return _lined(rng, image, both=False, margin_line=True)


@kind()
def boxed(rng: Generator, image: Bytes) -> Image.Image:
    """A box is drawn around the digit, with the same pen or another one."""
    where = scene.size(rng)
    mask = written(rng, image, where, (0.2, 0.5), margin=0.2)
    top, left, bottom, right = box(mask)
    half = [length / 2 * rng.uniform(1.25, 2) + 6 for length in (bottom - top, right - left)]
    if rng.random() < 0.5:
        half = [max(half)] * 2
    width = rng.uniform(1, 0.02 * min(where))
    centre = ((top + bottom) / 2 + rng.uniform(-2, 2), (left + right) / 2 + rng.uniform(-2, 2))
    page = scene.covered(scene.plain(where, WHITE), mask, BLACK)
    drawn = scene.outline(where, centre, (half[0], half[1]), width, rng.uniform(-2, 2))
    return scene.picture(scene.covered(page, drawn, one_of(rng, BLACK, BLACK, BLUE, GREY)))


@kind()
def form_cell(rng: Generator, image: Bytes) -> Image.Image:
    """One cell of a printed table is filled in; the lines reach the edges of the picture."""
    where = scene.size(rng)
    mask = written(rng, image, where, (0.22, 0.45), margin=0.15)
    top, left, bottom, right = box(mask)
    height, width = (length * rng.uniform(1.2, 1.8) + 4 for length in (bottom - top, right - left))
    width = max(width, 0.6 * height)
    thick = rng.uniform(1, max(1.5, 0.008 * min(where)))
    across = scene.lines(where, height, thick, 0, height / 2 - (bottom + top - height) / 2)
    down = scene.lines(where, width, thick, -90, width / 2 - (left + right - width) / 2)
    page = scene.covered(scene.plain(where, WHITE), np.maximum(across, down), rng.uniform(0, 0.5))
    page = scene.covered(page, mask, _pen(rng))
    return scene.photo(rng, page, noise=0.006)


@kind()
def circled(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    mask = written(rng, image, where, (0.2, 0.45), margin=0.22)
    top, left, bottom, right = box(mask)
    radius = np.hypot(bottom - top, right - left) / 2 * rng.uniform(1.05, 1.4) + 3
    y, x = np.ogrid[: where[0], : where[1]]
    far = np.hypot((y - (top + bottom) / 2) * rng.uniform(0.85, 1.15), x - (left + right) / 2)
    ring = np.clip(rng.uniform(0.5, 0.01 * min(where)) + 0.5 - np.abs(far - radius), 0, 1).astype(np.float32)
    page = scene.covered(scene.plain(where, WHITE), mask, BLACK)
    return scene.picture(scene.covered(page, ring, one_of(rng, BLACK, BLUE, (0.75, 0.1, 0.12))))


# Light


def _shaded(rng: Generator, image: Bytes, softness: tuple[float, float], page: Floats | None = None) -> Image.Image:
    where = scene.size(rng) if page is None else page.shape[:2]
    mask = written(rng, image, where)
    page = scene.covered(_paper(rng, where) if page is None else page, mask, _pen(rng))
    edge = scene.shadow(rng, where, rng.uniform(*softness) * min(where), rng.uniform(0.3, 0.6), scene.near(rng, mask))
    return scene.photo(rng, page, edge * scene.gradient(rng, where, rng.uniform(0, 0.3)))


@kind()
def soft_shadow(rng: Generator, image: Bytes) -> Image.Image:
    return _shaded(rng, image, (0.02, 0.1))


@kind()
def hard_shadow(rng: Generator, image: Bytes) -> Image.Image:
    return _shaded(rng, image, (0, 0.006))


@kind()
def perspective_shadow(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    mask = written(rng, image, where, (0.22, 0.5), margin=0.2)
    page = scene.in_perspective(rng, scene.covered(_paper(rng, where), mask, _pen(rng)))
    edge = scene.shadow(rng, where, rng.uniform(0.002, 0.08) * min(where), rng.uniform(0.3, 0.6), scene.near(rng, mask))
    return scene.photo(rng, page, edge * scene.gradient(rng, where, rng.uniform(0, 0.3)))


@kind()
def blue_on_yellow_shadow(rng: Generator, image: Bytes) -> Image.Image:
    return _shaded(rng, image, (0.005, 0.06), scene.plain(scene.size(rng), YELLOW))


@kind()
def whiteboard_glare(rng: Generator, image: Bytes) -> Image.Image:
    """A marker on a whiteboard, in which a lamp or window is reflected."""
    where = scene.size(rng)
    mask = scene.thickened(written(rng, image, where), int(rng.integers(0, 3)))
    page = scene.plain(where, (0.74, 0.76, 0.78)) * (1 + 0.03 * scene.clouds(rng, where, (4, 4)))[..., None]
    page = scene.covered(page, mask, one_of(rng, BLACK, BLUE, (0.7, 0.1, 0.12), (0.05, 0.4, 0.2)))
    y, x = np.ogrid[: where[0], : where[1]]
    centre, radius = rng.uniform(0.1, 0.9, 2) * where, rng.uniform(0.08, 0.3) * min(where)
    glare = np.exp(-(((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / radius**2)).astype(np.float32)
    page = page + rng.uniform(0.15, 0.4) * glare[..., None]
    return scene.photo(rng, page, scene.gradient(rng, where, rng.uniform(0.1, 0.3)))


@kind()
def night(rng: Generator, image: Bytes) -> Image.Image:
    """Little light: dark and noisy."""
    where = scene.size(rng)
    page = scene.covered(_paper(rng, where), written(rng, image, where), _pen(rng))
    return scene.photo(rng, page, rng.uniform(0.25, 0.5) * scene.gradient(rng, where, 0.3), rng.uniform(0.03, 0.06), 75)


# Around the paper


@kind()
def black_border(rng: Generator, image: Bytes) -> Image.Image:
    """A scanner's, on one to four sides, straight or slanted."""
    where = scene.size(rng)
    ink = written(rng, image, where, (0.22, 0.5), margin=0.18)
    sides = [rng.uniform(0.01, 0.1) * min(where) if rng.random() < 0.75 else -9 for _ in range(4)]
    if max(sides) < 0:
        sides = [0.015 * min(where)] * 4
    top, bottom, left, right = sides
    half = ((where[0] - top - bottom) / 2, (where[1] - left - right) / 2)
    centre = ((where[0] + top - bottom) / 2, (where[1] + left - right) / 2)
    sheet = scene.rectangle(where, centre, half, one_of(rng, 0.0, rng.uniform(-1.5, 1.5)))
    return _scan(1 - (1 - ink) * sheet)


def _inside(rng: Generator, image: Bytes, where: scene.Size, sheet: Floats, share: tuple[float, float]) -> Floats:
    """Return the mask of a digit that lies within a sheet."""
    core = ndimage.binary_erosion(sheet > 0.99, iterations=3)
    while True:
        mask = written(rng, image, where, share)
        if core[mask > 0].all():
            return mask


def _on_table(rng: Generator, image: Bytes, table: Callable[[scene.Size], Floats]) -> Image.Image:
    """A sheet on a table, turned a little."""
    where = scene.size(rng, 240)
    half = tuple((rng.uniform(0.27, 0.43, 2) * where).tolist())
    centre = tuple((np.array(where) / 2 + rng.uniform(-0.05, 0.05, 2) * where).tolist())
    sheet = scene.rectangle(where, centre, half, one_of(rng, 0.0, rng.uniform(-10, 10)))
    page = scene.covered(table(where), sheet, scene.plain(where, one_of(rng, WHITE, WHITE, CREAM)))
    page = scene.covered(page, _inside(rng, image, where, sheet, (0.18, 0.36)), _pen(rng))
    return scene.photo(rng, page, scene.gradient(rng, where, rng.uniform(0.05, 0.25)))


@kind()
def dark_table(rng: Generator, image: Bytes) -> Image.Image:
    """A white sheet on a dark table."""
    colour = one_of(rng, (0.22, 0.15, 0.12), (0.1, 0.1, 0.11), (0.3, 0.2, 0.13), (0.16, 0.19, 0.24))
    surface = one_of(rng, scene.plain, lambda where, colour: scene.wood(rng, where, colour))
    return _on_table(rng, image, lambda where: surface(where, colour))


@kind()
def light_table(rng: Generator, image: Bytes) -> Image.Image:
    """A white sheet on a table of light wood."""
    colour = one_of(rng, (0.72, 0.58, 0.42), (0.6, 0.48, 0.36), (0.65, 0.62, 0.58))
    return _on_table(rng, image, lambda where: scene.wood(rng, where, colour))


@kind()
def thumb(rng: Generator, image: Bytes) -> Image.Image:
    """A thumb that holds the paper reaches into the picture."""
    where = scene.size(rng)
    mask = written(rng, image, where, (0.22, 0.45), margin=0.08)
    page = scene.covered(_paper(rng, where), mask, _pen(rng))
    _, left, _, right = box(mask)
    y, x = np.ogrid[: where[0], : where[1]]
    reach = rng.uniform(0.5, 0.85) * max(left, where[1] - right)
    at, half = rng.uniform(0.2, 0.8) * where[0], rng.uniform(0.06, 0.12) * min(where)
    along = x if left > where[1] - right else where[1] - 1 - x
    inside = half - np.hypot(np.maximum(along - (reach - half), 0), y - at)
    skin = one_of(rng, (0.87, 0.66, 0.55), (0.62, 0.43, 0.33), (0.38, 0.25, 0.19))
    page = scene.covered(page, np.clip(inside + 0.5, 0, 1).astype(np.float32), skin)
    return scene.photo(rng, page, scene.gradient(rng, where, rng.uniform(0, 0.15)))


@kind()
def torn_edge(rng: Generator, image: Bytes) -> Image.Image:
    """A torn sheet on a table; its edge runs through the picture."""
    where = scene.size(rng, 240)
    wide, high = one_of(rng, where, where[::-1])
    tear = ndimage.gaussian_filter1d(0.004 * high * np.cumsum(rng.normal(0, 1, wide)), 1)
    tear += rng.uniform(-0.1, 0.1) * np.arange(wide)
    edge = rng.uniform(0.02, 0.12) * high + tear - tear.min()
    sheet = np.clip(np.arange(high)[:, None] - edge + 0.5, 0, 1).astype(np.float32)
    sheet = one_of(rng, sheet, sheet[::-1])
    sheet = sheet if sheet.shape == where else sheet.T
    dark = one_of(rng, (0.3, 0.2, 0.13), (0.12, 0.12, 0.13), (0.5, 0.36, 0.25))
    page = scene.covered(scene.plain(where, dark), sheet, _paper(rng, where))
    page = scene.covered(page, _inside(rng, image, where, sheet, (0.2, 0.4)), _pen(rng))
    return scene.photo(rng, page, rng.uniform(0.8, 1))


@kind()
def two_tone(rng: Generator, image: Bytes) -> Image.Image:
    """Paper, and beside it something else that is lighter or darker, but not dark."""
    where = scene.size(rng)
    mask = written(rng, image, where, (0.2, 0.45), margin=0.06)
    top, left, bottom, right = box(mask)
    free = (top, where[0] - bottom, left, where[1] - right)
    side = int(np.argmax(free))
    reach = free[side] * rng.uniform(0.3, 0.8)
    y, x = np.ogrid[: where[0], : where[1]]
    beside = (y < reach, y >= where[0] - reach, x < reach, x >= where[1] - reach)[side]
    beside = np.broadcast_to(beside, where).astype(np.float32)
    page = scene.covered(
        scene.plain(where, WHITE), beside, one_of(rng, (0.6, 0.62, 0.65), (0.75, 0.65, 0.5), (0.5, 0.6, 0.5))
    )
    return scene.photo(rng, scene.covered(page, mask, _pen(rng)), scene.gradient(rng, where, rng.uniform(0, 0.15)))


# Marks beside the digit


@kind()
def dust(rng: Generator, image: Bytes) -> Image.Image:
    """A share of 0.2 % of the pixels is black."""
    mask = written(rng, image, scene.size(rng))
    mask[rng.random(mask.shape) < 0.002] = 1
    return _scan(mask)


@kind()
def one_speck(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    mask = written(rng, image, where, margin=0.1)
    radius = max(1, round(rng.uniform(0.004, 0.01) * min(where)))
    y, x = ((one_of(rng, length * 0.02, length * 0.96)) for length in where)
    mask = np.maximum(mask, scene.rectangle(where, (y, x), (radius, radius)))
    return _scan(mask)


@kind()
def page_number(rng: Generator, image: Bytes) -> Image.Image:
    """A small printed number is in a corner."""
    where = scene.size(rng)
    mask = written(rng, image, where, (0.3, 0.6), margin=0.13)
    number = scene.text(str(rng.integers(1, 300)), round(rng.uniform(0.045, 0.08) * min(where)))
    gap = round(0.03 * min(where))
    top, left = (one_of(rng, gap, length - gap - own) for length, own in zip(where, number.shape, strict=True))
    mask[top : top + number.shape[0], left : left + number.shape[1]] = np.maximum(
        mask[top : top + number.shape[0], left : left + number.shape[1]], number
    )
    return _scan(mask)


@kind()
def caption(rng: Generator, image: Bytes) -> Image.Image:
    """A printed line stands above."""
    where = scene.size(rng, 240)
    words = one_of(rng, "Number of persons:", "Question 7. Your answer", "Total", "Please write clearly")
    line = scene.text(words, round(rng.uniform(0.04, 0.07) * min(where)))[:, : where[1] - 8]
    top, gap = round(0.05 * where[0]), round(0.13 * where[0])
    below = written(rng, image, (where[0] - top - gap, where[1]), (0.3, 0.6))
    mask = np.concatenate([np.zeros((top + gap, where[1]), np.float32), below])
    mask[top : top + line.shape[0], 4 : 4 + line.shape[1]] = line
    return _scan(mask)


@kind()
def punched_holes(rng: Generator, image: Bytes) -> Image.Image:
    """A sheet for a binder, whose holes look dark."""
    where = scene.size(rng)
    mask = written(rng, image, where, (0.25, 0.5), margin=0.2)
    page = scene.covered(_paper(rng, where), mask, _pen(rng))
    y, x = np.ogrid[: where[0], : where[1]]
    radius = rng.uniform(0.025, 0.045) * min(where)
    for at in (0.25, 0.75):
        distance = np.hypot(y - at * where[0], x - 0.08 * where[1])
        page = scene.covered(page, np.clip(radius - distance + 0.5, 0, 1).astype(np.float32), (0.15, 0.13, 0.12))
    return scene.photo(rng, page, scene.gradient(rng, where, rng.uniform(0, 0.15)))


@kind(num_images=2)
def show_through(rng: Generator, image: Bytes, behind: Bytes) -> Image.Image:
    """The digit on the other side of the sheet shows through faintly."""
    where = scene.size(rng)
    back = scene.blurred(written(rng, behind, where, (0.3, 0.6))[:, ::-1, None], 1.5)[..., 0]
    page = scene.covered(_paper(rng, where), rng.uniform(0.05, 0.1) * back, BLACK)
    return scene.photo(rng, scene.covered(page, written(rng, image, where, (0.3, 0.6)), _pen(rng)))


# Pens, papers and colours


@kind()
def thick_pen(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    mask = written(rng, image, where, (0.35, 0.6), margin=0.12)
    top, left, bottom, right = box(mask)
    return _scan(scene.thickened(mask, round(rng.uniform(0.05, 0.1) * max(bottom - top, right - left))))


@kind()
def fine_pen(rng: Generator, image: Bytes) -> Image.Image:
    """A ballpoint: lines much finer than those of the official images."""
    where = scene.size(rng, 300)
    width = max(1.2, rng.uniform(0.006, 0.015) * min(where))
    mask = written(rng, image, where, pen=lambda image, side: scene.fine_strokes(image, side, width))
    return scene.photo(rng, scene.covered(_paper(rng, where), mask, _pen(rng)), noise=0.006)


@kind()
def red_on_green(rng: Generator, image: Bytes) -> Image.Image:
    """About as light as each other, so that a greyscale picture has little of it."""
    where = scene.size(rng)
    green = np.array((rng.uniform(0.1, 0.3), rng.uniform(0.3, 0.5), rng.uniform(0.1, 0.3)))
    red, grey = np.array((0.9, rng.uniform(0.05, 0.2), rng.uniform(0.05, 0.2))), (0.299, 0.587, 0.114)
    red = np.clip(red * (green @ grey + rng.uniform(-0.08, 0.08)) / (red @ grey), 0, 1)
    page = scene.covered(scene.plain(where, green), written(rng, image, where), red)
    return scene.photo(rng, page, noise=0.006) if rng.random() < 0.5 else scene.picture(page)


@kind()
def coloured_paper(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    colour = one_of(rng, (0.95, 0.6, 0.65), (0.55, 0.75, 0.9), (0.6, 0.85, 0.6), (0.95, 0.7, 0.35), (0.9, 0.85, 0.3))
    page = scene.covered(
        scene.plain(where, colour), written(rng, image, where), one_of(rng, BLACK, BLUE, (0.6, 0.08, 0.1))
    )
    return scene.photo(rng, page, scene.gradient(rng, where, rng.uniform(0, 0.25)))


@kind()
def pencil_on_grey(rng: Generator, image: Bytes) -> Image.Image:
    """Recycled paper with fibres, and a pencil that leaves gaps."""
    where = scene.size(rng)
    mask = written(rng, image, where) * np.clip(0.8 + 0.4 * rng.standard_normal(where, np.float32), 0.2, 1)
    page = scene.plain(where, GREY) * (1 + 0.05 * scene.clouds(rng, where, (where[0] // 3, where[1] // 3)))[..., None]
    return scene.photo(rng, scene.covered(page, mask, PENCIL), scene.gradient(rng, where, rng.uniform(0, 0.2)))


@kind()
def blackboard_chalk(rng: Generator, image: Bytes) -> Image.Image:
    """Chalk with gaps on a board that was wiped."""
    where = scene.size(rng)
    mask = written(rng, image, where) * np.clip(0.75 + 0.35 * rng.standard_normal(where, np.float32), 0.1, 1)
    board = scene.plain(where, one_of(rng, (0.14, 0.24, 0.19), (0.17, 0.17, 0.18)))
    board = board + 0.035 * (1 + scene.clouds(rng, where, (5, 7)))[..., None]
    page = scene.covered(board, mask, (0.88, 0.88, 0.84))
    return scene.photo(rng, page, scene.gradient(rng, where, rng.uniform(0, 0.3)))


@kind()
def crumpled_paper(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    folds = np.abs(scene.clouds(rng, where, (6, 6))) + 0.5 * np.abs(scene.clouds(rng, where, (12, 12)))
    page = scene.covered(scene.plain(where, WHITE), written(rng, image, where), _pen(rng))
    return scene.photo(rng, page, 1 - rng.uniform(0.1, 0.22) * folds)


# Cameras and scanners


@kind()
def jpeg_20(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    page = scene.covered(_paper(rng, where), written(rng, image, where), _pen(rng))
    return scene.jpeg(scene.picture(page), 20)


@kind()
def rotated(rng: Generator, image: Bytes) -> Image.Image:
    """By up to 10 degrees."""
    where = scene.size(rng)
    scan = _scan(written(rng, image, where, margin=0.15))
    return scan.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC, fillcolor=255)


@kind()
def out_of_focus(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    mask = written(rng, image, where)
    top, left, bottom, right = box(mask)
    page = scene.covered(_paper(rng, where), mask, _pen(rng))
    return scene.photo(rng, scene.blurred(page, rng.uniform(0.02, 0.05) * max(bottom - top, right - left)))


@kind()
def screen_moire(rng: Generator, image: Bytes) -> Image.Image:
    """A photographed screen, dark on light or light on dark."""
    where = scene.size(rng)
    mask = written(rng, image, where)
    dark, light = (0.07, 0.08, 0.1), (0.82, 0.86, 0.9)
    paper, pen = (light, dark) if rng.random() < 0.7 else (dark, light)
    page = scene.covered(scene.plain(where, paper), mask, pen)
    waves = np.ones(where, np.float32)
    for _ in range(2):
        y, x = np.ogrid[: where[0], : where[1]]
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 40)
        waves *= 1 + rng.uniform(0.03, 0.1) * np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period)
    return scene.photo(rng, page, waves.astype(np.float32))


@kind()
def touching_edge(rng: Generator, image: Bytes) -> Image.Image:
    """The picture is cropped so that the digit touches one or two of its edges."""
    where = scene.size(rng)
    mask = written(rng, image, where, (0.4, 0.7))
    top, left, bottom, right = box(mask)
    first, second = rng.permutation(4)[:2], rng.random() < 0.3
    sides = set(first[: 1 + second].tolist())
    cropped = mask[
        (top if 0 in sides else 0) : (bottom if 1 in sides else None),
        (left if 2 in sides else 0) : (right if 3 in sides else None),
    ]
    return _scan(cropped)


@kind()
def far_away(rng: Generator, image: Bytes) -> Image.Image:
    """A small digit on a large picture."""
    where = scene.size(rng, 900, 1600)
    page = scene.covered(_paper(rng, where), written(rng, image, where, (0.05, 0.12)), _pen(rng))
    return scene.photo(rng, page, scene.gradient(rng, where, rng.uniform(0, 0.3)), noise=0.006)


# Small files


@kind()
def own_28px(rng: Generator, image: Bytes) -> Image.Image:
    """A file of 28×28 pixels in black on white, in which the digit is small, or not in the middle."""
    side = int(rng.integers(10, 21))
    small = Image.fromarray(image).crop(_crop(image)).copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    page = Image.new("L", (28, 28), 255)
    left, top = int(rng.integers(0, 29 - small.width)), int(rng.integers(0, 29 - small.height))
    page.paste(Image.eval(small, lambda value: 255 - value), (left, top))
    return page


def _crop(image: Bytes) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@kind(HANDWRITING)
def handwriting_8px(rng: Generator, image: Bytes) -> Image.Image:
    return Image.fromarray(255 - image)


@kind(HANDWRITING)
def handwriting_8px_light(rng: Generator, image: Bytes) -> Image.Image:
    return Image.fromarray(image)


@kind(HANDWRITING)
def handwriting_200px(rng: Generator, image: Bytes) -> Image.Image:
    """Enlarged, with a margin."""
    page = Image.new("L", (200, 200), 255)
    page.paste(Image.fromarray(255 - image).resize((140, 140), Image.Resampling.BICUBIC), (30, 30))
    return page


@kind(HANDWRITING)
def handwriting_200px_full(rng: Generator, image: Bytes) -> Image.Image:
    """Enlarged, without a margin."""
    return Image.fromarray(255 - image).resize((200, 200), Image.Resampling.BICUBIC)


# Without a right answer


@kind(num_images=3, is_unclear=True)
def several_digits(rng: Generator, *images: Bytes) -> Image.Image:
    """Two or three, side by side."""
    side = int(rng.integers(60, 160))
    masks = [scene.strokes(image, side) for image in images[: rng.integers(2, 4)]]
    gap = round(side * rng.uniform(0.15, 0.5))
    page = np.zeros((2 * side, sum(mask.shape[1] + gap for mask in masks) + side), np.float32)
    left = side // 2
    for mask in masks:
        top = (2 * side - mask.shape[0]) // 2 + int(rng.integers(-side // 12, side // 12 + 1))
        page[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        left += mask.shape[1] + gap
    return _scan(page)


@kind(is_unclear=True)
def blank_shadow(rng: Generator, image: Bytes) -> Image.Image:
    """Nothing but paper and a shadow."""
    where = scene.size(rng)
    middle = (rng.uniform(0.2, 0.8) * where[0], rng.uniform(0.2, 0.8) * where[1])
    edge = scene.shadow(rng, where, rng.uniform(0.002, 0.05) * min(where), rng.uniform(0.3, 0.6), middle)
    return scene.photo(rng, _paper(rng, where), edge * scene.gradient(rng, where, rng.uniform(0, 0.3)))


# Clothes


def _garment(rng: Generator, image: Bytes) -> tuple[Floats, Floats, tuple[slice, slice], scene.Size]:
    """Return a garment in its own colours, its mask, where it lies, and the size of the picture."""
    where = scene.size(rng, 200, 500)
    side = round(rng.uniform(0.55, 0.85) * min(where))
    ink = image.astype(np.float32) / 255
    covers = ndimage.binary_fill_holes(image > 8)
    core = ndimage.binary_erosion(covers) + 0.01 * covers
    smooth = ndimage.gaussian_filter(np.stack([core * ink, core]).astype(np.float32), (0, 1, 1))
    inner = smooth[0] / np.maximum(smooth[1], 1e-6)
    # A pixel on the rim is a mixture of the garment, as it is next to the rim, and of white.
    opaque = covers * np.where(core < 1, np.clip(ink / np.maximum(inner, 0.02), 0, 1), 1)
    tone = opaque * (1 - np.where(core < 1, np.maximum(ink, inner), ink))
    big, weighted = (
        np.asarray(Image.fromarray(array.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
        for array in (opaque, tone)
    )
    mask = np.clip(1.5 * (big - 0.5) + 0.5, 0, 1)
    top, left = (int(rng.integers(0.04 * length, length - side - 0.04 * length + 1)) for length in where)
    colour = np.float32(one_of(rng, (1, 1, 1), (1, 1, 1), (1, 0.95, 0.92), (0.92, 0.95, 1)))
    return (
        np.clip(weighted / np.maximum(big, 0.3), 0, 1)[..., None] * colour,
        mask,
        (slice(top, top + side), slice(left, left + side)),
        where,
    )


def _laid(
    rng: Generator, image: Bytes, surface: Callable[[scene.Size], Floats], shadow: float = 0.0
) -> tuple[Floats, Floats]:
    """Return a garment on a surface, and its mask."""
    garment, own, place, where = _garment(rng, image)
    mask, page = np.zeros(where, np.float32), surface(where)
    mask[place] = own
    if shadow:
        away = round(rng.uniform(0.01, 0.04) * min(where))
        cast = np.roll(ndimage.gaussian_filter(mask, rng.uniform(0.01, 0.04) * min(where)), (away, away), axis=(0, 1))
        page = page * (1 - shadow * cast)[..., None]
    page[place] = scene.covered(page[place], own, garment)
    return page, mask


@kind(CLOTHES)
def clothes_on_white(rng: Generator, image: Bytes) -> Image.Image:
    return scene.picture(_laid(rng, image, lambda where: scene.plain(where, (1, 1, 1)))[0])


@kind(CLOTHES)
def clothes_cut_out(rng: Generator, image: Bytes) -> Image.Image:
    """Transparent around the garment."""
    page, mask = _laid(rng, image, lambda where: scene.plain(where, one_of(rng, (0, 0, 0), (1, 1, 1))))
    cut = scene.picture(page)
    cut.putalpha(Image.fromarray((255 * mask).astype(np.uint8)))
    return cut


@kind(CLOTHES)
def clothes_soft_shadow(rng: Generator, image: Bytes) -> Image.Image:
    page, _ = _laid(rng, image, lambda where: scene.plain(where, (0.97, 0.97, 0.97)), rng.uniform(0.25, 0.5))
    return scene.photo(rng, page, noise=0.006)


@kind(CLOTHES)
def clothes_on_grey(rng: Generator, image: Bytes) -> Image.Image:
    tone = rng.uniform(0.42, 0.65)
    page, _ = _laid(rng, image, lambda where: scene.plain(where, (tone, tone, tone)), 0.2 * rng.integers(2))
    return scene.photo(rng, page, scene.gradient(rng, page.shape[:2], rng.uniform(0, 0.15)), 0.006)


@kind(CLOTHES)
def clothes_on_wood(rng: Generator, image: Bytes) -> Image.Image:
    colour = one_of(rng, (0.45, 0.29, 0.18), (0.6, 0.44, 0.3), (0.33, 0.22, 0.15))
    page, _ = _laid(rng, image, lambda where: scene.wood(rng, where, colour), rng.uniform(0, 0.3))
    return scene.photo(rng, page, scene.gradient(rng, page.shape[:2], rng.uniform(0, 0.15)), 0.008)
