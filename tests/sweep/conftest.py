import sys

import pytest

from lightning_cnn.sweep import study, trials


@pytest.fixture
def _stubs(monkeypatch):
    """Let trials only pretend to train, and be looked after quickly."""
    monkeypatch.setattr(trials, "PROGRAM", (sys.executable, "-m", "sweep.stub"))
    monkeypatch.setattr(study, "POLL", 0.02)
