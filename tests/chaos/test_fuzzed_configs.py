from tempfile import mkdtemp

import pytest
from chaos import fuzzed_configs

from lightning_cnn.config import request
from lightning_cnn.training import parsing

TRIES = 60


@pytest.mark.usefixtures("_one_thread")
def test_wrong_configs_and_flags_are_refused_in_one_line_or_work(tmp_path):
    outcome = fuzzed_configs.run(TRIES, seed=0, folder=tmp_path / "chaos")

    assert outcome.lost == []
    assert outcome.survived == TRIES


@pytest.mark.usefixtures("_one_thread")
def test_what_is_imported_left_behind_or_said_unclearly_is_lost(tmp_path, monkeypatch):
    def trust_all(config, named):
        mkdtemp(dir=".")
        return config

    monkeypatch.setattr(request, "trusted_settings", trust_all)
    monkeypatch.setattr(parsing, "explain", lambda report, tree, schema: report)

    lost = fuzzed_configs.run(TRIES, seed=1, folder=tmp_path / "chaos").lost

    for fault in ("imported what only a checkpoint names", "left behind: [", "not clear: "):
        assert any(fault in line for line in lost), fault
