"""Digits as they are photographed, scanned and saved: light, what is around the paper, cameras, small files."""

from collections.abc import Callable

import numpy as np
from pictures import scene
from pictures.kind import HANDWRITING, kind
from pictures.scene import BLACK, BLUE, CREAM, WHITE, YELLOW, Bytes, Floats, Generator, Size, box, one_of, written
from PIL import Image
from scipy import ndimage

# Light


def _shaded(rng: Generator, image: Bytes, softness: tuple[float, float], page: Floats | None = None) -> Image.Image:
    where = scene.size(rng) if page is None else page.shape[:2]
    mask = written(rng, image, where)
    page = scene.covered(scene.paper(rng, where) if page is None else page, mask, scene.pen(rng))
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
    page = scene.in_perspective(rng, scene.covered(scene.paper(rng, where), mask, scene.pen(rng)))
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
    page = scene.covered(scene.paper(rng, where), written(rng, image, where), scene.pen(rng))
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
    return scene.scan(1 - (1 - ink) * sheet)


def _inside(rng: Generator, image: Bytes, where: Size, sheet: Floats, share: tuple[float, float]) -> Floats:
    """Return the mask of a digit that lies within a sheet."""
    core = ndimage.binary_erosion(sheet > 0.99, iterations=3)
    while True:
        mask = written(rng, image, where, share)
        if core[mask > 0].all():
            return mask


def _on_table(rng: Generator, image: Bytes, table: Callable[[Size], Floats]) -> Image.Image:
    """A sheet on a table, turned a little."""
    where = scene.size(rng, 240)
    half = tuple((rng.uniform(0.27, 0.43, 2) * where).tolist())
    centre = tuple((np.array(where) / 2 + rng.uniform(-0.05, 0.05, 2) * where).tolist())
    sheet = scene.rectangle(where, centre, half, one_of(rng, 0.0, rng.uniform(-10, 10)))
    page = scene.covered(table(where), sheet, scene.plain(where, one_of(rng, WHITE, WHITE, CREAM)))
    page = scene.covered(page, _inside(rng, image, where, sheet, (0.18, 0.36)), scene.pen(rng))
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
    page = scene.covered(scene.paper(rng, where), mask, scene.pen(rng))
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
    page = scene.covered(scene.plain(where, dark), sheet, scene.paper(rng, where))
    page = scene.covered(page, _inside(rng, image, where, sheet, (0.2, 0.4)), scene.pen(rng))
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
    return scene.photo(rng, scene.covered(page, mask, scene.pen(rng)), scene.gradient(rng, where, rng.uniform(0, 0.15)))


# Cameras and scanners


@kind()
def jpeg_20(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    page = scene.covered(scene.paper(rng, where), written(rng, image, where), scene.pen(rng))
    return scene.jpeg(scene.picture(page), 20)


@kind()
def rotated(rng: Generator, image: Bytes) -> Image.Image:
    """By up to 10 degrees."""
    where = scene.size(rng)
    scan = scene.scan(written(rng, image, where, margin=0.15))
    return scan.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC, fillcolor=255)


@kind()
def out_of_focus(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    mask = written(rng, image, where)
    top, left, bottom, right = box(mask)
    soft = ndimage.gaussian_filter(mask, rng.uniform(0.02, 0.05) * max(bottom - top, right - left))
    return scene.photo(rng, scene.covered(scene.paper(rng, where), soft, scene.pen(rng)))


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
    return scene.scan(cropped)


@kind()
def far_away(rng: Generator, image: Bytes) -> Image.Image:
    """A small digit on a large picture."""
    where = scene.size(rng, 700, 1200)
    page = scene.covered(scene.paper(rng, where), written(rng, image, where, (0.05, 0.12)), scene.pen(rng))
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
    return scene.scan(page)


@kind(is_unclear=True)
def blank_shadow(rng: Generator, image: Bytes) -> Image.Image:
    """Nothing but paper and a shadow."""
    where = scene.size(rng)
    middle = (rng.uniform(0.2, 0.8) * where[0], rng.uniform(0.2, 0.8) * where[1])
    edge = scene.shadow(rng, where, rng.uniform(0.002, 0.05) * min(where), rng.uniform(0.3, 0.6), middle)
    return scene.photo(rng, scene.paper(rng, where), edge * scene.gradient(rng, where, rng.uniform(0, 0.3)))
