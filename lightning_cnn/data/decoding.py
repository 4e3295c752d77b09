"""From image files to pixels of one size, by as many processes as there are cores. Used by `cache`."""

# ruff: noqa: PTH118  # creating a `Path` for each of a million files takes half a minute

import hashlib
import os
import signal
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cnn import signals
from lightning_cnn.data import image_files
from lightning_cnn.data.listing import Listing, stats_of
from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import DataError
from lightning_cnn.threads import available_cores

#: Fewer and smaller files are decoded before other processes have started.
_FEW_FILES, _FEW_BYTES = 500, 10_000_000
#: Limits of what one process decodes at a time: images, bytes of files, and bytes of pixels.
_MAX_IMAGES, _MAX_FILE_BYTES, _MAX_PIXEL_BYTES = 256, 4 * 2**20, 32 * 2**20


class Chunk(NamedTuple):
    """What is known of some consecutive images once they are decoded."""

    start: int
    #: Why an image cannot be used; empty for most.
    reasons: list[str]
    #: BLAKE2b of the files, 16 bytes in hexadecimal.
    digests: list[str]
    is_colour: list[bool]
    #: Heights and widths of the upright images in their files.
    sizes: list[tuple[int, int]]
    #: CRC-32 of the pixels.
    checksum: int


class _Image(NamedTuple):
    pixels: NDArray[np.uint8]
    digest: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Decoder:
    """Decodes images, chunk by chunk, and writes their pixels into a file; a dataset for torch's `DataLoader`.

    The pixels go through the file: shared memory, as batches of a `DataLoader` do, is scarce in containers.

    Args:
        listing: The files.
        resize: Makes them one size.
        target: An existing file.
        offset: Where the pixels of the first image begin in it.
    """

    listing: Listing
    resize: Resize
    target: Path
    offset: int

    @cached_property
    def chunk_size(self) -> int:
        """The number of images of a chunk; the last one may have fewer."""
        files = int(self.listing.stats[:, 0].clip(1).mean())
        return max(1, min(_MAX_IMAGES, _MAX_FILE_BYTES // files, _MAX_PIXEL_BYTES // self.image_bytes))

    @property
    def image_bytes(self) -> int:
        """The bytes of an image in the target."""
        return self.resize.channels * self.resize.size[0] * self.resize.size[1]

    def __len__(self) -> int:
        return -(-len(self.listing.files) // self.chunk_size)

    def __getitem__(self, number: int) -> Chunk | OSError:
        """Decode a chunk. An error of the target is returned: raised in another process, it would lose its reason."""
        start = number * self.chunk_size
        pixels = bytearray()
        chunk = Chunk(start, [], [], [], [], 0)
        for i in range(start, min(start + self.chunk_size, len(self.listing.files))):
            try:
                image, why = self._decode(i), ""
            except ImageFileError as error:
                nothing = np.zeros((self.resize.channels, *self.resize.size), np.uint8)
                image, why = _Image(nothing, "", (0, 0)), str(error).split(";")[0]  # without the way out of `predict`
            pixels += image.pixels.tobytes()
            chunk.reasons.append(why)
            chunk.digests.append(image.digest)
            chunk.is_colour.append(_has_colour(image.pixels))
            chunk.sizes.append(image.size)
        try:
            with self.target.open("r+b") as file:
                file.seek(self.offset + start * self.image_bytes)
                file.write(pixels)
        except OSError as error:
            return error
        return chunk._replace(checksum=zlib.crc32(pixels))

    def _decode(self, i: int) -> _Image:
        path = os.path.join(self.listing.root, self.listing.files[i])
        content = image_files.read_bytes(path)
        if stats_of(path) != tuple(self.listing.stats[i].tolist()):
            raise ImageFileError("changed meanwhile")
        image = image_files.decode(content)
        try:
            pixels = self.resize(image)
        except MemoryError as error:
            raise ImageFileError("too large for the memory") from error
        return _Image(pixels, hashlib.blake2b(content, digest_size=16).hexdigest(), (image.height, image.width))

    def is_usable(self, i: int) -> bool:
        """Whether a file can be decoded."""
        try:
            self._decode(i)
        except ImageFileError:
            return False
        return True


def _has_colour(pixels: NDArray[np.uint8]) -> bool:
    """Whether a pixel is not grey. The mode of a file does not say so: greyscale images are often stored as RGB."""
    return bool((pixels[:1] != pixels[1:]).any())


def decode_all(decoder: Decoder) -> Iterator[Chunk]:
    """Decode all images, and yield their chunks in order.

    Raises:
        OSError: If the target cannot be written to.
        DataError: If one of the processes is killed.
    """
    import torch
    from torch.utils.data import DataLoader

    stats = decoder.listing.stats
    few = len(stats) < _FEW_FILES and stats[:, 0].sum() < _FEW_BYTES
    loader: DataLoader[Chunk | OSError] = DataLoader(
        decoder,  # type: ignore[arg-type]  # a dataset need not be a `Dataset`
        batch_size=None,
        num_workers=0 if few else min(available_cores(), len(decoder)),
        collate_fn=_unchanged,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # with torch's own, decoding would change the random numbers of the run
    )
    try:
        for chunk in _start(loader):  # no variable, as a traceback would keep it, and with it the processes
            if isinstance(chunk, OSError):
                raise chunk
            yield chunk
    except RuntimeError as error:  # what the `DataLoader` raises for a dead worker
        raise DataError(
            "a process that decodes images has ended, killed perhaps because memory was short; close other programs, "
            "or find out what killed it, and start again"
        ) from error


def _start(loader: Iterable[Chunk | OSError]) -> Iterator[Chunk | OSError]:
    with signals.deferred():  # a process that starts has our handlers for a moment, which would raise there
        return iter(loader)


def _unchanged(chunk: Any) -> Any:
    return chunk


def _leave_signals(_: int) -> None:
    """Let Ctrl-C and a closed terminal end the main process only, which then ends this one, by SIGTERM if need be."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
