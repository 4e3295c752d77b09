import io
from pathlib import Path

import pytest
import torch
from chaos import damaged_checkpoints
from chaos.damaged_checkpoints import FORMATS, content, verdict
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import archive

VALID = {suffix: dump(content(seed=0)) for suffix, dump in FORMATS.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict:
    """The content of each valid file."""
    folder = tmp_path_factory.mktemp("valid")
    for suffix, data in VALID.items():
        (folder / f"a{suffix}").write_bytes(data)
    return {suffix: checkpoints.read(folder / f"a{suffix}") for suffix in VALID}


def test_no_damaged_checkpoint_is_read_with_other_content(tmp_path):
    outcome = damaged_checkpoints.run(300, seed=1, folder=tmp_path)

    assert outcome.lost == []


@pytest.mark.parametrize("suffix", VALID)
def test_no_changed_bytes_are_read_as_other_content(suffix, tmp_path_factory, written):
    data, path = VALID[suffix], tmp_path_factory.mktemp("damaged") / f"a{suffix}"

    @settings(derandomize=True, database=None, deadline=None, max_examples=150)
    @given(st.dictionaries(st.integers(0, len(data) - 1), st.integers(0, 255), max_size=4), st.integers(0, len(data)))
    def check(changes, end):
        damaged = bytearray(data)
        for at, byte in changes.items():
            damaged[at] = byte
        cut = len(data) if changes else end
        assert verdict(bytes(damaged[:cut]), written[suffix], path) is None

    check()


def test_reading_without_checksums_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "load", lambda data: torch.load(io.BytesIO(data), weights_only=True))

    lost = damaged_checkpoints.run(150, seed=0, folder=tmp_path).lost

    assert any(line.startswith(".ckpt, byte ") and "it was read, with other content" in line for line in lost)


def test_an_error_of_several_lines_is_reported(tmp_path, monkeypatch):
    def refuse(path: Path) -> None:
        raise checkpoints.reading.UserError(f"{path}\nis wrong")

    monkeypatch.setattr(checkpoints, "read", refuse)

    assert "an unclear error" in (verdict(b"", {}, tmp_path / "a.ckpt") or "")
