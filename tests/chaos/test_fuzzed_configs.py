from tempfile import mkdtemp

import pytest
from chaos import fuzzed_configs

from lightning_cnn.config import request
from lightning_cnn.training import parsing

TRIES = 40


@pytest.mark.usefixtures("_one_thread")
def test_invalid_configs_and_flags_are_refused_in_one_line(tmp_path):
    outcome = fuzzed_configs.run(TRIES, seed=0, folder=tmp_path / "chaos")

    assert outcome.lost == []
    assert outcome.survived == TRIES


@pytest.mark.usefixtures("_one_thread")
def test_imports_leftovers_and_unclear_errors_are_reported(tmp_path, monkeypatch):
    def trust_all(config, named, config_file=None):
        mkdtemp(dir=".")
        return config

    monkeypatch.setattr(request, "trusted_settings", trust_all)
    monkeypatch.setattr(parsing, "explain", lambda report, tree, schema: report)

    lost = fuzzed_configs.run(TRIES, seed=1, folder=tmp_path / "chaos").lost

    for fault in ("imported what only a checkpoint names", "left behind: [", "not clear: "):
        assert any(fault in line for line in lost), fault
