from pathlib import Path

import pytest

from lightning_cnn.errors import UserError
from lightning_cnn.serve.settings import KEY_VARIABLE, Limits, Settings, name_models, read_key


def test_half_of_those_who_wait_may_be_one_client():
    assert [Limits(max_waiting=waiting).max_per_client for waiting in (1, 2, 3, 256)] == [1, 1, 2, 128]


def test_models_of_the_same_name_are_told_apart(tmp_path, monkeypatch):
    folder = tmp_path / "mnist-cnn" / "version_0"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    monkeypatch.chdir(folder)
    best, last = Path("checkpoints/best.ckpt"), Path("checkpoints/last.ckpt")

    names = list(name_models([best, last, best, Path("a/digits.onnx"), Path("b/digits.onnx"), Path("b/digits.ckpt")]))

    assert names == [
        *("mnist-cnn/version_0", "mnist-cnn/version_0/last", "mnist-cnn/version_0 (2)"),
        *("digits", "digits (2)", "digits (3)"),
    ]


@pytest.mark.parametrize("key", ["", " ", "two words", "ä", "a\n"])
def test_a_key_that_no_header_can_have_is_refused_without_showing_it(key, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, key)

    with pytest.raises(UserError, match="must be visible ASCII characters") as raised:
        read_key()
    assert key.strip() == "" or key not in str(raised.value)


def test_the_key_is_not_shown_with_the_settings(monkeypatch):
    assert read_key() == ""
    monkeypatch.setenv(KEY_VARIABLE, "s3cret")
    assert read_key() == "s3cret"
    assert "s3cret" not in repr(Settings(files={}, key="s3cret"))
