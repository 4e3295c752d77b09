import os
import subprocess
from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.classifiers import network as networks
from lightning_cnn.errors import UserError
from lightning_cnn.networks import CNN

SHAPE = {"num_classes": 3, "in_channels": 1, "image_size": 8}
INPUTS = torch.zeros(2, 1, 8, 8)


class Net(nn.Module):
    """Needs the number of classes, and takes nothing else of the shape."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.Dropout())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> object:
        return self.head(self.layers(images))


class Raising(Net):
    def __init__(self, num_classes: int) -> None:
        raise KeyError("two\nlines")


class TwoArguments(Net):
    def forward(self, images, mask):
        return super().forward(images)


class WithAuxiliary(Net):
    """Returns a tuple in training only, as torchvision's inception_v3 and googlenet."""

    def forward(self, images):
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


class Confused(Net):
    def forward(self, images):
        raise KeyError("mask")


def build_net(num_classes, width=4):
    return Net(num_classes, width)


@pytest.mark.parametrize("builder", [Net, build_net])
def test_a_builder_gets_the_arguments_of_the_shape_that_it_has(builder):
    network = networks.build(partial(builder, width=5), SHAPE)

    assert (network.head.in_features, network.head.out_features) == (5, 3)
    assert networks.build(partial(builder, num_classes=7), SHAPE).head.out_features == 7  # as was asked for


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (CNN, {"class_path": "lightning_cnn.networks.cnn.CNN"}),
        (torchvision.models.resnet18, {"class_path": "torchvision.models.resnet.resnet18"}),
        (
            partial(CNN, num_classes=4),
            {"class_path": "lightning_cnn.networks.cnn.CNN", "init_args": {"num_classes": 4}},
        ),
        (partial(torchvision.models.resnet18, norm_layer=nn.BatchNorm2d), None),  # no plain value
        (lambda: nn.Flatten(), None),
        (nn.Flatten(), None),
    ],
)
def test_a_builder_is_named_as_in_a_config(network, config):
    assert networks.config_of(network) == config


def test_the_channel_of_grey_images_is_repeated_for_a_network_of_colour_images():
    network = networks.build(torchvision.models.resnet18, {**SHAPE, "image_size": 28}).eval()
    grey = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    logits = network(grey)

    assert logits.shape == (2, 3)
    torch.testing.assert_close(logits, network[1](grey.repeat(1, 3, 1, 1)))
    assert type(networks.build(torchvision.models.resnet18, {**SHAPE, "in_channels": 3})).__name__ == "ResNet"


@pytest.mark.parametrize(
    "config",
    [
        {"class_path": "os.system", "init_args": {"command": "touch pwned"}},
        {"class_path": "subprocess.call", "init_args": {"args": ["touch", "pwned"]}},
        {"class_path": "torch.nn.Flatten"},
        "torch.nn.Flatten",
    ],
)
def test_a_name_is_never_looked_up(config, tmp_path):
    assert os.system and subprocess.call  # are imported

    with pytest.raises(UserError, match=r"^network must be a torch\.nn\.Module, or a class or function that returns"):
        networks.build(config, SHAPE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (Raising, r"the network Raising cannot be built: KeyError: 'two\\nlines'"),
        (lambda: 5, r"the network <lambda> must return a torch.nn.Module, got int"),
    ],
)
def test_a_network_that_cannot_be_built_is_one_line(builder, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        networks.build(builder, SHAPE)


def test_arguments_out_of_range_stay_value_errors():  # which the command line names as flags
    with pytest.raises(ValueError, match=r"^num_classes must be "):
        networks.build(partial(CNN, num_classes=0), {**SHAPE, "image_size": 28})


def test_checking_a_network_changes_nothing_of_it():
    network = Net(3)
    network.layers.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random = torch.get_rng_state()

    logits = networks.require_logits("Net", network.train(), INPUTS, 3)

    assert logits.shape == (2, 3)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules()) and not all(modes)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (TwoArguments(3), "the forward of the network X must take one argument, the images, got forward(images, mask)"),
        (
            WithAuxiliary(3),
            "the network X must return logits of the shape (2, 3) for 2 images of 3 classes, and nothing else "
            "(torchvision's do with aux_logits false), got tuple in training",
        ),
        (Net(4), "for 2 images of 3 classes, and nothing else, got (2, 4)"),
        (Confused(3), "the network X does not take images of 1×8×8 (channels×height×width): 'mask'; choose another"),
        (nn.Linear(5, 3), "the network X does not take images of 1×8×8 (channels×height×width): "),
    ],
)
def test_a_network_that_does_not_fit_is_refused(network, message):
    with pytest.raises(UserError) as caught:
        networks.require_logits("X", network, INPUTS, 3)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Upsample(scale_factor=100_000),
            "the layer Upsample would return 640,000,000,000 values for one image; choose another",
        ),
        (nn.Identity(), "the network X must return logits of the shape (1, 3) for an image, got (1, 1, 8, 8)"),
        (nn.Linear(5, 3), "the network X does not take images of 1×8×8 (channels×height×width): "),
    ],
)
def test_a_network_for_which_no_memory_is_enough_is_refused(network, message):
    with pytest.raises(UserError) as caught:
        networks.require_moderate("X", network.to("meta"), (1, 8, 8), 3)

    assert message in str(caught.value)


def test_a_network_of_more_layers_than_there_are_weights_for_is_not_built():
    with (
        pytest.raises(UserError, match=r"^it would have more than 1,020 weights, and there are 2; "),
        networks.planned(2),
    ):
        nn.Sequential(*(nn.Linear(1, 1) for _ in range(10**9)))

    assert nn.Linear(1, 1).weight.device.type == "cpu"
    with networks.planned(2):
        assert nn.Linear(10**6, 10**6).weight.device.type == "meta"


class Viewing(nn.Module):
    """Flattens with `view`, as many tutorials do."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(in_channels, 4, 3), nn.Linear(4 * 36, num_classes)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.conv(images)).relu()
        return self.head(features.view(features.size(0), -1))


class Flattening(Viewing):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(images)).relu().flatten(1))


@pytest.mark.parametrize(("network", "is_last"), [(Flattening, True), (Viewing, False)])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_channels_last_is_used_where_the_network_can_take_it(network, is_last, in_channels):
    classifier = ImageClassifier(network, num_classes=3, in_channels=in_channels, image_size=8)

    weight = classifier.network.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == (is_last or in_channels == 1)
    assert weight.is_contiguous() == (not is_last or in_channels == 1)
    images = torch.zeros(2, in_channels, 8, 8)
    assert classifier.train()(images).shape == classifier.eval()(images).shape == (2, 3)


def test_finding_the_memory_format_changes_nothing_else():
    state = torch.get_rng_state()

    networks.in_channels_last(network := Viewing(3, 1), (1, 8, 8))

    torch.set_rng_state(state)
    expected = Viewing(3, 1).state_dict()
    assert network.training
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("network", [Viewing, Flattening])
def test_a_batch_without_images_has_no_logits(network):
    classifier = ImageClassifier(network, num_classes=3, image_size=8, test_time_flip=True).eval()

    batch = torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)
    assert classifier.validation_step(batch, 0).shape == classifier.test_step(batch, 0).shape == (0, 3)
    assert classifier.predict_step(batch).shape == classifier.predict_step(batch[0]).shape == (0, 3)
