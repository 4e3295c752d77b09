import sys

import pytest

from lightning_cnn.sweep import trial_process, worker


@pytest.fixture
def _stubs(monkeypatch):
    """Let trials only pretend to train, and be looked after quickly."""
    monkeypatch.setattr(trial_process, "PROGRAM", (sys.executable, "-m", "sweep.stub"))
    monkeypatch.setattr(worker, "POLL", 0.02)
