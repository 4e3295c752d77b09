from lightning_cnn.errors import DataError, DivergenceError, UserError, did_you_mean, reason


def test_a_wrong_command_and_missing_data_end_differently():
    assert UserError("x").exit_status == 2
    assert DataError("x").exit_status == 1
    assert issubclass(DataError, UserError)  # so that both are shown without a traceback


def test_a_training_that_fails_was_no_wrong_command():
    assert DivergenceError("x").exit_status == 1
    assert issubclass(DivergenceError, UserError)


def test_only_close_names_are_suggested():
    assert did_you_mean("batchsize", ["batch_size", "val_size"]) == "; did you mean 'batch_size'?"
    assert did_you_mean("zzz", ["batch_size", "val_size"]) == ""


def test_the_reason_of_an_error_is_a_few_words():
    assert reason(FileNotFoundError(2, "No such file or directory")) == "no such file or directory"
    assert reason(ValueError("HTTP is refused")) == "HTTP is refused"
    assert reason(ValueError()) == "ValueError"
