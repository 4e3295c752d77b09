"""Decoded images on disk: decoded once, checked at each start, mapped into memory by all processes.

An entry is a folder in `store.folder()`, named by a key of everything that its pixels depend on:

- `images.npy`: uint8 `(N, C, H, W)`, for `numpy.load` as well
- `index.npz`: what is known of each image, and checksums of the pixels

The time of the folder is when it was last used. An entry is complete or absent. Whoever adds or removes one holds the
lock; whoever reads one does not need it.
"""

import hashlib
import math
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
from numpy.typing import NDArray

from lightning_cnn.data import store
from lightning_cnn.data.decoding import Chunk, Decoder, decode_all
from lightning_cnn.data.files import announce
from lightning_cnn.data.listing import Listing
from lightning_cnn.data.resize import Mode, Resize
from lightning_cnn.errors import DataError, UserError, reason
from lightning_cnn.text import printable
from lightning_cnn.threads import available_cores

#: What happens to files that cannot be decoded.
OnError = Literal["fail", "skip"]
#: The number of channels; `auto` for 3 if any image has colour, and 1 otherwise.
Channels = Literal["auto", 1, 3]
#: To be raised if entries of earlier releases must not be used.
_FORMAT = 2
#: Bytes of pixels that are checked at each start; of larger entries, as much, spread evenly.
_CHECKED = 2**30


@dataclass(frozen=True)
class Decoded:
    """The images of a listing, in its order.

    Args:
        images: Pixels, uint8 `(N, C, H, W)`, mapped from the disk; changes are private to this process, and lost.
        valid: Whether a file could be decoded, `(N,)`; the pixels of others are 0.
        digests: BLAKE2b of each file, 16 bytes in hexadecimal, `(N,)`: equal for equal files, empty if not valid.
        is_colour: Whether an image has a pixel that is not grey, `(N,)`.
        sizes: Height and width of each image in its file, upright, `(N, 2)`; 0 if not valid.
        resize: How the images were made one size.
    """

    images: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    digests: NDArray[np.bytes_]
    is_colour: NDArray[np.bool_]
    sizes: NDArray[np.int32]
    resize: Resize


class _DamagedError(Exception):
    """An entry is not what was written."""


@dataclass(frozen=True)
class _Entry:
    """An entry that was opened."""

    decoded: Decoded
    reasons: list[str]


def decoded(
    listing: Listing,
    size: tuple[int, int],
    mode: Mode = "crop",
    channels: Channels = "auto",
    on_error: OnError = "fail",
) -> Decoded:
    """Return the pixels of a listing, decoded now or earlier. Processes that need the same images decode them once.

    Args:
        listing: The files.
        size: Height and width of the images.
        mode: How images of another shape are made to fit, see `Resize`.
        channels: 3 for RGB, 1 for greyscale; `auto` for 3 if any image has colour.
        on_error: `fail` raises an error that names files which cannot be decoded, `skip` only tells of them.

    Raises:
        UserError: If an argument is out of range, or if files cannot be decoded.
        DataError: If the pixels cannot be stored, or if a class has no image left to train with.
    """
    resize = Resize(size, mode, 3 if channels == "auto" else channels)
    path = store.folder() / _key(listing, resize, channels)
    try:
        entry = _open(path, listing, resize)
    except _DamagedError:
        entry = None
    if entry is None:
        with store.locked(path.parent):
            entry = _open_or_create(path, listing, resize, shrink=channels == "auto")
    store.touch(path)
    _report(listing, entry, on_error)
    return entry.decoded


def _key(listing: Listing, resize: Resize, channels: Channels) -> str:
    """Return a key of everything that the pixels depend on.

    A file is identified by its size, its mtime and its ctime. Unpacking an archive restores the mtime, so that other
    content may have the same; the ctime cannot be set.
    """
    key = hashlib.blake2b(digest_size=16)
    key.update(repr((_FORMAT, PIL.__version__, resize.size, resize.mode, channels)).encode())
    key.update("\0".join(["", *listing.files, ""]).encode("utf-8", "surrogatepass"))
    key.update(np.ascontiguousarray(listing.stats).tobytes())
    return key.hexdigest()


def _open(path: Path, listing: Listing, resize: Resize) -> _Entry | None:
    """Return an entry, checked; None if it does not exist.

    Raises:
        _DamagedError: If its files are not as they were written, or files that failed can be decoded by now.
    """
    try:
        with np.load(path / "index.npz") as stored:
            index = dict(stored)
        count, channels, height, width = shape = tuple(int(n) for n in index["shape"])
        offset, chunk_size = int(index["offset"]), int(index["chunk_size"])
        if (count, height, width) != (len(listing.files), *resize.size):
            raise _DamagedError("its index is of other images")
        if (path / "images.npy").stat().st_size != offset + math.prod(shape):
            raise _DamagedError("its size is wrong")
        images = np.memmap(path / "images.npy", np.uint8, "c", offset, shape).view(np.ndarray)
        _check(images, chunk_size, index["checksums"])
        reasons = [str(text) for text in index["reasons"]]
        valid = np.ones(count, np.bool_)
        valid[index["failed"]] = False
        known = (index["digests"], index["is_colour"], index["sizes"])
    except FileNotFoundError as error:
        if path.is_dir():
            raise _DamagedError("a file is missing") from error
        return None
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        raise _DamagedError(reason(error)) from error
    decoder = Decoder(listing, resize, path, offset)
    if any(decoder.is_usable(i) for i in np.flatnonzero(~valid).tolist()):
        raise _DamagedError("files that could not be read now can")
    return _Entry(Decoded(images, valid, *known, replace(resize, channels=channels)), reasons)


def _check(images: NDArray[np.uint8], chunk_size: int, checksums: NDArray[np.uint32]) -> None:
    """Compare the checksums of the pixels, in as many threads as there are cores: `crc32` lets them run."""
    most = max(1, _CHECKED // max(1, chunk_size * images[0].nbytes))
    chosen = np.unique(np.linspace(0, len(checksums) - 1, min(most, len(checksums))).astype(int))

    def checksum(i: int) -> int:
        return zlib.crc32(images[i * chunk_size : (i + 1) * chunk_size])  # type: ignore[arg-type]  # an array has a buffer

    with ThreadPoolExecutor(available_cores()) as pool:
        if [*pool.map(checksum, chosen)] != checksums[chosen].tolist():
            raise _DamagedError("its pixels have changed")


def _open_or_create(path: Path, listing: Listing, resize: Resize, shrink: bool) -> _Entry:
    """Return an entry that another process has created meanwhile, or create it. The lock must be held."""
    try:
        if (entry := _open(path, listing, resize)) is not None:
            return entry
    except _DamagedError as error:
        announce(f"decoding again: {path} cannot be used ({error})")
        store.remove(path)
    needed = len(listing.files) * math.prod((resize.channels, *resize.size))
    store.make_room(path.parent, needed)
    part = store.part(path)
    try:
        part.mkdir()
        _write(part, listing, resize, shrink)
        part.rename(path)
    except OSError as error:
        raise DataError(
            f"{needed / 1e6:,.0f} MB of decoded images cannot be stored in {path.parent} ({reason(error)}); make room, "
            "or choose another folder with the environment variable LIGHTNING_CNN_CACHE_DIR"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    entry = _open(path, listing, resize)
    assert entry is not None  # it was renamed just now, and the lock is held
    return entry


def _write(part: Path, listing: Listing, resize: Resize, shrink: bool) -> None:
    """Decode all images into the files of an entry."""
    shape = (len(listing.files), resize.channels, *resize.size)
    offset = _start(part / "images.npy", shape)
    decoder = Decoder(listing, resize, part / "images.npy", offset)
    chunks = [*_with_progress(decode_all(decoder), len(listing.files))]
    is_colour = [colour for chunk in chunks for colour in chunk.is_colour]
    checksums = [chunk.checksum for chunk in chunks]
    if shrink and not any(is_colour):
        shape = (shape[0], 1, *resize.size)
        offset, checksums = _shrink(part / "images.npy", shape, offset, decoder.chunk_size)
    reasons = [why for chunk in chunks for why in chunk.reasons]
    failed = [i for i, why in enumerate(reasons) if why]
    np.savez(
        part / "index.npz",
        shape=shape,
        offset=offset,
        chunk_size=decoder.chunk_size,
        checksums=np.array(checksums, np.uint32),
        failed=np.array(failed, np.int64),
        reasons=np.array([reasons[i] for i in failed], np.str_),
        digests=np.array([digest for chunk in chunks for digest in chunk.digests], np.bytes_),
        is_colour=np.array(is_colour, np.bool_),
        sizes=np.array([size for chunk in chunks for size in chunk.sizes], np.int32),
    )
    for file in part.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())


def _start(path: Path, shape: tuple[int, ...]) -> int:
    """Create a file for an array of this shape, and return where its values begin."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        offset = file.tell()
        file.truncate(offset + math.prod(shape))
    return offset


def _shrink(path: Path, shape: tuple[int, ...], offset: int, chunk_size: int) -> tuple[int, list[int]]:
    """Keep one of three equal channels, and return the new offset and checksums."""
    wide = np.memmap(path, np.uint8, "r", offset, (shape[0], 3, *shape[2:]))
    narrow = path.with_suffix(".grey")
    checksums = []
    start = _start(narrow, shape)
    with narrow.open("r+b") as file:  # not by a map, which would end the process if the disk were full
        file.seek(start)
        for i in range(0, shape[0], chunk_size):
            pixels = wide[i : i + chunk_size, 0].tobytes()
            checksums.append(zlib.crc32(pixels))
            file.write(pixels)
    narrow.replace(path)
    return start, checksums


def _with_progress(chunks: Iterator[Chunk], count: int) -> Iterator[Chunk]:
    """Yield the chunks, with a progress bar in a terminal and one line elsewhere."""
    from tqdm import tqdm  # only when something is decoded

    started = time.perf_counter()
    with tqdm(total=count, unit=" images", desc="decoding", disable=None) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk.reasons))
        if bar.disable:
            seconds = time.perf_counter() - started
            announce(f"decoding {count:,} images: {seconds:.1f} s, {count / seconds:,.0f} images/s")


def _report(listing: Listing, entry: _Entry, on_error: OnError) -> None:
    """Refuse files that could not be decoded, or tell of them."""
    valid = entry.decoded.valid
    if valid.all():
        return
    failed = [listing.files[i] for i in np.flatnonzero(~valid)]
    named = [f"{printable(file)} ({why})" for file, why in zip(failed[:3], entry.reasons[:3], strict=True)]
    more = f" and {len(failed) - 3:,} more" if len(failed) > 3 else ""
    text = f"{len(failed):,} of {len(valid):,} images in {printable(str(listing.root))}"
    if on_error == "fail":
        raise UserError(
            f"{text} cannot be used: {', '.join(named)}{more}; repair or remove them, or leave them out with "
            "--data.on_error skip"
        )
    announce(f"left out {text}: {', '.join(named)}{more}")
    trained = np.array([part in ("", "train") for part in listing.parts])
    if lost := sorted({*listing.labels[trained]} - {*listing.labels[trained & valid]}):
        raise DataError(
            f"{listing.root}: none of the training images of {listing.class_names[lost[0]]} can be used; repair some, "
            "or remove the class"
        )
