"""How `ImageClassifier` gets its network: a module, or what builds one for the shape of the images."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from lightning_cnn.errors import UserError, reason

if TYPE_CHECKING:
    #: A module; a class or function that returns one; or, as in a config, the `class_path` of one and its `init_args`.
    Network = dict[str, Any] | Callable[..., nn.Module] | nn.Module
else:  # the parser of the command line would build it from any other type, without the shape of the images
    Network = dict[str, Any]

#: Arguments of a builder that would download weights; a checkpoint has its own.
PRETRAINED = ("weights", "weights_backbone", "pretrained")


class GreyToRGB(nn.Module):
    """Repeats the only channel of grey images `(B, 1, H, W)` three times, for networks that take colour images."""

    def forward(self, images: Tensor) -> Tensor:
        """Return images `(B, 3, H, W)`."""
        return images.expand(-1, 3, -1, -1)


def build(network: Network, shape: Mapping[str, Any]) -> nn.Module:
    """Return the network.

    Args:
        network: A module, which is returned as it is, or what builds one.
        shape: `num_classes`, `in_channels` and `image_size`, which the builder gets as far as it has arguments with
            these names. A builder with `**kwargs`, such as those of torchvision, gets `num_classes`. If the network is
            for colour images, and these are grey, their channel is repeated.

    Raises:
        UserError: If the network cannot be built.
    """
    if isinstance(network, nn.Module):
        return network
    builder, given = _builder(network)
    parameters = inspect.signature(builder).parameters
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    accepted = {name: value for name, value in shape.items() if name in parameters or (passes_on and name in _COMMON)}
    try:
        built = builder(**{**accepted, **given})
    except AssertionError as error:
        raise UserError(f"the network {name_of(network)} cannot be built: {_in_one_line(error)}") from error
    if not isinstance(built, nn.Module):
        raise UserError(f"the network {name_of(network)} must return a torch.nn.Module, got {type(built).__name__}")
    first = next((module for module in built.modules() if isinstance(module, nn.Conv2d)), None)
    if shape["in_channels"] == 1 and first is not None and first.in_channels == 3:
        return nn.Sequential(GreyToRGB(), built)
    return built


#: What every function of torchvision.models passes on.
_COMMON = ("num_classes",)


def _builder(network: Mapping[str, Any] | Callable[..., nn.Module]) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """Return the class or function that builds the network, and the arguments that were given for it.

    Its module is not imported: that would run whatever code a config names.
    """
    if not isinstance(network, Mapping):
        return network, {}
    module, _, name = str(network["class_path"]).rpartition(".")
    builder = getattr(sys.modules.get(module), name, None)
    if not callable(builder):
        raise UserError(f"there is no network {network['class_path']}; import its module first")
    return cast(Callable[..., nn.Module], builder), dict(network.get("init_args") or {})


def name_of(network: Network) -> str:
    """Return the name of a network for messages and run folders, for example `resnet18`."""
    if isinstance(network, Mapping):
        return str(network["class_path"]).rpartition(".")[2]
    builder = network.func if isinstance(network, partial) else network
    return getattr(builder, "__name__", type(builder).__name__)


def config_of(network: Network) -> dict[str, Any] | None:
    """Return the builder of a network as a config names it; None if it cannot be named, as a module that is built."""
    if isinstance(network, Mapping):
        return dict(network)
    name = getattr(network, "__qualname__", "<no name>")
    return None if "<" in name else {"class_path": f"{network.__module__}.{name}"}


def require_logits(name: str, forward: Callable[[Tensor], Tensor], images: Tensor, num_classes: int) -> Tensor:
    """Return the logits of a network for images, and refuse a network that has none for them.

    Raises:
        UserError: If the network does not take images of this shape, or does not return `(B, num_classes)`.
    """
    shape = "×".join(map(str, images.shape[1:]))
    try:
        logits = forward(images)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise UserError(
            f"the network {name} does not take images of {shape} (channels×height×width): {_in_one_line(error)}; "
            "choose another network, or other images"
        ) from error
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != (len(images), num_classes):
        raise UserError(
            f"the network {name} must return logits of the shape {(len(images), num_classes)} for {len(images)} images "
            f"of {num_classes} classes, got {found}"
        )
    return logits


def _in_one_line(error: Exception) -> str:
    return " ".join(reason(error).split())[:300]


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
