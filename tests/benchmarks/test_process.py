import pytest

from benchmarks.process import WorkerError, call, command


def test_a_worker_returns_the_result_of_a_function():
    assert call("report.pairwise", numerators=[6, 4], denominators=[2, 1]) == [3.0, 4.0]


def test_a_failed_worker_is_named_with_the_last_line_of_its_output():
    with pytest.raises(WorkerError) as caught:
        call("report.pairwise", numerators=[1], denominators=[0])

    assert str(caught.value) == (
        "the worker report.pairwise ended with exit status 1: ZeroDivisionError: division by zero"
    )
    assert caught.value.exit_status == 1


def test_a_command_is_timed():
    assert 0 < command("--version") < 60


def test_an_unexpected_exit_status_is_an_error():
    assert command("fti", status=2) > 0
    with pytest.raises(
        WorkerError, match=r"^the worker lightning-cnn fti ended with exit status 2: .*no command 'fti'"
    ):
        command("fti")
