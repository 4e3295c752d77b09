"""What TIFF has beyond other formats: pages, and many kinds of pixels. Used by `image_files`; Pillow decodes."""

import struct

import numpy as np
from numpy.typing import NDArray

#: The compressions that are decoded, by Pillow's names; those of libtiff that nobody uses for pictures are not exposed.
COMPRESSIONS = (
    *("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd", "jpeg"),
    *("tiff_ccitt", "group3", "group4"),
)
_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
_SUBFILE_TYPE = 254
#: Bits of the type of a subfile: a reduced copy of another page, and a mask.
_NO_PAGE = 1 | 4
#: Types of tags that are bytes or text, and the most values of a tag of another type, which becomes a tuple: as many
#: as the smallest tiles of the largest image need.
_BYTES, _MAX_VALUES = (1, 2, 6, 7), 200_000
_MAX_TAGS = 65_535


def is_tiff(content: bytes) -> bool:
    """Whether a file begins as TIFF does."""
    return content.startswith(_STARTS)


def pages(content: bytes, most: int) -> list[int]:
    """Return which of the images in a file are pages, up to one more than `most`; others are small copies or masks.

    Raises:
        ValueError: If the list of images leads round in a circle, or has tags that would fill the memory.
        struct.error: If it is truncated.
    """
    order = "<" if content.startswith(b"II") else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    count, tag, pointer = (
        struct.Struct(order + form) for form in (("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I"))
    )
    (offset,) = pointer.unpack_from(content, 8 if big else 4)
    found: list[int] = []
    seen: set[int] = set()
    while offset and len(found) <= most:
        if offset in seen:
            raise ValueError("the images lead round in a circle")
        (tags,) = count.unpack_from(content, offset)
        first, end = offset + count.size, offset + count.size + tags * tag.size
        if tags > _MAX_TAGS or len(seen) > 4 * most:
            raise ValueError("too many tags or images")
        kind = 0
        for name, type_, values, value in tag.iter_unpack(content[first:end]):
            if values > _MAX_VALUES and type_ not in _BYTES:
                raise ValueError("too many values")
            if name == _SUBFILE_TYPE:
                (kind,) = struct.unpack_from(order + "I", value)
        if not kind & _NO_PAGE:
            found.append(len(seen))
        seen.add(offset)
        (offset,) = pointer.unpack_from(content, end)
    return found or [0]


def levels(pixels: NDArray[np.float32], bits: int, inverted: bool) -> NDArray[np.float32]:
    """Return grey pixels of more than 8 bits as values from 0 to 255.

    Whole numbers without sign have the range of their bits. Other numbers have no known one: they are taken as they are
    if they are from 0 to 1, otherwise the range is that from the least to the greatest.

    Args:
        pixels: The values of the image.
        bits: Those of a whole number without sign; 0 for other numbers.
        inverted: Whether the least is white.
    """
    low, high = 0.0, 2.0**bits - 1
    if not bits:
        low, high = float(pixels.min()), float(pixels.max())
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
    scaled: NDArray[np.float32] = (pixels - low) * np.float32(255 / max(high - low, 1e-30))
    return 255 - scaled if inverted else scaled
