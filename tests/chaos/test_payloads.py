import io
import os

import pytest
import torch
from chaos import payloads
from chaos.gadgets import GADGETS, Marker
from chaos.payloads import FORGERIES, PAYLOADS, in_checkpoint, write_files

from lightning_cnn.checkpoint import archive
from lightning_cnn.errors import UserError

#: Gadgets that create their marker as soon as they are unpickled.
AT_ONCE = [
    *("os.system", "posix.system", "os.mkdir", "subprocess.call", "builtins.eval", "builtins.exec", "builtins.open"),
    *("__builtin__.eval of Python 2", "builtins.__import__", "importlib.import_module", "a module that is only named"),
    *("runpy.run_path", "timeit.timeit", "getattr of a module", "operator.methodcaller", "BUILD on a class"),
    *("functools.partial, by BUILD", "BUILD of methods", "INST", "OBJ", "STACK_GLOBAL", "a pickle in bytes"),
    *("a pickle in an array", "torch.save", "_rebuild_from_type_v2", "hooks of a tensor", "torch.jit.load"),
]


@pytest.mark.usefixtures("no_figures")
def test_no_payload_runs(tmp_path):
    outcome = payloads.run(15, seed=1, folder=tmp_path)

    assert outcome.lost == []
    assert len(PAYLOADS) > 100 and len(GADGETS) > 40 and len(FORGERIES) > 20


@pytest.fixture
def marker(tmp_path, monkeypatch) -> Marker:
    marker = Marker(tmp_path / "MARKER", f"evil_{os.getpid()}_{abs(hash(tmp_path))}")
    monkeypatch.syspath_prepend(str(tmp_path))
    write_files(marker)
    return marker


@pytest.fixture(scope="module")
def sound() -> bytes:
    file = io.BytesIO()
    torch.save({"a": 1, "b": torch.zeros(2)}, file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", AT_ONCE)
def test_gadgets_run_without_our_checks(title, marker, sound):
    evil = in_checkpoint(sound, GADGETS[title](marker))

    try:
        torch.load(io.BytesIO(evil), weights_only=False)
    except Exception as error:  # noqa: BLE001  # some leave an invalid pickle
        print(error)

    assert marker.path.exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("title", GADGETS)
def test_every_gadget_is_refused(title, marker, sound):
    with pytest.raises(UserError):
        archive.load(in_checkpoint(sound, GADGETS[title](marker)))

    assert not marker.path.exists()


def test_reading_with_torch_alone_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "load", lambda data: torch.load(io.BytesIO(data), weights_only=False))
    title = "os.system in a pickle"
    monkeypatch.setattr(payloads, "PAYLOADS", {title: PAYLOADS[title]})

    lost = payloads.run(1, seed=0, folder=tmp_path).lost

    assert len(lost) == 1 and "os.system in a pickle: it ran" in lost[0]
