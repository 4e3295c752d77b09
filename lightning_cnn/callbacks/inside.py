"""The inside of a trained network: filters of the first layer, feature maps, features before the last layer."""

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_cnn.classifiers.network import eval_mode


def first_filters(network: nn.Module, channels: int, height: int, width: int) -> Tensor | None:
    """Return the weights of the first layer as images, `(K, h, w)`; None if it is not a layer over pixels.

    Args:
        network: A network; of colour images, the mean over the channels is shown.
        channels: Channels of the images.
        height: Height of the images; a linear layer with a weight for each pixel has filters of that size.
        width: Width of the images.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach().mean(dim=1)
        if isinstance(module, nn.Linear):
            over_pixels = module.in_features == channels * height * width
            return module.weight.detach().view(-1, channels, height, width).mean(dim=1) if over_pixels else None
    return None


def feature_maps(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the output of each convolution, `(B, K, h, w)`, by name and in the order in which they run.

    Args:
        network: The network; modes, statistics and hooks are left as they are.
        images: Its input, `(B, C, H, W)`.
    """
    maps: list[Tensor] = []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(lambda _, __, output: maps.append(output)) for module in convolutions]
    _run(network, images, hooks)
    return {f"convolution {number}": of_layer for number, of_layer in enumerate(maps, 1)}


def last_features(network: nn.Module, images: Tensor) -> Tensor | None:
    """Return the input of the last linear layer, `(B, F)`; None if there is none, or if it is not called.

    Args:
        network: The network; modes, statistics and hooks are left as they are.
        images: Its input, `(B, C, H, W)`.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        return None
    features: list[Tensor] = []
    _run(network, images, [linear[-1].register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))])
    return features[0].flatten(1) if features else None


def _run(network: nn.Module, images: Tensor, hooks: list[RemovableHandle]) -> None:
    """Run the network in eval mode without gradients, and remove the hooks."""
    try:
        with eval_mode(network), torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
