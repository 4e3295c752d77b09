import pytest

from lightning_cnn.callbacks.few_steps import FewSteps
from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import FashionMNISTDataModule

HINT = "Only 2 optimizer steps in the whole run: if the accuracy is low, raise --trainer.max_epochs or lower --data.b"


@pytest.mark.parametrize(
    ("options", "batch_size", "is_told"),
    [
        ({"max_epochs": 2, "max_steps": -1}, 1000, True),
        ({"max_epochs": 1, "max_steps": -1}, 1, False),
        ({"max_epochs": 2, "max_steps": 2}, 1000, False),
        ({"max_epochs": 2, "max_steps": -1, "limit_train_batches": 1}, 1000, False),
    ],
)
def test_few_steps_are_told_unless_they_were_asked_for(options, batch_size, is_told, tiny_data, trainer, caplog):
    data = FashionMNISTDataModule(val_size=50, batch_size=batch_size)
    with caplog.at_level("INFO"):
        trainer(callbacks=[FewSteps()], **options).fit(MLPClassifier(), datamodule=data)

    assert (HINT in caplog.text) is is_told
