"""Clothes on white and on other surfaces."""

from collections.abc import Callable

import numpy as np
from pictures import scene
from pictures.kind import CLOTHES, kind
from pictures.scene import Bytes, Floats, Generator, Size, one_of
from PIL import Image
from scipy import ndimage


def _garment(rng: Generator, image: Bytes) -> tuple[Floats, Floats, tuple[slice, slice], Size]:
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
    rng: Generator, image: Bytes, surface: Callable[[Size], Floats], shadow: float = 0.0
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
