import pytest
from chaos.lives import FIT, differences
from distributed.processes import run

from lightning_cnn import checkpoint

WORDS = (*FIT, "--trainer.enable_model_summary", "false", "--resume", "auto", "--test", "true")
#: Which processes there are, torchrun says, and the config shows it.
PLACES = {f"/lightning_cnn/config/trainer/{name}" for name in ("devices", "num_nodes")}


def train(folder, data, faults="", **options):
    """Train, and return the run folder, of which there must be one, with all that was printed."""
    ended = run(WORDS, folder=folder, data=data, environment={"CHILD_FAULTS": faults}, **options)
    assert ended.status == 0, ended.printed
    (run_folder,) = folder.glob("logs/mnist-cnn/*")
    return run_folder, ended.printed


@pytest.fixture(scope="module")
def undisturbed(_tiny_datasets, tmp_path_factory):
    run_folder, _ = train(tmp_path_factory.mktemp("undisturbed"), _tiny_datasets[0], processes=2)
    return run_folder


def require_same(struck, undisturbed):
    """Compare all that a run is, to the bit."""
    for name in ("best", "last"):
        contents = [checkpoint.read(folder / f"checkpoints/{name}.ckpt") for folder in (undisturbed, struck)]
        assert set(differences(*contents)) <= PLACES
    for name in ("metrics.csv", "test_predictions.csv"):
        assert (struck / name).read_bytes() == (undisturbed / name).read_bytes()


def test_processes_that_are_killed_come_back(undisturbed, tiny_data, tmp_path):
    faults = "1 train 1 killed; 0 train 4 killed"  # before and after the first checkpoint
    struck, printed = train(tmp_path, tiny_data, faults, processes=2, launcher="torchrun", max_restarts=2)

    assert printed.count("died before the first checkpoint") == 1
    assert printed.count("died; resume from step 3") == 1
    assert printed.count("Resumed: logs/mnist-cnn/version_0") == 1
    assert printed.count("Test accuracy: ") == 1
    require_same(struck, undisturbed)
