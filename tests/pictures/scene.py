"""What pictures are made of: ink, paper, lines, light, tables, and a camera or scanner.

A page is an array `(H, W, 3)` of reflected light, from 0 to 1; a mask `(H, W)` says how much of each pixel is covered.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Generator = np.random.Generator
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Size = tuple[int, int]  # height, width
Colour = tuple[float, float, float]

WHITE, CREAM, YELLOW, GREY = (0.97, 0.97, 0.96), (0.96, 0.93, 0.85), (0.98, 0.95, 0.74), (0.66, 0.66, 0.64)
BLACK, BLUE, NAVY, PENCIL = (0.06, 0.06, 0.07), (0.12, 0.18, 0.55), (0.08, 0.09, 0.24), (0.36, 0.36, 0.37)


# Places and sizes


def size(rng: Generator, smallest: int = 200, largest: int = 700) -> Size:
    """Of a picture: small ones are as likely as large ones."""
    side, aspect = np.exp(rng.uniform(np.log(smallest), np.log(largest))), np.exp(rng.uniform(-0.25, 0.25))
    return max(smallest, round(side * aspect)), max(smallest, round(side / aspect))


def one_of(rng: Generator, *values):
    return values[rng.integers(len(values))]


def box(mask: Floats) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of what a mask covers."""
    rows, columns = (np.flatnonzero((mask > 0.3).any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _pasted(mask: Floats, where: Size, top: int, left: int) -> Floats:
    canvas = np.zeros(where, np.float32)
    inside = canvas[max(top, 0) : top + mask.shape[0], max(left, 0) : left + mask.shape[1]]
    inside[:] = mask[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]]
    return canvas


# Ink


def strokes(image: Bytes, side: int) -> Floats:
    """Return the strokes of a 28×28 image, cropped, their longer side enlarged to `side`, with sharp edges."""
    rows, columns = (np.flatnonzero((image > 40).any(axis=axis)) for axis in (1, 0))
    cropped = np.pad(image, 2)[rows[0] : rows[-1] + 5, columns[0] : columns[-1] + 5]
    scale = side / max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    height, width = (max(1, round(length * scale)) for length in cropped.shape)
    soft = np.asarray(Image.fromarray(cropped).resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
    mask = np.clip((soft - 0.42) * max(1.0, 0.7 * scale) + 0.5, 0, 1)
    top, left, bottom, right = box(mask)
    return mask[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]


def written(
    rng: Generator,
    image: Bytes,
    where: Size,
    share: tuple[float, float] = (0.25, 0.6),
    margin: float = 0.06,
    draw: Callable[[Bytes, int], Floats] = strokes,
) -> Floats:
    """Return the mask of a digit written anywhere, its longer side a share of the shorter side of the picture."""
    mask = draw(image, round(rng.uniform(*share) * min(where)))
    places = [
        (round(margin * length), length - round(margin * length) - own)
        for length, own in zip(where, mask.shape, strict=True)
    ]
    return _pasted(mask, where, *(int(rng.integers(low, max(low, high) + 1)) for low, high in places))


def pen(rng: Generator) -> Colour:
    """Return the colour of a black or blue pen."""
    return one_of(rng, BLACK, BLACK, BLUE, NAVY)


def thickened(mask: Floats, pixels: int) -> Floats:
    """Return what a pen draws that is wider by this radius."""
    distance = ndimage.distance_transform_edt(mask < 0.5).astype(np.float32)
    return np.maximum(mask, np.clip(pixels + 0.5 - distance, 0, 1))


def fine_strokes(image: Bytes, side: int, width: float) -> Floats:
    """Return the middle of the strokes of a 28×28 image, in lines of this width in pixels."""
    coarse = 80
    middle = _skeleton(np.pad(strokes(image, coarse) > 0.5, 4))
    far = ndimage.distance_transform_edt(~middle).astype(np.float32) * (side / coarse)
    size = [round(length * side / coarse) for length in far.shape[::-1]]
    far = np.asarray(Image.fromarray(far).resize(size, Image.Resampling.BICUBIC))
    mask = np.clip(width / 2 + 0.5 - far, 0, 1)
    top, left, bottom, right = box(mask)
    return mask[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]


def _skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin to lines of one pixel, after Zhang and Suen (1984)."""
    steps = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # clockwise from above
    while True:
        before = mask
        for first, second in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            around = np.stack([np.roll(mask, (-y, -x), axis=(0, 1)) for y, x in steps])
            count, turns = around.sum(axis=0), (~around & np.roll(around, -1, axis=0)).sum(axis=0)
            removable = (count >= 2) & (count <= 6) & (turns == 1)
            removable &= ~around[list(first)].all(axis=0) & ~around[list(second)].all(axis=0)
            mask = mask & ~removable
        if (mask == before).all():
            return mask


def text(string: str, height: int) -> Floats:
    """Return the mask of printed text."""
    font = ImageFont.load_default(height)
    left, top, right, bottom = font.getbbox(string)
    image = Image.new("L", (round(right - left) + 2, round(bottom - top) + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), string, fill=255, font=font)
    return np.asarray(image, np.float32) / 255


# Lines


def lines(where: Size, spacing: float, width: float, angle: float, phase: float) -> Floats:
    """Return the mask of parallel lines; the angle is 0 for horizontal ones, in degrees."""
    across = (_along(where, angle + 90) + phase) % spacing
    return np.clip(width / 2 + 0.5 - np.abs(across - spacing / 2), 0, min(1, width))


def _along(where: Size, angle: float) -> Floats:
    """Return the coordinate of each pixel in a direction, in pixels."""
    y, x = np.ogrid[: where[0], : where[1]]
    return (np.cos(np.radians(angle)) * x + np.sin(np.radians(angle)) * y).astype(np.float32)


def rectangle(where: Size, centre: tuple[float, float], half: tuple[float, float], angle: float = 0) -> Floats:
    """Return the mask of a filled rectangle: centre and half sizes are (y, x)."""
    y, x = np.ogrid[: where[0], : where[1]]
    dy, dx, cos, sin = y - centre[0], x - centre[1], np.cos(np.radians(angle)), np.sin(np.radians(angle))
    inside = np.minimum(half[0] - np.abs(cos * dy - sin * dx), half[1] - np.abs(cos * dx + sin * dy))
    return np.clip(inside + 0.5, 0, 1).astype(np.float32)


def outline(
    where: Size, centre: tuple[float, float], half: tuple[float, float], width: float, angle: float = 0
) -> Floats:
    """Return the mask of a drawn rectangle."""
    inner = (half[0] - width, half[1] - width)
    return rectangle(where, centre, half, angle) - rectangle(where, centre, inner, angle)


# Surfaces


def plain(where: Size, colour: Colour) -> Floats:
    return np.broadcast_to(np.float32(colour), (*where, 3)).copy()


def paper(rng: Generator, where: Size) -> Floats:
    """Return white, cream or yellow paper."""
    return plain(where, one_of(rng, WHITE, WHITE, CREAM, YELLOW))


def covered(page: Floats, mask: Floats, colour: Colour | Floats) -> Floats:
    """Return the page with a colour, or another page, where the mask is."""
    return page + mask[..., None] * (np.float32(colour) - page)


def clouds(rng: Generator, where: Size, cells: Size) -> Floats:
    """Return smooth noise, about -1 to 1, with so many blobs in each direction."""
    coarse = rng.uniform(-1, 1, cells).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((where[1], where[0]), Image.Resampling.BICUBIC))


def wood(rng: Generator, where: Size, colour: Colour = (0.45, 0.29, 0.18)) -> Floats:
    """Return a table of wood, with its grain."""
    grain = 0.5 * clouds(rng, where, (max(2, where[0] // 4), 4)) + 0.5 * clouds(rng, where, (max(2, where[0] // 30), 3))
    boards = lines(where, rng.uniform(0.3, 0.6) * where[0], 2, 0, rng.uniform(0, 200))
    return plain(where, colour) * (1 + rng.uniform(0.1, 0.3) * grain - 0.4 * boards)[..., None]


# Light


def gradient(rng: Generator, where: Size, depth: float) -> Floats:
    """Return light that falls from one side to the other."""
    along = _along(where, rng.uniform(0, 360))
    return 1 - depth * (along - along.min()) / np.ptp(along)


def shadow(rng: Generator, where: Size, softness: float, depth: float, through: tuple[float, float]) -> Floats:
    """Return light with a shadow whose edge, at any angle, is near a point (y, x); softness is in pixels."""
    angle = rng.uniform(0, 360)
    along = _along(where, angle)
    at = np.cos(np.radians(angle)) * through[1] + np.sin(np.radians(angle)) * through[0]
    return 1 - depth / (1 + np.exp(np.clip((at - along) / max(softness, 0.3), -30, 30)))


def near(rng: Generator, mask: Floats) -> tuple[float, float]:
    """Return a point at which a shadow crosses the digit or passes near to it."""
    top, left, bottom, right = box(mask)
    return rng.uniform(1.2 * top - 0.2 * bottom, 1.2 * bottom - 0.2 * top), rng.uniform(
        1.2 * left - 0.2 * right, 1.2 * right - 0.2 * left
    )


# Cameras


def picture(page: Floats, light: Floats | float = 1.0) -> Image.Image:
    """Return the page in this light, in RGB."""
    lit = page * (light[..., None] if isinstance(light, np.ndarray) else light)
    return Image.fromarray(np.clip(255 * lit + 0.5, 0, 255).astype(np.uint8))


def photo(
    rng: Generator,
    page: Floats,
    light: Floats | float = 1.0,
    noise: float = 0.012,
    quality: int | None = None,
) -> Image.Image:
    """Return what a camera takes of a page in this light: with noise, as JPEG."""
    lit = page * (light[..., None] if isinstance(light, np.ndarray) else light)
    lit = lit + noise * rng.standard_normal(page.shape[:2], np.float32)[..., None]
    lit += 0.3 * noise * rng.standard_normal(page.shape, np.float32)
    return jpeg(picture(lit), int(rng.integers(80, 96)) if quality is None else quality)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert(image.mode)


def scan(mask: Floats) -> Image.Image:
    """Return what a scanner makes of black on white, in greyscale."""
    return Image.fromarray((255 - 255 * np.clip(mask, 0, 1)).astype(np.uint8))


def in_perspective(rng: Generator, page: Floats, depth: float = 0.17) -> Floats:
    """Return the page, seen at an angle: each corner of the picture is up to `depth` inside of the page."""
    height, width = page.shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    inside = corners + np.where(corners == 0, 1, -1) * rng.uniform(0.02, depth, (4, 2)) * (width, height)
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, inside, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    coefficients = np.linalg.solve(rows, values)
    image = picture(page).transform(
        (width, height), Image.Transform.PERSPECTIVE, coefficients.tolist(), Image.Resampling.BICUBIC
    )
    return np.asarray(image, np.float32) / 255
