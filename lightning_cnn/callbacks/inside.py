"""The inside of a trained network: filters of the first layer, feature maps, features before the last layer."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def first_filters(network: nn.Module, height: int, width: int) -> Tensor | None:
    """Return the weights of the first layer as images, `(K, h, w)`; None if it is not a layer over pixels.

    Args:
        network: A network for images with one channel.
        height: Height of the images; a linear layer with a weight for each pixel has filters of that size.
        width: Width of the images.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach()[:, 0]
        if isinstance(module, nn.Linear):
            over_pixels = module.in_features == height * width
            return module.weight.detach().view(-1, height, width) if over_pixels else None
    return None


def feature_maps(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the output of each convolution, `(B, K, h, w)`, by name and in the order in which they run.

    Args:
        network: The network; modes, statistics and hooks are left as they are.
        images: Its input, `(B, 1, H, W)`.
    """
    maps: list[Tensor] = []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(lambda _, __, output: maps.append(output)) for module in convolutions]
    _run(network, images, hooks)
    return {f"convolution {number}": of_layer for number, of_layer in enumerate(maps, 1)}


def last_features(network: nn.Module, images: Tensor) -> Tensor | None:
    """Return the input of the last linear layer, `(B, F)`; None if there is no linear layer.

    Args:
        network: The network; modes, statistics and hooks are left as they are.
        images: Its input, `(B, 1, H, W)`.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        return None
    features: list[Tensor] = []
    _run(network, images, [linear[-1].register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))])
    return features[0].flatten(1)


def _run(network: nn.Module, images: Tensor, hooks: list[RemovableHandle]) -> None:
    """Run the network in eval mode without gradients, and remove the hooks."""
    try:
        with eval_mode(network), torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Set the network to eval mode for the block; afterwards each of its modules has its earlier mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
