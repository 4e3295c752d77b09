import pytest

from benchmarks.process import WorkerError, call, command


def test_a_function_is_called_in_a_process_of_its_own():
    assert call("report.pairwise", numerators=[6, 4], denominators=[2, 1]) == [3.0, 4.0]


def test_a_failing_function_is_named_with_its_last_line():
    with pytest.raises(WorkerError) as caught:
        call("report.pairwise", numerators=[1], denominators=[0])

    assert str(caught.value) == (
        "the worker report.pairwise ended with exit status 1: ZeroDivisionError: division by zero"
    )
    assert caught.value.exit_status == 1


def test_a_command_is_timed():
    assert 0 < command("--version") < 60


def test_a_command_must_end_as_expected():
    assert command("fti", status=2) > 0
    with pytest.raises(
        WorkerError, match=r"^the worker lightning-cnn fti ended with exit status 2: .*no command 'fti'"
    ):
        command("fti")
