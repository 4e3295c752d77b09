import pytest
import torch
from torch import nn

from lightning_cnn.callbacks.inside import eval_mode, feature_maps, first_filters, last_features
from lightning_cnn.networks import CNN, MLP


def convolution(*weights, bias=0.0):
    """A 1×1 convolution whose output channels are the weighted sums of its input channels."""
    layer = nn.Conv2d(len(weights[0]), len(weights), kernel_size=1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights)[..., None, None])
        layer.bias.fill_(bias)
    return layer


def linear(*weights):
    layer = nn.Linear(len(weights[0]), len(weights), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights))
    return layer


@pytest.fixture
def network():
    """Two convolutions, dropout and two linear layers, for an image of 1×2 pixels."""
    return nn.Sequential(
        convolution([2.0], [-1.0], bias=1.0),
        nn.ReLU(),
        convolution([1.0, 1.0]),
        nn.Dropout(0.5),
        nn.Flatten(),
        linear([1.0, 0.0], [0.0, 1.0], [1.0, -1.0]),
        nn.ReLU(),
        linear([1.0, 2.0, 3.0]),
    )


IMAGES = torch.tensor([[[[1.0, 3.0]]], [[[-2.0, 0.0]]]])  # (2, 1, 1, 2)


def hooks(network):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def modes(network):
    return [module.training for module in network.modules()]


# Filters


def test_filters_of_a_convolution_are_its_weights():
    layer = nn.Conv2d(1, 2, kernel_size=(2, 3))
    with torch.no_grad():
        layer.weight.copy_(torch.arange(12.0).reshape(2, 1, 2, 3))

    filters = first_filters(nn.Sequential(nn.Sequential(layer, nn.ReLU()), nn.Conv2d(2, 5, 3)), 1, 28, 28)

    assert filters.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert not filters.requires_grad


def test_filters_of_a_linear_layer_have_a_weight_for_each_pixel():
    network = nn.Sequential(nn.Flatten(), linear([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0] * 6))

    assert first_filters(network, 1, 2, 3).tolist() == [[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [0, 0, 0]]]


def test_a_linear_layer_whose_inputs_are_not_pixels_has_no_filters():
    assert first_filters(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(196, 10)), 1, 28, 28) is None


def test_without_weights_there_are_no_filters():
    assert first_filters(nn.Sequential(nn.Flatten(), nn.ReLU()), 1, 28, 28) is None


@pytest.mark.parametrize(("network", "shape"), [(CNN(), (32, 3, 3)), (MLP(), (512, 28, 28))])
def test_filters_of_real_networks(network, shape):
    assert first_filters(network, 1, 28, 28).shape == shape


# Feature maps


def test_feature_maps_are_the_outputs_of_each_convolution(network):
    maps = feature_maps(network, IMAGES)

    assert list(maps) == ["convolution 1", "convolution 2"]
    assert maps["convolution 1"].tolist() == [[[[3, 7]], [[0, -2]]], [[[-3, 1]], [[3, 1]]]]
    assert maps["convolution 2"].tolist() == [[[[3, 7]]], [[[3, 2]]]]  # sums of the positive values
    assert not maps["convolution 1"].requires_grad


def test_a_network_without_convolutions_has_no_maps():
    assert feature_maps(MLP(), torch.zeros(1, 1, 28, 28)) == {}


# Features


def test_last_features_are_the_inputs_of_the_last_linear_layer(network):
    features = last_features(network, IMAGES)

    assert features.tolist() == [[3, 7, 0], [3, 2, 1]]
    assert not features.requires_grad


def test_last_features_of_a_single_linear_layer():
    features = last_features(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), IMAGES)

    assert features.tolist() == [[1, 3], [-2, 0]]


def test_without_linear_layers_there_are_no_features():
    assert last_features(nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten()), torch.zeros(2, 1, 28, 28)) is None


class Unused(nn.Module):
    """A network whose last linear layer, in the order of definition, is not called."""

    def __init__(self):
        super().__init__()
        self.layers, self.auxiliary = nn.Flatten(), nn.Linear(2, 2)

    def forward(self, images):
        return self.layers(images)


def test_without_a_call_of_the_last_linear_layer_there_are_no_features():
    assert last_features(Unused(), IMAGES) is None


# Side effects

BOTH = pytest.mark.parametrize("function", [feature_maps, last_features])


@BOTH
def test_modes_weights_and_gradients_are_unchanged(function, network):
    network.train()
    network[3].eval()  # alone, as if it were frozen
    before = modes(network), {name: weight.clone() for name, weight in network.state_dict().items()}

    function(network, IMAGES)

    assert modes(network) == before[0]
    assert all(torch.equal(before[1][name], weight) for name, weight in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert hooks(network) == 0


@BOTH
def test_running_statistics_are_not_updated(function):
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(4, 2)).train()

    function(network, IMAGES)

    assert network[1].num_batches_tracked.item() == 0
    assert network[1].running_mean.tolist() == [0, 0]
    assert network.training and network[1].training


@BOTH
def test_after_an_error_hooks_are_removed_and_modes_restored(function, network):
    network.train()
    before = modes(network)

    with pytest.raises(RuntimeError, match=r"shapes? cannot be multiplied"):
        function(network, torch.zeros(1, 1, 5, 5))

    assert hooks(network) == 0
    assert modes(network) == before


@BOTH
def test_other_hooks_are_kept(function, network):
    calls = []
    network[0].register_forward_hook(lambda *_: calls.append("seen"))

    function(network, IMAGES)

    assert calls == ["seen"]
    assert hooks(network) == 1


@BOTH
def test_no_random_numbers_are_drawn(function, network):
    network.train()  # in this mode, dropout draws random numbers
    before = torch.get_rng_state()

    function(network, IMAGES)

    assert torch.equal(torch.get_rng_state(), before)


def test_eval_mode_restores_the_mode_of_every_module(network):
    network.train()
    network[3].eval()
    before = modes(network)

    with eval_mode(network):
        assert not any(modes(network))
    assert modes(network) == before

    with pytest.raises(ValueError, match="stop"), eval_mode(network):
        raise ValueError("stop")
    assert modes(network) == before
