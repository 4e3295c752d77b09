import pytest
from chaos.common import differences
from distributed.trainings import train

from lightning_cnn import checkpoint

#: torchrun sets the processes, which the config shows.
LAUNCHER = {f"/lightning_cnn/config/trainer/{name}" for name in ("devices", "num_nodes")}


@pytest.mark.parametrize("accelerator", ["cpu"], indirect=True)
def test_torchrun_restarts_processes_that_were_killed_and_the_run_is_resumed_bit_exactly(trained, data, tmp_path):
    whole = trained(2)

    restarted = train(
        tmp_path,
        data,
        *("--resume", "auto"),
        processes=2,
        launcher="torchrun",
        max_restarts=1,
        environment={"CHILD_FAULTS": "0 train 4 killed"},
    )

    assert restarted.output.count("died; resume from step 3") == 1
    assert restarted.output.count("Resumed: logs/mnist-cnn/version_0") == 1
    assert restarted.output.count("Test accuracy: ") == 1
    for name in ("best", "last"):
        contents = [checkpoint.read(training.run / f"checkpoints/{name}.ckpt") for training in (whole, restarted)]
        assert set(differences(*contents)) <= LAUNCHER
    for name in ("metrics.csv", "test_predictions.csv"):
        assert (restarted.run / name).read_bytes() == (whole.run / name).read_bytes()
