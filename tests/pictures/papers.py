"""Digits on paper: lines, marks beside them, pens and colours."""

import numpy as np
from pictures import scene
from pictures.kind import kind
from pictures.scene import BLACK, BLUE, GREY, PENCIL, WHITE, Bytes, Generator, box, one_of, written
from PIL import Image
from scipy import ndimage

# Clean


@kind()
def black_on_white(rng: Generator, image: Bytes) -> Image.Image:
    return scene.scan(written(rng, image, scene.size(rng)))


@kind()
def white_on_black(rng: Generator, image: Bytes) -> Image.Image:
    return Image.eval(scene.scan(written(rng, image, scene.size(rng))), lambda value: 255 - value)


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
    page = scene.paper(rng, where)
    tone = rng.uniform(0.55, 0.85) * np.float32(one_of(rng, (0.85, 0.95, 1.1), (1, 1, 1), (0.8, 1, 1.2)))
    for turned in (0, 90)[: 1 + both]:
        page = scene.covered(page, scene.lines(where, spacing, width, angle + turned, rng.uniform(0, spacing)), tone)
    if margin_line:
        at = rng.uniform(0.1, 0.9) * where[1]
        red = scene.rectangle(where, (where[0] / 2, at), (2 * where[0], max(1, width)), angle)
        page = scene.covered(page, red, (0.85, 0.3, 0.3))
    page = scene.covered(page, mask, scene.pen(rng))
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
    page = scene.covered(page, mask, scene.pen(rng))
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


# Marks beside the digit


@kind()
def dust(rng: Generator, image: Bytes) -> Image.Image:
    """A share of 0.2 % of the pixels is black."""
    mask = written(rng, image, scene.size(rng))
    mask[rng.random(mask.shape) < 0.002] = 1
    return scene.scan(mask)


@kind()
def one_speck(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    mask = written(rng, image, where, margin=0.1)
    radius = max(1, round(rng.uniform(0.004, 0.01) * min(where)))
    y, x = ((one_of(rng, length * 0.02, length * 0.96)) for length in where)
    mask = np.maximum(mask, scene.rectangle(where, (y, x), (radius, radius)))
    return scene.scan(mask)


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
    return scene.scan(mask)


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
    return scene.scan(mask)


@kind()
def punched_holes(rng: Generator, image: Bytes) -> Image.Image:
    """A sheet for a binder, whose holes look dark."""
    where = scene.size(rng)
    mask = written(rng, image, where, (0.25, 0.5), margin=0.2)
    page = scene.covered(scene.paper(rng, where), mask, scene.pen(rng))
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
    back = ndimage.gaussian_filter(written(rng, behind, where, (0.3, 0.6))[:, ::-1], 1.5)
    page = scene.covered(scene.paper(rng, where), rng.uniform(0.05, 0.1) * back, BLACK)
    return scene.photo(rng, scene.covered(page, written(rng, image, where, (0.3, 0.6)), scene.pen(rng)))


# Pens, papers and colours


@kind()
def thick_pen(rng: Generator, image: Bytes) -> Image.Image:
    where = scene.size(rng)
    mask = written(rng, image, where, (0.35, 0.6), margin=0.12)
    top, left, bottom, right = box(mask)
    return scene.scan(scene.thickened(mask, round(rng.uniform(0.05, 0.1) * max(bottom - top, right - left))))


@kind()
def fine_pen(rng: Generator, image: Bytes) -> Image.Image:
    """A ballpoint: lines much finer than those of the official images."""
    where = scene.size(rng, 300)
    width = max(1.2, rng.uniform(0.006, 0.015) * min(where))
    mask = written(rng, image, where, draw=lambda image, side: scene.fine_strokes(image, side, width))
    return scene.photo(rng, scene.covered(scene.paper(rng, where), mask, scene.pen(rng)), noise=0.006)


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
    page = scene.covered(scene.plain(where, WHITE), written(rng, image, where), scene.pen(rng))
    return scene.photo(rng, page, 1 - rng.uniform(0.1, 0.22) * folds)
