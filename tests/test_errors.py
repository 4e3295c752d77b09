from lightning_cnn.errors import DataError, DivergenceError, UserError


def test_a_wrong_command_and_missing_data_end_differently():
    assert UserError("x").exit_status == 2
    assert DataError("x").exit_status == 1
    assert issubclass(DataError, UserError)  # so that both are shown without a traceback


def test_a_training_that_fails_was_no_wrong_command():
    assert DivergenceError("x").exit_status == 1
    assert issubclass(DivergenceError, UserError)
