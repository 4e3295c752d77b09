import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from lightning_cnn import networks
from lightning_cnn.networks import CNN, MLP, DeepCNN, FastCNN, ShallowCNN, SimpleCNN, SixLayerCNN, ThreeStageCNN

PARAMETERS = {
    ShallowCNN: 402_986,
    DeepCNN: 593_200,
    SimpleCNN: 1_630_090,
    MLP: 669_706,
    CNN: 421_642,
    FastCNN: 76_154,
    ThreeStageCNN: 1_152_429,
    SixLayerCNN: 9_914,
}
#: Sum of the absolute values of all weights after seed 0; of the first six, from when they knew 28×28 images only.
WEIGHTS = {
    ShallowCNN: 3667.5843100437232,
    DeepCNN: 8114.736216108531,
    SimpleCNN: 15049.823042680653,
    MLP: 13095.245523928632,
    CNN: 4237.679761232523,
    FastCNN: 1773.9927173901688,
    ThreeStageCNN: 17163.35196171118,
    SixLayerCNN: 621.0161466856025,
}
#: The layers with weights, as they are named in a state dict.
NAMES = {
    ShallowCNN: "layers.0 layers.4 layers.6",
    DeepCNN: "layers.0.0 layers.0.2 layers.1.0 layers.1.2 layers.3 layers.5",
    SimpleCNN: "layers.0 layers.3 layers.7 layers.9",
    MLP: "layers.1 layers.3 layers.5",
    CNN: "layers.0 layers.3 layers.7 layers.9",
    FastCNN: "features.0 features.2 features.4 features.5 classifier.1 classifier.2 classifier.4",
    ThreeStageCNN: "features.0.0 features.0.1 features.1.0 features.1.2 features.1.4 features.1.5 features.2.0 "
    "features.2.2 features.2.4 features.2.5 features.3.0 features.3.2 features.3.4 features.3.5 classifier",
    SixLayerCNN: "features.0.0 features.0.1 features.1.0 features.1.1 features.3.0 features.3.1 features.4.0 "
    "features.4.1 features.5.0 features.5.1 features.6.0 features.6.1 classifier",
}
#: The smallest side of an image.
SMALLEST = {ShallowCNN: 2, DeepCNN: 16, SimpleCNN: 4, MLP: 1, CNN: 4, FastCNN: 16, ThreeStageCNN: 10, SixLayerCNN: 22}
#: The published layers; max-pooling stands before the ReLU, see `networks/__init__.py`.
LAYERS = {
    ShallowCNN: ["conv 1→16 3×3 pad 1", "maxpool 2/2", "ReLU", "flatten", "fc 3136→128", "ReLU", "fc 128→10"],
    DeepCNN: [
        *("conv 1→32 3×3", "ReLU", "conv 32→64 3×3", "maxpool 2/2", "ReLU"),
        *("conv 64→128 3×3", "ReLU", "conv 128→256 3×3", "maxpool 2/2", "ReLU"),
        *("flatten", "fc 4096→50", "ReLU", "fc 50→10"),
    ],
    SimpleCNN: [
        *("conv 1→32 3×3 pad 1", "maxpool 2/2", "ReLU", "conv 32→64 3×3 pad 1", "maxpool 2/2", "ReLU"),
        *("flatten", "fc 3136→512", "ReLU", "fc 512→10"),
    ],
    MLP: ["flatten", "fc 784→512", "ReLU", "fc 512→512", "ReLU", "fc 512→10"],
    CNN: [
        *("conv 1→32 3×3 pad 1", "maxpool 2/2", "ReLU", "conv 32→64 3×3 pad 1", "maxpool 2/2", "ReLU"),
        *("flatten", "fc 3136→128", "ReLU", "fc 128→10"),
    ],
    FastCNN: [
        *("conv 1→16 5×5 no bias", "maxpool 4/4", "batchnorm 16", "ReLU"),
        *("conv 16→64 3×3 no bias", "batchnorm 64", "ReLU"),
        *("flatten", "fc 1024→64", "batchnorm 64", "ReLU", "fc 64→10"),
    ],
    ThreeStageCNN: [
        *("conv 1→9 3×3 no bias", "batchnorm 9", "GELU"),
        *("conv 9→64 3×3 pad 1 no bias", "maxpool 2/2", "batchnorm 64", "GELU"),
        *("conv 64→64 3×3 pad 1 no bias", "batchnorm 64", "GELU"),
        *("conv 64→128 3×3 pad 1 no bias", "maxpool 2/2", "batchnorm 128", "GELU"),
        *("conv 128→128 3×3 pad 1 no bias", "batchnorm 128", "GELU"),
        *("conv 128→256 3×3 pad 1 no bias", "maxpool 2/2", "batchnorm 256", "GELU"),
        *("conv 256→256 3×3 pad 1 no bias", "batchnorm 256", "GELU"),
        "fc 256→10",
    ],
    SixLayerCNN: [
        *("conv 1→8 3×3 no bias", "batchnorm 8", "ReLU", "conv 8→12 3×3 no bias", "batchnorm 12", "ReLU"),
        *("maxpool 2/2", "conv 12→16 3×3 no bias", "batchnorm 16", "ReLU"),
        *("conv 16→16 3×3 no bias", "batchnorm 16", "ReLU") * 3,
        "fc 16→10",
    ],
}

every_network = pytest.mark.parametrize("network_class", [getattr(networks, name) for name in networks.__all__])


def images(batch: int, *shape: int) -> torch.Tensor:
    return torch.rand(batch, *(shape or (1, 28, 28)), generator=torch.Generator().manual_seed(7))


def seeded(network_class: type[nn.Module], seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return network_class(**options).eval()  # in training mode, batch normalisation mixes the images of a batch


# The contract of every network


@every_network
def test_parameter_count(network_class):
    assert sum(p.numel() for p in network_class().parameters()) == PARAMETERS[network_class]


@every_network
def test_layers_run_in_this_order(network_class):
    network = seeded(network_class)
    ran = []
    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda layer, *_: ran.append(describe(layer)))

    network(images(1))

    assert ran == LAYERS[network_class]


def describe(layer: nn.Module) -> str:
    match layer:
        case nn.Conv2d(dilation=(1, 1), groups=1, padding_mode="zeros", stride=(1, 1)):
            size = "×".join(map(str, layer.kernel_size))
            padding = {(0, 0): "", (1, 1): " pad 1"}[layer.padding]
            bias = " no bias" if layer.bias is None else ""
            return f"conv {layer.in_channels}→{layer.out_channels} {size}{padding}{bias}"
        case nn.BatchNorm1d(affine=True) | nn.BatchNorm2d(affine=True):
            return f"batchnorm {layer.num_features}"
        case nn.MaxPool2d(padding=0, dilation=1):
            return f"maxpool {layer.kernel_size}/{layer.stride}"
        case nn.Linear() if layer.bias is not None:
            return f"fc {layer.in_features}→{layer.out_features}"
        case nn.Flatten():
            return "flatten"
        case nn.ReLU() | nn.GELU():
            return type(layer).__name__
    return repr(layer)


@every_network
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_have_one_row_per_image(network_class, batch):
    logits = seeded(network_class)(images(batch))

    assert logits.shape == (batch, 10)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert logits.std(dim=1).min() > 0  # not the same for all classes


@every_network
def test_logits_do_not_depend_on_the_other_images_of_the_batch(network_class):
    network = seeded(network_class)
    batch = images(3)

    torch.testing.assert_close(network(batch)[1:2], network(batch[1:2]))


@every_network
def test_weights_of_a_seed_are_those_they_always_were(network_class):
    weights = seeded(network_class).state_dict().values()

    assert sum(w.double().abs().sum().item() for w in weights) == pytest.approx(WEIGHTS[network_class], rel=1e-9)


@every_network
def test_names_in_the_state_dict(network_class):
    names = [name.removesuffix(".weight") for name in network_class().state_dict() if name.endswith(".weight")]

    assert names == NAMES[network_class].split()


@every_network
@pytest.mark.parametrize(
    ("num_classes", "in_channels", "image_size"),
    [(2, 3, "smallest"), (17, 1, 28), (2, 3, 32), (17, 1, (24, 40)), (2, 3, 64)],
)
def test_any_classes_channels_and_size(network_class, num_classes, in_channels, image_size):
    size = SMALLEST[network_class] if image_size == "smallest" else image_size
    network = seeded(network_class, num_classes=num_classes, in_channels=in_channels, image_size=size)
    batch = images(8, in_channels, *((size, size) if isinstance(size, int) else size))

    logits = network(batch)

    assert logits.shape == (8, num_classes)
    assert logits.std(dim=0).min() > 0  # they depend on the image
    channels_last = network.to(memory_format=torch.channels_last)(batch.to(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last, logits)
    nn.functional.cross_entropy(network.train()(batch), torch.arange(8) % num_classes).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, name


@every_network
@pytest.mark.parametrize("as_pair", [False, True])
def test_a_too_small_image_is_refused(network_class, as_pair):
    smallest = SMALLEST[network_class]
    size = (40, smallest - 1) if as_pair else smallest - 1

    message = f"image_size must be at least {smallest} for {network_class.__name__}, got {size}; "
    with pytest.raises(
        ValueError, match="^" + re.escape(message + "resize the images or choose another network") + "$"
    ):
        network_class(image_size=size)


@every_network
@pytest.mark.parametrize("argument", ["num_classes", "in_channels"])
@pytest.mark.parametrize("value", [0, -1])
def test_no_classes_and_no_channels_are_refused(network_class, argument, value):
    with pytest.raises(ValueError, match=f"^{argument} must be at least 1, got {value}$"):
        network_class(**{argument: value})


def test_size_and_channels_of_the_first_linear_layer():
    assert FastCNN(5, 8, 16, in_channels=3, image_size=(24, 40)).classifier[1].weight.shape == (16, 8 * 3 * 7)
    assert DeepCNN(5, 3, (24, 40)).layers[3].weight.shape == (50, 256 * 3 * 7)
    assert CNN(5, 3, (25, 43)).layers[7].weight.shape == (128, 64 * 6 * 10)
    assert ShallowCNN(5, 3, (25, 43)).layers[4].weight.shape == (128, 16 * 12 * 21)
    assert MLP(5, 3, (25, 43)).layers[1].weight.shape == (512, 3 * 25 * 43)


@every_network
def test_weights_load_into_a_fresh_instance(network_class):
    first, second = seeded(network_class, 0), seeded(network_class, 1)
    assert not torch.equal(first(images(2)), second(images(2)))

    second.load_state_dict(first.state_dict())

    assert torch.equal(first(images(2)), second(images(2)))


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("network_class", [ShallowCNN, SimpleCNN, CNN, DeepCNN])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_pooling_before_the_relu_gives_bit_identical_weights(network_class, bfloat16):
    ours = seeded(network_class).to(memory_format=torch.channels_last)
    published = copy.deepcopy(ours)
    for block in [module for module in published.modules() if isinstance(module, nn.Sequential)]:
        for i, layer in enumerate(list(block)):
            if isinstance(layer, nn.MaxPool2d):
                block[i], block[i + 1] = block[i + 1], block[i]
    assert [describe(layer) for layer in published.modules()] != [describe(layer) for layer in ours.modules()]

    assert torch.equal(trained(ours, bfloat16), trained(published, bfloat16))


def trained(network: nn.Module, bfloat16: bool) -> torch.Tensor:
    """Train for three steps and return all weights."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        batch = torch.rand(4, 1, 28, 28, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = nn.functional.cross_entropy(network(batch), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


# Literal outputs: all weights and biases are 0 except those that are set; images are black except the given pixels.


def zeroed(network: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """Return the network with all weights 0 and batch normalisation as identity, and its other layers with weights."""
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    for layer in network.eval().modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.ones_(layer.weight)
            layer.eps = 1e-12  # the identity before training: 1 + eps is 1
    return network.requires_grad_(False), [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def image(pixels: dict[tuple[int, int], float]) -> torch.Tensor:
    black = torch.zeros(1, 1, 28, 28)
    for (row, column), value in pixels.items():
        black[0, 0, row, column] = value
    return black


def sum_of_first_channel(hidden: nn.Linear, side: int, logits: nn.Linear) -> None:
    """Let the first hidden unit sum the first channel, and logit k be k times that, plus 0.5 for class 3."""
    hidden.weight[0, : side * side] = 1
    logits.weight[:, 0] = torch.arange(10.0)
    logits.bias[3] = 0.5


@pytest.mark.parametrize("network_class", [CNN, SimpleCNN])
def test_literal_output_of_two_padded_blocks(network_class):
    network, (first, second, hidden, logits) = zeroed(network_class())
    first.weight[0, 0, 0, 0] = 1  # reads the pixel to the upper left: the image is shifted down and right by one
    second.weight[0, 0, 1, 1] = 1
    sum_of_first_channel(hidden, 7, logits)

    # After the shift: (1, 1) and (2, 3) are in one 4×4 window, whose maximum is kept; (10, 10) is set to 0 by the ReLU,
    # (20, 5) is alone in its window, and (27, 27) is outside the image.
    output = network(image({(0, 0): 1, (1, 2): 2, (9, 9): -5, (19, 4): 3, (27, 27): 100}))

    expected = [5.0 * k for k in range(10)]
    expected[3] += 0.5
    assert output.tolist() == [expected]


def test_literal_output_of_one_padded_block():
    network, (conv, hidden, logits) = zeroed(ShallowCNN())
    conv.weight[0, 0, 1, 1] = 2
    conv.bias[0] = -1
    sum_of_first_channel(hidden, 14, logits)

    # 2x − 1 is 1 and 5 in one 2×2 window and 3 in the next; black pixels give −1, which the ReLU sets to 0.
    output = network(image({(0, 0): 1, (1, 1): 3, (0, 2): 2, (27, 27): 0.5}))

    expected = [8.0 * k for k in range(10)]
    expected[3] += 0.5
    assert output.tolist() == [expected]


@pytest.mark.parametrize("network_class", [DeepCNN, FastCNN])
def test_literal_output_of_two_unpadded_blocks(network_class):
    network, (*convs, hidden, logits) = zeroed(network_class())
    for conv in convs:
        centre = conv.kernel_size[0] // 2
        conv.weight[0, 0, centre, centre] = 1  # without padding, each crops this many pixels on each side
    sum_of_first_channel(hidden, 4, logits)

    # The first pooling sees rows and columns 2 to 25, the last of those 6 to 21: 4×4 windows of 4×4 pixels.
    inside = {(6, 6): 1, (9, 9): 4, (21, 21): 3}  # the first two are in one window
    outside = {(5, 10): 100, (10, 22): 100, (0, 0): 100}
    output = network(image(inside | outside))

    expected = [7.0 * k for k in range(10)]
    expected[3] += 0.5
    assert output.tolist() == [expected]


def test_literal_output_of_the_mlp():
    network, (first, second, logits) = zeroed(MLP())
    first.weight[0, 0], first.weight[0, 783], first.bias[0] = 1, 2, -1
    first.weight[1, 0] = -1  # set to 0 by the ReLU
    second.weight[0, 0], second.weight[0, 1], second.bias[0] = 3, 100, 0.5
    logits.weight[2, 0], logits.bias[9] = -1, 4

    output = network(image({(0, 0): 2, (27, 27): 5, (14, 14): 100}))

    # hidden: 2 + 2·5 − 1 = 11, then 3·11 + 0.5 = 33.5
    assert output.tolist() == [[0, 0, -33.5, 0, 0, 0, 0, 0, 0, 4]]


# FastCNN


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 76_154),
        ({"channels": 64, "hidden": 64}, 76_154),
        ({"channels": 96, "hidden": 128}, 212_730),
        ({"channels": 1, "hidden": 1}, 617),  # 400 + 32 + 144 + 2 + 17 + 2 + 20
    ],
)
def test_fast_cnn_has_the_given_size(options, parameters):
    network = FastCNN(**options).eval()

    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network(images(2)).shape == (2, 10)


@pytest.mark.parametrize(("channels", "hidden"), [(0, 64), (64, 0), (-1, 64), (64, -3)])
def test_fast_cnn_refuses_a_size_below_1(channels, hidden):
    with pytest.raises(ValueError, match=f"^channels and hidden must be at least 1, got {channels} and {hidden}$"):
        FastCNN(channels=channels, hidden=hidden)


def test_fast_cnn_normalises_by_batch_statistics_in_training():
    network = FastCNN().train()
    torch.manual_seed(0)

    normalised = network.features[:3](images(32) * 100 + 50)

    torch.testing.assert_close(normalised.mean(dim=(0, 2, 3)), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.var(dim=(0, 2, 3), correction=0), torch.ones(16), atol=1e-2, rtol=0)


def test_the_first_layer_of_three_stage_cnn_is_a_cosine_transform_of_patches():
    filters = ThreeStageCNN(in_channels=3).features[0][0].weight.detach().flatten(1)

    assert torch.allclose(filters @ filters.T, torch.eye(27), atol=1e-6)  # orthonormal
    assert torch.allclose(filters[0], torch.full((27,), 27**-0.5))  # the mean of a patch is first


@pytest.mark.parametrize("channels", [(8, 12, 16, 16, 16), (0, 12, 16, 16, 16, 16), ()])
def test_six_layer_cnn_takes_six_positive_numbers(channels):
    message = f"channels must be 6 numbers of at least 1, got {channels}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SixLayerCNN(channels=channels)
