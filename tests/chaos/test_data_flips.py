import pytest
from chaos import data_flips


@pytest.mark.timeout(60)
def test_no_damaged_file_of_a_dataset_is_loaded(tmp_path, monkeypatch):
    monkeypatch.delenv("LIGHTNING_CNN_DATA_DIR", raising=False)
    monkeypatch.setattr(data_flips, "SHARES", (0.6, 0.2, 0.2))
    monkeypatch.setattr(data_flips, "FLIPS", 0.5)

    outcome = data_flips.run(150, seed=0, folder=tmp_path)

    assert outcome.lost == []
    assert outcome.fault == "bytes changed in data files (of 200 training images)"


def test_no_damaged_file_of_a_real_dataset_is_loaded(tmp_path, real_data_dir):
    outcome = data_flips.run(20, seed=0, folder=tmp_path)

    assert outcome.lost == []
    assert outcome.fault == "bytes changed in data files (of 60,000 training images)"


def test_loading_without_checksums_is_reported(tmp_path, monkeypatch):
    monkeypatch.delenv("LIGHTNING_CNN_DATA_DIR", raising=False)
    monkeypatch.setattr(data_flips, "read_verified", lambda source, file, *_: (source.read(file), None))

    lost = data_flips.run(60, seed=0, folder=tmp_path).lost

    assert any(" changed from " in line and line.endswith(": was loaded, with other bytes") for line in lost)
