import inspect

import pytest
import torch
from lightning.pytorch import seed_everything
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn import classifiers, networks
from lightning_cnn.classifiers import (
    CNNClassifier,
    DeepCNNClassifier,
    ImageClassifier,
    MLPClassifier,
    ShallowCNNClassifier,
    SimpleCNNClassifier,
)
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.data.augment import CropAndRotate

#: What the network sees of a black pixel, of one at a fifth of the range, and of a white one.
PIXELS = {
    ShallowCNNClassifier: (-1, -0.6, 1),
    DeepCNNClassifier: (-0.424213, 0.224927, 2.821487),  # (x − 0.1307) / 0.3081
    SimpleCNNClassifier: (0, 0.2, 1),
    MLPClassifier: (0, 0.2, 1),
    CNNClassifier: (-1, -0.6, 1),
}

every_classifier = pytest.mark.parametrize("classifier_class", PIXELS)


def test_these_are_all():
    public = {getattr(classifiers, name) for name in classifiers.__all__}

    assert public == {*PIXELS, ImageClassifier}
    assert {f"{name}Classifier" for name in networks.__all__} == {cls.__name__ for cls in PIXELS}


@every_classifier
def test_it_has_its_own_network(classifier_class):
    assert type(classifier_class().network).__name__ == classifier_class.__name__.removesuffix("Classifier")


@every_classifier
def test_the_network_sees_its_published_range(classifier_class):
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)

    assert classifier_class().preprocess(pixels).flatten().tolist() == pytest.approx(PIXELS[classifier_class], abs=1e-6)


@every_classifier
def test_arguments_reach_their_place(classifier_class):
    def optimizer(parameters):
        return Adam(parameters)

    def scheduler(optimizer):
        return None

    classifier = classifier_class(optimizer, scheduler, mean=0.1, std=0.2, num_classes=4)

    assert (classifier.optimizer, classifier.scheduler) == (optimizer, scheduler)
    assert (classifier.mean.item(), classifier.std.item()) == pytest.approx((0.1, 0.2))
    assert classifier(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape == (2, 4)


@every_classifier
def test_arguments_are_those_of_the_base_without_the_network(classifier_class):
    expected = inspect.signature(ImageClassifier).parameters
    found = inspect.signature(classifier_class).parameters

    assert list(found) == [name for name in expected if name != "network"]
    assert all(found[name].annotation == expected[name].annotation for name in found)


@every_classifier
def test_one_batch_can_be_learned_by_heart(classifier_class, trainer):
    seed_everything(0, verbose=False)
    batch = TensorDataset(torch.randint(256, (8, 1, 28, 28), dtype=torch.uint8), torch.arange(8))
    classifier = classifier_class(lambda parameters: Adam(parameters, lr=1e-3))
    loader = DataLoader(batch, batch_size=8)

    trainer(max_epochs=35, check_val_every_n_epoch=35).fit(classifier, loader, loader)
    (measured,) = trainer().validate(classifier, loader, verbose=False)

    assert measured["val/acc"] == 1
    assert measured["val/loss"] < 0.5  # guessing costs log 10 = 2.3


def trained_weights(trainer, seed: int) -> dict[str, torch.Tensor]:
    seed_everything(seed, verbose=False)
    classifier = CNNClassifier(lambda parameters: SGD(parameters, lr=0.01))
    trainer(max_epochs=2).fit(classifier, datamodule=MNISTDataModule(val_size=50, augment=CropAndRotate()))
    return classifier.state_dict()


def test_a_seed_repeats_training_to_the_bit(tiny_data, trainer):
    first, second = trained_weights(trainer, 1), trained_weights(trainer, 1)

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_trains_otherwise(tiny_data, trainer):
    first, second = trained_weights(trainer, 1), trained_weights(trainer, 2)

    assert not torch.equal(first["network.layers.0.weight"], second["network.layers.0.weight"])
