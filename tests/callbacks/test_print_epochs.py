import re

import pytest

from lightning_cnn.callbacks import PrintEpochs
from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import MNISTDataModule


@pytest.mark.usefixtures("tiny_data")
def test_a_line_an_epoch(trainer, capsys):
    run = trainer(max_epochs=2, callbacks=[PrintEpochs()])
    run.fit(MLPClassifier(), datamodule=MNISTDataModule(val_size=50))

    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    assert re.fullmatch(r"epoch 1/2 · \d+\.\d s · val/loss \d+\.\d{4} · val/acc [01]\.\d{4}", lines[0])
    assert lines[1].endswith(f"val/acc {run.callback_metrics['val/acc']:.4f}")


@pytest.mark.usefixtures("tiny_data")
def test_without_validation_and_without_an_end(trainer, capsys):
    run = trainer(max_epochs=-1, max_steps=1, limit_val_batches=0, callbacks=[PrintEpochs()])
    run.fit(MLPClassifier(), datamodule=MNISTDataModule(val_size=50))

    assert re.search(r"^epoch 1 · \d+\.\d s$", capsys.readouterr().out, flags=re.MULTILINE)
