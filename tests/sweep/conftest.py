import sys

import pytest
from sweep import stub
from sweep.program import NO_FIGURES

from lightning_cnn.sweep import trial_process, worker

START = trial_process.start


@pytest.fixture
def _stubs(monkeypatch):
    """Replace the trials by stubs in this process, and the figures by none."""
    monkeypatch.setitem(sys.modules, "lightning_cnn.sweep.figures", NO_FIGURES)
    monkeypatch.setattr(trial_process, "start", stub.start)
    monkeypatch.setattr(worker, "POLL", 0)


@pytest.fixture
def _stub_processes(monkeypatch):
    """Replace the trials by stubs in processes of their own."""
    monkeypatch.setattr(trial_process, "start", START)
    monkeypatch.setattr(trial_process, "PROGRAM", (sys.executable, "-m", "sweep.stub"))
    monkeypatch.setattr(worker, "POLL", 0.02)
