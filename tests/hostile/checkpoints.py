"""Checkpoints whose settings, sizes or weights mean harm."""

from collections.abc import Iterator
from pathlib import Path

from hostile.common import Case


def cases(run: Path) -> Iterator[Case]:
    """Yield a case for each checkpoint and each command that reads it."""
    sound = (run / "checkpoints/last.ckpt").read_bytes()

    def cut(folder: Path) -> None:
        (folder / "c.ckpt").write_bytes(sound[:5000])

    for verb in ("test", "validate", "fit", "export"):
        yield Case("cut", (verb, "c.ckpt"), cut)
