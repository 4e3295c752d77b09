import pytest
from chaos import disks, lives


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shared, so that what all are compared with is trained once."""
    return tmp_path_factory.mktemp("lives")


def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(folder):
    outcome = lives.kills(2, seed=0, folder=folder)

    assert outcome.lost == []


def test_a_run_that_is_asked_to_stop_saves_and_says_how_to_go_on(folder):
    outcome = lives.stops(1, seed=0, folder=folder)

    assert outcome.lost == []


def test_a_run_on_a_full_disk_loses_nothing(folder, tmp_path):
    if not disks.mount(tmp_path):
        pytest.skip("needs to mount a disk, which is not allowed here")
    disks.unmount(tmp_path)

    outcome = disks.run(1, seed=0, folder=folder)

    assert outcome.lost == []
