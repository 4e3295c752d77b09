import pytest
from chaos import disks, interruptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the uninterrupted training, which all tests compare with."""
    return tmp_path_factory.mktemp("interruptions")


def test_a_killed_training_resumes_exactly(folder):
    assert interruptions.kills(1, seed=0, folder=folder).lost == []


def test_a_stopped_training_saves_and_names_the_command_to_resume(folder):
    assert interruptions.stops(1, seed=0, folder=folder).lost == []


def test_a_training_on_a_full_disk_loses_nothing(folder, tmp_path):
    if not disks.mount(tmp_path):
        pytest.skip("this user may not mount a disk")
    disks.unmount(tmp_path)

    assert disks.run(1, seed=0, folder=folder).lost == []
