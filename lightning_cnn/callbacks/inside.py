"""A trained network from inside: the filters of its first layer, its feature maps, and what its last layer sees."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def first_filters(network: nn.Module, height: int, width: int) -> Tensor | None:
    """Return the weights of the first layer as pictures, `(K, h, w)`; None if that layer has none that could be seen.

    Args:
        network: Takes images of one channel.
        height: Of the images; a linear layer with a weight for each pixel has filters of that size.
        width: Of the images.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach()[:, 0]
        if isinstance(module, nn.Linear):
            seen = module.in_features == height * width
            return module.weight.detach().view(-1, height, width) if seen else None
    return None


def feature_maps(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return what each convolution makes of the images, `(B, K, h, w)`, by its name and in the order of the layers.

    Args:
        network: Is left as it is.
        images: What it takes, `(B, 1, H, W)`.
    """
    maps: list[Tensor] = []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    _look(network, images, [c.register_forward_hook(lambda _, __, output: maps.append(output)) for c in convolutions])
    return {f"convolution {number}": of_layer for number, of_layer in enumerate(maps, 1)}


def last_features(network: nn.Module, images: Tensor) -> Tensor | None:
    """Return what the last linear layer is given, `(B, F)`; None if there is no such layer.

    Args:
        network: Is left as it is.
        images: What it takes, `(B, 1, H, W)`.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        return None
    seen: list[Tensor] = []
    _look(network, images, [linear[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))])
    return seen[0].flatten(1)


def _look(network: nn.Module, images: Tensor, hooks: list[RemovableHandle]) -> None:
    """Run the network as it will be used, and take the hooks away again."""
    try:
        with at_rest(network), torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Switch dropout and the learning of statistics off for the block."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
