import re

import pytest
from torch.optim import SGD

from lightning_cnn.callbacks import PrintLoss
from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import FashionMNISTDataModule


def printed(trainer, capsys, every_n_batches: int, epochs: int = 1) -> list[str]:
    run = trainer(max_epochs=epochs, callbacks=[PrintLoss(every_n_batches)])
    classifier = MLPClassifier(optimizer=lambda parameters: SGD(parameters, lr=0.01))
    run.fit(classifier, datamodule=FashionMNISTDataModule(batch_size=40, val_size=50))  # 40, 40, 40 and 30 images
    return [line for line in capsys.readouterr().out.splitlines() if "loss:" in line]


@pytest.mark.parametrize(("every", "seen"), [(1, [40, 80, 120, 150]), (2, [40, 120]), (3, [40, 150]), (100, [40])])
def test_every_n_batches_a_line_has_the_number_of_images_so_far(tiny_data, trainer, capsys, every, seen):
    lines = printed(trainer, capsys, every)

    assert [int(re.search(r"\[ *(\d+)/150\]", line)[1]) for line in lines] == seen


def test_the_count_restarts_with_each_epoch(tiny_data, trainer, capsys):
    lines = printed(trainer, capsys, every_n_batches=2, epochs=2)

    assert [re.sub(r"\d+\.\d{4}", "LOSS", line) for line in lines] == [
        "epoch 1 · loss: LOSS [   40/150]",
        "epoch 1 · loss: LOSS [  120/150]",
        "epoch 2 · loss: LOSS [   40/150]",
        "epoch 2 · loss: LOSS [  120/150]",
    ]


def test_the_loss_is_that_of_the_batch(tiny_data, trainer, capsys):
    losses = []
    callback = PrintLoss(every_n_batches=1)
    watched = callback.on_train_batch_end

    def watch(trainer, pl_module, outputs, batch, batch_idx):
        losses.append(outputs["loss"].item())
        watched(trainer, pl_module, outputs, batch, batch_idx)

    callback.on_train_batch_end = watch
    trainer(callbacks=[callback]).fit(MLPClassifier(), datamodule=FashionMNISTDataModule(batch_size=40, val_size=50))

    found = re.findall(r"loss: (\d+\.\d{4})", capsys.readouterr().out)
    assert found == [f"{loss:.4f}" for loss in losses]
    assert len(set(found)) == 4


@pytest.mark.parametrize("every", [0, -1])
def test_every_n_batches_must_be_positive(every):
    with pytest.raises(ValueError, match=f"^every_n_batches must be at least 1, got {every}$"):
        PrintLoss(every)
