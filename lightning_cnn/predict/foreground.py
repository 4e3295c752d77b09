"""The foreground of a picture: ink on paper, told from light, shadows, tables, lines and specks."""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from lightning_cnn.predict.background import LUMINANCE, SIDE, Mask, Pixels
from lightning_cnn.predict.marks import components, main_mark, without_lines
from lightning_cnn.predict.morphology import dilated, eroded_by_cross
from lightning_cnn.predict.page import Page, find_page
from lightning_cnn.predict.paper import contrast_of_noise, contrast_to, find_paper, is_dark

#: Pages within pages that are looked for: the sheet on a table, and a box on it.
_MAX_PAGES = 3
#: The share of the largest contrast below which all is paper: JPEG and the other side of the sheet.
_MIN_CONTRAST = 0.1
#: The standard deviations of the noise by which ink must differ from the paper.
_MIN_DEVIATIONS = 8.0
#: The contrast of noise beyond which the mean of nine pixels is looked at, whose noise is at most half of it.
_MAX_NOISE = 0.3
#: The contrast of the faintest parts of a stroke, as a share of what separates ink from paper and lines.
_FAINTEST = 0.4
#: What is unclear: ink on more than this share of the picture; …
_MAX_INK = 0.5
#: … what has no paper around it, if its values differ by so much; …
_TWO_TONES = 64.0
#: … and they are of two tones: the variance within them is a smaller share than this (of a gradient, it is a quarter);
_MAX_WITHIN = 0.15
#: … and ink with less contrast than this; of light ink, to white.
_FAINT_INK = 0.08


class Ink(NamedTuple):
    """The ink of a picture.

    Attributes:
        values: The contrast of each pixel to the paper, 0 where no ink is; `(H, W)`.
        unclear: Why it may not be what was meant; empty if it is clear.
        paper: The grey values of the paper, also behind the ink, `(H, W)`.
        weights: Of red, green and blue, for the grey values in which the ink is seen.
        dark: Whether the ink is darker than the paper.
        faintest: The least contrast of ink.
    """

    values: Pixels
    unclear: str
    paper: Pixels
    weights: Pixels
    dark: bool
    faintest: float

    def refined(self, image: Image.Image, box: tuple[int, int, int, int]) -> Pixels:
        """Return the contrast in a part of the picture, at the resolution of the image that it was reduced from.

        Args:
            image: The image.
            box: Top, left, bottom and right in the reduced picture.
        """
        near = dilated(self.values > 0).astype(np.float32)
        paper = self.paper
        faintest = _MIN_CONTRAST * float(self.values.max())
        if max(image.size) > SIDE:
            faintest = self.faintest  # there may be lines nearby
            top, left, bottom, right = box
            near, paper = (values[top:bottom, left:right] for values in (near, paper))
            x, y = (length / own for length, own in zip(image.size, self.values.shape[::-1], strict=True))
            region = (left * x, top * y, min(right * x, image.width), min(bottom * y, image.height))
            scale = min(1, SIDE / max(region[2] - region[0], region[3] - region[1]))
            size = [max(1, round(scale * (region[end] - region[end - 2]))) for end in (2, 3)]
            image = image.resize((size[0], size[1]), Image.Resampling.BOX, region, reducing_gap=2)
        near, paper = (
            np.asarray(Image.fromarray(values).resize(image.size, Image.Resampling.BILINEAR))
            for values in (near, paper)
        )
        contrast = np.where(near > 0, contrast_to(_to_grey(image, self.weights), paper, self.dark), 0)
        sharp = np.where(contrast > faintest, contrast, 0)
        return sharp if sharp.any() else self.values


def find_ink(image: Image.Image, dark: bool | None = None) -> Ink | None:
    """Return the ink of a picture whose longer side is `SIDE`, or None if it is blank.

    Args:
        image: Has mode RGB, L or F.
        dark: Whether the ink is darker than the paper; None to find out.
    """
    weights = _weights(image)
    grey = _to_grey(image, weights)
    page = np.ones(grey.shape, bool)
    for _ in range(_MAX_PAGES):
        smooth = ndimage.uniform_filter(grey, 3)
        found = find_page(smooth, _otsu(smooth))
        if found is None:
            break
        grey, page = _only_page(grey, found), found.inside
    else:
        smooth = ndimage.uniform_filter(grey, 3)
    sure = True
    if dark is None:
        dark, sure = is_dark(smooth)
    paper = find_paper(grey, smooth, dark)
    noise = contrast_of_noise(grey, smooth, paper, dark)
    if _MIN_DEVIATIONS * noise > _MAX_NOISE:
        grey, noise = smooth, noise / 2
    contrast = contrast_to(grey, paper, dark)
    faintest = max(_MIN_CONTRAST * float(contrast.max()), _MIN_DEVIATIONS * noise, 1e-3)
    mask = contrast > faintest
    if not mask.any():
        return _two_tones(grey, smooth, weights, dark)
    strong = _otsu(contrast[mask])
    faintest = max(faintest, _FAINTEST * strong)
    mask = contrast > faintest
    ink = _connected(without_lines(mask, page), contrast > strong)
    if not ink.any():  # all of it is lines
        ink = _connected(mask, contrast > strong)
    marks = main_mark(ink, contrast)
    grown = dilated(marks.mask) & (contrast > faintest / 2) & ~(mask & ~ink)
    values = np.where(grown, contrast, 0).astype(np.float32)
    if marks.others:
        unclear = "several marks"
    elif not sure:
        unclear = "dark on light, or light on dark"
    elif marks.mask.mean() > _MAX_INK:
        unclear = "ink fills the picture"
    elif float((contrast if dark else (grey - paper) / 255)[marks.mask].mean()) < _FAINT_INK:
        unclear = "faint ink"
    else:
        unclear = ""
    return Ink(values, unclear, paper, weights, dark, faintest)


def _two_tones(grey: Pixels, smooth: Pixels, weights: Pixels, dark: bool) -> Ink | None:
    """Return the ink of a picture that is full of it, so that there is no paper around it."""
    low, high = float(smooth.min()), float(smooth.max())
    light = smooth > (low + high) / 2
    if high - low < _TWO_TONES or not light.any():
        return None
    within = light.mean() * smooth[light].var() + (1 - light.mean()) * smooth[~light].var()
    if within > _MAX_WITHIN * smooth.var():
        return None
    paper = np.full_like(grey, high if dark else low)
    contrast = contrast_to(grey, paper, dark)
    threshold = _otsu(contrast)
    values = np.where(contrast >= threshold, contrast, 0).astype(np.float32)
    return Ink(values, "ink fills the picture", paper, weights, dark, threshold) if values.any() else None


def _connected(mask: Mask, seeds: Mask) -> Mask:
    """Return the connected components of the mask that have a seed: thresholding with hysteresis."""
    labels, number = components(mask)
    seeded = np.zeros(number + 1, bool)
    seeded[labels[mask & seeds]] = True
    return np.asarray(seeded[labels])


def _weights(image: Image.Image) -> Pixels:
    """Return the weights of red, green and blue: those of luminance, unless others show far more contrast.

    These are of the first principal component of the colours, less their local means.
    """
    if image.mode != "RGB":
        return LUMINANCE
    bands = np.asarray(image)[::2, ::2]
    if np.array_equal(bands[..., 0], bands[..., 1]) and np.array_equal(bands[..., 0], bands[..., 2]):
        return LUMINANCE
    colours = bands.astype(np.float32)
    local = (colours - ndimage.uniform_filter(colours, (15, 15, 0), mode="nearest")).reshape(-1, 3)
    _, axes = np.linalg.eigh(local.T @ local)
    axis = axes[:, -1] / np.abs(axes[:, -1]).sum()
    axis *= np.sign(axis.sum()) or 1
    return axis.astype(np.float32) if (local @ axis).std() > 1.5 * (local @ LUMINANCE).std() else LUMINANCE


def _to_grey(image: Image.Image, weights: Pixels) -> Pixels:
    """Return the sum of the weighted colours, 0 or more."""
    if image.mode != "RGB":
        return np.asarray(image, np.float32)
    if weights is LUMINANCE:
        return np.asarray(image.convert("L"), np.float32)
    return np.asarray(np.asarray(image, np.float32) @ weights - 255 * np.minimum(weights, 0).sum())


def _otsu(values: Pixels) -> float:
    """Return the threshold that separates values into two classes with the least variance within them."""
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low == high:
        return high
    counts = np.bincount(((values - low) * (127.99 / (high - low))).astype(np.uint8).ravel(), minlength=128)
    centres = np.arange(128)
    below, sums = np.cumsum(counts), np.cumsum(counts * centres)
    above = below[-1] - below
    means = sums / np.maximum(below, 1), (sums[-1] - sums) / np.maximum(above, 1)
    between = below * above * (means[0] - means[1]) ** 2.0
    return low + (1 + int(np.argmax(between))) * (high - low) / 128


def _only_page(grey: Pixels, page: Page) -> Pixels:
    """Return the page with what is on it, with its paper all around it."""
    paper, inside = (eroded_by_cross(mask, 2) for mask in page)
    if not paper.any():
        paper, inside = page
    nearest = ndimage.distance_transform_edt(~paper, return_distances=False, return_indices=True)
    return np.where(inside, grey, grey[tuple(nearest)])
