import platform
import sys
from pathlib import Path

import pytest
import torch

from lightning_cnn.machine import cpu_name, tune

#: Below the normal numbers of float64, which begin at 2.2e-308.
DENORMAL = 1e-310


@pytest.fixture
def _denormals():
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


def test_the_processor_has_a_name():
    assert cpu_name().strip() == cpu_name() != ""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_the_name_is_what_the_system_says():
    if "model name" not in (info := Path("/proc/cpuinfo").read_text()):
        pytest.skip("this processor has no name")

    assert f": {cpu_name()}\n" in info


def test_without_cpuinfo_python_is_asked(monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")

    assert cpu_name() == "riscv64"


@pytest.mark.usefixtures("_denormals")
def test_numbers_below_the_normal_range_become_zero():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush them")
    torch.set_flush_denormal(False)
    number = torch.tensor([1e-300], dtype=torch.float64)
    assert (number * 1e-10).item() == pytest.approx(DENORMAL, abs=0)

    tune()

    assert (number * 1e-10).item() == 0
    assert (number * 1e-5).item() == pytest.approx(1e-305, abs=0)


@pytest.mark.usefixtures("_denormals")
def test_tuning_twice_is_fine():
    tune()
    tune()

    assert torch.ones(1_000_000).sum() == 1_000_000
