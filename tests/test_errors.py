from pathlib import Path

from lightning_cnn import errors
from lightning_cnn.errors import DataError, DivergenceError, UserError, as_file, did_you_mean, reason


def test_exit_status_of_errors():
    assert UserError("x").exit_status == 2
    assert DataError("x").exit_status == DivergenceError("x").exit_status == 1
    assert issubclass(DataError, UserError) and issubclass(DivergenceError, UserError)  # shown without a traceback


def test_only_similar_names_are_suggested():
    assert did_you_mean("batchsize", ["batch_size", "val_size"]) == "; did you mean 'batch_size'?"
    assert did_you_mean("zzz", ["batch_size", "val_size"]) == ""


def test_a_file_named_like_an_option_is_named_with_its_folder():
    Path("-1.png").touch()

    assert as_file("-1.png") == "; for the file, write ./-1.png"
    assert as_file("--output") == as_file(f"-{'x' * 300}") == ""


def test_reason_of_an_error():
    assert reason(FileNotFoundError(2, "No such file or directory")) == "no such file or directory"
    assert reason(ValueError("HTTP is refused")) == "HTTP is refused"
    assert reason(ValueError()) == "ValueError"


def test_an_extra_is_installed_from_where_the_package_was(tmp_path, monkeypatch):
    assert errors.install_extra("serve").endswith("pip install '.[serve]' there")

    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages" / "lightning_cnn" / "errors.py"))

    assert errors.install_extra("serve").endswith("pip install 'lightning_cnn-….whl[serve]'")
