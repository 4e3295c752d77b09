import inspect

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import seed_everything
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn import classifiers, networks
from lightning_cnn.classifiers import (
    CNNClassifier,
    DeepCNNClassifier,
    FastCNNClassifier,
    ImageClassifier,
    MLPClassifier,
    ShallowCNNClassifier,
    SimpleCNNClassifier,
)

#: The input of the network for a black pixel, one at a fifth of the range, and a white one.
PIXELS = {
    ShallowCNNClassifier: (-1, -0.6, 1),
    DeepCNNClassifier: (-0.424213, 0.224927, 2.821487),  # (x − 0.1307) / 0.3081
    SimpleCNNClassifier: (0, 0.2, 1),
    MLPClassifier: (0, 0.2, 1),
    CNNClassifier: (-1, -0.6, 1),
    FastCNNClassifier: (0, 0.2, 1),
}

every_classifier = pytest.mark.parametrize("classifier_class", PIXELS)


def test_every_network_has_a_classifier():
    public = {getattr(classifiers, name) for name in classifiers.__all__ if name != "FocalLoss"}

    assert public == {*PIXELS, ImageClassifier}
    with_classifier = set(networks.__all__) - {"ThreeStageCNN", "SixLayerCNN"}  # which have no published pixels
    assert {f"{name}Classifier" for name in with_classifier} == {cls.__name__ for cls in PIXELS}


@every_classifier
def test_it_has_its_own_network(classifier_class):
    assert type(classifier_class().network).__name__ == classifier_class.__name__.removesuffix("Classifier")


@every_classifier
def test_the_input_has_the_published_range(classifier_class):
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)

    assert classifier_class().preprocess(pixels).flatten().tolist() == pytest.approx(PIXELS[classifier_class], abs=1e-6)


@every_classifier
def test_arguments_are_forwarded(classifier_class):
    def optimizer(parameters):
        return Adam(parameters)

    def scheduler(optimizer):
        return None

    classifier = classifier_class(
        optimizer=optimizer, scheduler=scheduler, mean=0.1, std=0.2, num_classes=4, label_smoothing=0.3
    )

    assert (classifier.optimizer, classifier.scheduler, classifier.label_smoothing) == (optimizer, scheduler, 0.3)
    assert (classifier.mean.item(), classifier.std.item()) == pytest.approx((0.1, 0.2))
    assert classifier(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape == (2, 4)


@every_classifier
def test_the_command_line_has_the_arguments_of_the_base_without_the_network(classifier_class):
    expected = dict(inspect.signature(ImageClassifier).parameters)
    del expected["network"]
    parser = ArgumentParser()
    parser.add_class_arguments(classifier_class, "model")
    own = {"channels", "hidden"} if classifier_class is FastCNNClassifier else set()

    assert set(parser.get_defaults().model.as_dict()) == {*expected, *own}


@every_classifier
def test_a_misspelt_argument_is_refused(classifier_class):
    with pytest.raises(TypeError, match="label_smooting"):
        classifier_class(label_smooting=0.1)


#: The arguments of every classifier that are plain values.
PLAIN = (
    *("mean", "std", "num_classes", "in_channels", "image_size"),
    *("label_smoothing", "class_weights", "test_time_flip", "test_time_shift"),
)


@every_classifier
def test_all_scalars_are_hyperparameters(classifier_class):
    own = {"channels", "hidden"} if classifier_class is FastCNNClassifier else set()

    assert set(classifier_class(optimizer=SGD).hparams) == {*PLAIN, *own}


@every_classifier
def test_one_batch_can_be_overfitted(classifier_class, trainer):
    seed_everything(0, verbose=False)
    batch = TensorDataset(torch.randint(256, (8, 1, 28, 28), dtype=torch.uint8), torch.arange(8))
    rate = 0.01 if classifier_class is FastCNNClassifier else 1e-3  # FastCNN needs a high learning rate
    classifier = classifier_class(optimizer=lambda parameters: Adam(parameters, lr=rate))
    loader = DataLoader(batch, batch_size=8)

    trainer(max_epochs=35, check_val_every_n_epoch=35).fit(classifier, loader, loader)
    (measured,) = trainer().validate(classifier, loader, verbose=False)

    assert measured["val/acc"] == 1
    assert measured["val/loss"] < 0.5  # a uniform prediction has the loss log 10 = 2.3


# FastCNN


def test_fast_cnn_has_the_given_size():
    def parameters(classifier):
        return sum(p.numel() for p in classifier.network.parameters())

    assert parameters(FastCNNClassifier()) == 76_154
    assert parameters(FastCNNClassifier(channels=96, hidden=128)) == 212_730


def test_a_checkpoint_restores_the_size(trainer, tmp_path):
    images = torch.randint(256, (4, 1, 28, 28), dtype=torch.uint8)
    classifier = FastCNNClassifier(channels=3, hidden=5, label_smoothing=0.1)
    run = trainer()
    loader = DataLoader(TensorDataset(images, torch.arange(4)), batch_size=4)
    run.fit(classifier, loader, loader)
    run.save_checkpoint(tmp_path / "fast.ckpt")

    restored = FastCNNClassifier.load_from_checkpoint(tmp_path / "fast.ckpt")

    assert (restored.hparams["channels"], restored.hparams["hidden"], restored.label_smoothing) == (3, 5, 0.1)
    with torch.no_grad():
        assert torch.equal(restored.eval()(images), classifier.eval()(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels and hidden must be at least 1, got 0 and 64"),
        ({"hidden": -1}, "channels and hidden must be at least 1, got 64 and -1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be between 0 and 1, got -0.1"),
        ({"label_smoothing": 1.5}, "label_smoothing must be between 0 and 1, got 1.5"),
        ({"label_smoothing": float("nan")}, "label_smoothing must be between 0 and 1, got nan"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.") + "$"):
        FastCNNClassifier(**options)
