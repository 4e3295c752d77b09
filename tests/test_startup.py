import gc
import logging
import os
import subprocess
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch

from lightning_cnn import startup
from lightning_cnn.startup import filter_warnings, lazy_imports, set_environment, tune_process

INIT = """
VALUE = 3

class Pair:
    ORDER = ["left", "right"]

    def __init__(self, left, right=0):
        self.left, self.right = left, right

def repeated(times):
    return lambda function: lambda *args: times * function(*args)
"""
INNER = """
from costly import VALUE

def doubled(number):
    return 2 * number
"""


@pytest.fixture(autouse=True)
def _costly(tmp_path, monkeypatch):
    """Two packages, `costly` with the modules `costly.inner` and `costly.inner.most`, and `second`."""
    inner = tmp_path / "costly" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "costly" / "__init__.py").write_text(INIT)
    (inner / "__init__.py").write_text(INNER)
    (inner / "most.py").write_text("DEPTH = 2\n")
    (tmp_path / "second.py").write_text("NAME = 'second'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in loaded("costly", "second"):
        del sys.modules[name]


def loaded(*packages: str) -> set[str]:
    """Names of the modules of these packages that are in `sys.modules`."""
    return {name for name in sys.modules if name.partition(".")[0] in packages}


# Placeholders


def test_nothing_is_imported_until_it_is_used():
    with lazy_imports("costly"):
        import costly
        from costly.inner import doubled

    assert loaded("costly") == set()
    assert costly.VALUE == 3
    assert loaded("costly") == {"costly"}
    assert doubled(4) == 8
    assert loaded("costly") == {"costly", "costly.inner"}


def test_every_form_of_import_is_lazy():
    with lazy_imports("costly"):
        import costly.inner.most
        import costly.inner.most as by_another_name
        from costly import inner
        from costly.inner import most

    assert costly.inner.VALUE == 3
    assert inner.most.DEPTH == most.DEPTH == by_another_name.DEPTH == costly.inner.most.DEPTH == 2


def test_classes_can_be_instantiated_and_checked():
    with lazy_imports("costly"):
        from costly import Pair

    pair = Pair(1, right=2)

    assert (pair.left, pair.right, Pair.ORDER) == (1, 2, ["left", "right"])
    assert isinstance(pair, Pair)
    assert not isinstance(3, Pair)
    assert type(pair) is import_module("costly").Pair


def test_a_lazy_decorator_works_after_the_block():
    with lazy_imports("costly"):
        from costly import repeated

        @repeated(3)
        def answer(text):
            return text

    assert answer("no ") == "no no no "


def test_lazy_calls_and_attributes_are_resolved_after_the_block():
    with lazy_imports("costly"):
        import costly

        left = costly.Pair([1, 2]).left
        order = costly.Pair.ORDER

    assert left.index(2) == 1
    assert order.count("left") == 1


def test_a_missing_name_or_package_is_an_error_when_it_is_used():
    with lazy_imports("costly", "missing"):
        import missing
        from costly import nonsense

    with pytest.raises(AttributeError, match="nonsense"):
        nonsense.anything  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match="missing"):
        missing.anything  # noqa: B018


# Imports that are not lazy


def test_loaded_modules_are_returned():
    import costly as real

    with lazy_imports("costly", "second"):
        import costly
        import second
        from costly.inner import doubled

        assert costly is real
        assert doubled(2) == 4

    assert sys.modules["costly"] is real
    assert second.NAME == "second"


def test_other_packages_are_imported_at_once():
    with lazy_imports("costly"):
        import second

        assert type(second) is ModuleType
        assert second.NAME == "second"


def test_a_package_that_is_not_installed_is_not_found(monkeypatch):
    monkeypatch.setattr(startup, "_RARELY_USED", ("costly", "dearest"))

    with startup.quick_imports():
        import costly

        assert type(costly) is not ModuleType
        assert find_spec("dearest") is None


def test_a_prefix_of_a_package_name_does_not_match():
    with lazy_imports("cost", "costly.inner"):
        import costly

        assert costly.VALUE == 3


def test_imports_after_the_block_are_real():
    with lazy_imports("costly"):
        import costly as placeholder
        import costly.inner

    import costly
    from costly import Pair
    from costly.inner import doubled

    assert type(costly) is ModuleType
    assert isinstance(Pair, type)
    assert doubled(1) == 2
    assert placeholder.Pair is Pair


def test_import_state_is_restored_even_after_an_error():
    finders, modules = list(sys.meta_path), dict(sys.modules)

    with suppress(ZeroDivisionError), lazy_imports("costly", "second"):
        import costly.inner.most  # noqa: F401
        import second  # noqa: F401

        assert loaded("costly", "second") == {"costly", "costly.inner", "costly.inner.most", "second"}
        raise ZeroDivisionError

    assert sys.meta_path == finders
    assert sys.modules == modules


# Warnings and messages

RANK_ZERO = "lightning.pytorch.utilities.rank_zero"


@pytest.mark.parametrize(
    "message",
    [
        "The 'train_dataloader' does not have many workers which may be a bottleneck.",
        "`isinstance(treespec, LeafSpec)` is deprecated, use something else",
        "Checkpoint directory /somewhere/checkpoints exists and is not empty.",
        "The number of training batches (3) is smaller than the logging interval Trainer(log_every_n_steps=50).",
        "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need to be provided",
    ],
)
def test_harmless_warnings_are_not_shown(message):
    with pytest.warns(UserWarning, match="The|Check|Be|`"):
        warnings.warn(message, UserWarning, stacklevel=1)

    filter_warnings()

    warnings.warn(message, UserWarning, stacklevel=1)  # if it were shown, it would fail this test


def test_other_warnings_are_shown():
    filter_warnings()

    with pytest.warns(UserWarning, match="looks like a harmless one"):
        warnings.warn("looks like a harmless one: does not have many workers", UserWarning, stacklevel=1)


def test_tips_are_not_shown_and_other_messages_are(caplog):
    filter_warnings()

    with caplog.at_level(logging.INFO, logger=RANK_ZERO):
        logging.getLogger(RANK_ZERO).info("💡 Tip: buy more")
        logging.getLogger(RANK_ZERO).info("Trainer stopped")

    assert caplog.messages == ["Trainer stopped"]


def test_filters_are_added_once():
    filter_warnings()
    filters = list(logging.getLogger(RANK_ZERO).filters)

    filter_warnings()

    assert logging.getLogger(RANK_ZERO).filters == filters


#: Below the normal numbers of float64, which begin at 2.2e-308.
DENORMAL = 1e-310


@pytest.fixture
def _denormals():
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("_denormals")
def test_denormal_numbers_become_zero():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush them")
    torch.set_flush_denormal(False)
    number = torch.tensor([1e-300], dtype=torch.float64)
    assert (number * 1e-10).item() == pytest.approx(DENORMAL, abs=0)

    tune_process()

    assert (number * 1e-10).item() == 0
    assert (number * 1e-5).item() == pytest.approx(1e-305, abs=0)


@pytest.mark.usefixtures("_denormals")
def test_a_step_does_not_look_for_the_driver_of_a_gpu(monkeypatch):
    import lightning.fabric  # noqa: F401  # lets torch look for it

    looked = []
    monkeypatch.setattr(torch.cuda, "_raw_device_count_nvml", lambda: looked.append(1) or -1)
    monkeypatch.setattr(torch.cuda, "_cached_device_count", None)
    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: True)
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    torch.cuda.is_available()
    assert looked == [1]

    tune_process()
    torch.cuda.is_available()

    assert looked == [1]


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "TkAgg"])
def test_figures_do_not_depend_on_the_backend_of_a_notebook_or_desktop(monkeypatch, backend):
    monkeypatch.setenv("MPLBACKEND", backend)
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "INFO")

    set_environment()

    assert os.environ["MPLBACKEND"] == "agg"
    assert os.environ["TORCH_CPP_LOG_LEVEL"] == "INFO"


def test_a_terminal_of_one_column_is_widened(monkeypatch):
    for given, used in (("1", "80"), ("40", "40")):
        monkeypatch.setenv("MPLBACKEND", "agg")
        monkeypatch.setenv("COLUMNS", given)
        set_environment()
        assert os.environ["COLUMNS"] == used


def test_a_process_for_a_further_device_ends_with_a_parent_that_was_killed():
    killed = subprocess.Popen(["true"])
    killed.wait()
    environment = {**os.environ, "LOCAL_RANK": "1", "NODE_RANK": "0", "LIGHTNING_CNN_PARENT": str(killed.pid)}
    code = "from lightning_cnn import startup; startup.end_with_parent(); import time; time.sleep(20)"

    ended = subprocess.run([sys.executable, "-c", code], env=environment, timeout=15, check=False)

    assert ended.returncode == 1


def test_a_user_who_collects_no_garbage_and_has_frozen_objects_keeps_both(unfrozen):
    try:
        gc.disable()
        gc.freeze()
        with startup.unfrozen(), startup.quick_imports():
            pass
        assert not gc.isenabled() and gc.get_freeze_count() > 0
    finally:
        gc.enable()
