"""How `ImageClassifier` gets its network: a module, or what builds one for the shape of the images."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_parameter_registration_hook

from lightning_cnn.errors import UserError, reason
from lightning_cnn.text import in_one_line

if TYPE_CHECKING:
    #: A module; or a class or function that returns one, as a `functools.partial` with arguments.
    Network = Callable[..., nn.Module] | nn.Module
else:  # the parser of the command line would build it from any other type, without the shape of the images
    Network = dict[str, Any]

#: The most values that a layer may return for one image: 512 MB in float32.
_MOST_VALUES = 2**27
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
    if not callable(network):  # a mapping in a checkpoint that was made by others could name any function
        raise UserError(
            f"network must be a torch.nn.Module, or a class or function that returns one, got {in_one_line(network)}"
        )
    parameters = inspect.signature(network).parameters
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    given = network.keywords if isinstance(network, partial) else {}
    accepted = {
        name: value
        for name, value in shape.items()
        if name not in given and (name in parameters or (passes_on and name in _COMMON))
    }
    try:
        built = network(**accepted)
    except (UserError, ValueError, TypeError, RuntimeError):
        raise
    except Exception as error:  # whatever code of the user's own raises
        raise UserError(
            f"the network {name_of(network)} cannot be built: {type(error).__name__}: {in_one_line(reason(error))}"
        ) from error
    if not isinstance(built, nn.Module):
        raise UserError(f"the network {name_of(network)} must return a torch.nn.Module, got {type(built).__name__}")
    first = next((module for module in built.modules() if isinstance(module, nn.Conv2d)), None)
    if shape["in_channels"] == 1 and first is not None and first.in_channels == 3:
        return nn.Sequential(GreyToRGB(), built)
    return built


def in_channels_last(network: nn.Module, image_shape: tuple[int, int, int]) -> nn.Module:
    """Return the network in the memory format `channels_last`, or unchanged if its `forward` has views of others.

    It changes the strides of the weights only, and so those of the feature maps, which `view` may refuse to flatten. On
    a CPU, convolutions are 1.0 to 1.4 times as fast.
    """
    network.to(memory_format=torch.channels_last)
    is_ours = type(network).__module__.startswith("lightning_cnn.networks")
    if is_ours or {parameter.device.type for parameter in network.parameters()} != {"cpu"}:
        return network
    try:
        with torch.no_grad(), torch.random.fork_rng([]), eval_mode(network):
            network(torch.zeros(1, *image_shape))
    except Exception as error:  # noqa: BLE001  # whatever code of the user's own raises; later, it is refused
        if "view size is not compatible" in str(error):  # torch's words
            network.to(memory_format=torch.contiguous_format)
    return network


#: What a builder with `**kwargs` gets of the shape: all of torchvision.models pass it on.
_COMMON = ("num_classes",)


def name_of(network: Network) -> str:
    """Return the name of a network for messages and run folders, for example `resnet18`."""
    builder = network.func if isinstance(network, partial) else network
    return getattr(builder, "__name__", type(builder).__name__)


def config_of(network: Network) -> dict[str, Any] | None:
    """Return the builder of a network as a config names it; None if it cannot be named, as a module that is built."""
    builder, given = (network.func, network.keywords) if isinstance(network, partial) else (network, {})
    name = getattr(builder, "__qualname__", "<no name>")
    if "<" in name or (isinstance(network, partial) and network.args) or not _is_plain(given):
        return None
    return {"class_path": f"{builder.__module__}.{name}", **({"init_args": given} if given else {})}


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | None)


def require_logits(name: str, network: nn.Module, inputs: Tensor, num_classes: int) -> Tensor:
    """Return the logits of a network in eval mode, and refuse a network that has none, or none in its present mode.

    Nothing of the network is changed, nor the states of random number generators.

    Raises:
        UserError: If the network does not take images of this shape, or does not return `(B, num_classes)`.
    """
    if not _takes_one_argument(network.forward):
        raise UserError(
            f"the forward of the network {name} must take one argument, the images, got "
            f"forward{inspect.signature(network.forward)}"
        )
    devices = [inputs.device] if inputs.is_cuda else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            # With copies of the buffers: batch normalisation would change them.
            in_training = functional_call(network, {k: b.clone() for k, b in network.named_buffers()}, (inputs,))
            with eval_mode(network):
                logits = network(inputs)
    except Exception as error:  # whatever code of the user's own raises
        raise _not_taken(name, inputs.shape, error) from error
    for returned in (logits, in_training):
        found = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned).__name__
        if found != (len(inputs), num_classes):
            way_out = "" if isinstance(returned, Tensor) else " (torchvision's do with aux_logits false)"
            raise UserError(
                f"the network {name} must return logits of the shape {(len(inputs), num_classes)} for {len(inputs)} "
                f"images of {num_classes} classes, and nothing else{way_out}, got {found}"
                + (" in training" if returned is in_training else "")
            )
    assert isinstance(logits, Tensor)
    return logits


def require_several_images(name: str, error: ValueError) -> None:
    """Refuse a training batch of one image if a network has raised an error because of it.

    Raises:
        UserError: If the error is that of batch normalisation, which has no statistics of one value.
    """
    if "more than 1 value per channel" in str(error):  # torch's words
        raise UserError(
            f"{name}: batch normalisation cannot train on a batch of one image; give a batch_size of at least 2, "
            "and another one if a single image is left for the last batch of an epoch"
        ) from error


@contextmanager
def planned(weights: int) -> Iterator[None]:
    """Build modules on the meta device in the block, without memory, but no more of them than there can be weights for.

    Args:
        weights: The number of weights that there are.

    Raises:
        UserError: If it is exceeded by far.
    """
    most = left = 10 * weights + 1000

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise UserError(
                f"it would have more than {most:,} weights, and there are {weights:,}; use another checkpoint"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            yield
    finally:
        hook.remove()


def require_moderate(name: str, network: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Refuse a network that has no logits, or that needs more memory for one image than any machine should have.

    Args:
        name: Its name, for messages.
        network: The network on the meta device, on which nothing is allocated or computed; it is of no use afterwards.
        image_shape: Channels, height and width of the images.
        num_classes: Number of classes.

    Raises:
        UserError: If it is one.
    """

    def require_few_values(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.numel() > _MOST_VALUES:
            raise UserError(f"the layer {type(module).__name__} would return {output.numel():,} values for one image")

    for module in network.modules():
        module.register_forward_hook(require_few_values)
    images = torch.zeros(1, *image_shape, device="meta")
    try:
        with torch.no_grad():
            logits = network.eval()(images)
    except Exception as error:  # torch raises errors of many types
        raise _not_taken(name, images.shape, error) from error
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"the network {name} must return logits of the shape {(1, num_classes)} for an image, got {found}"
        )


def _not_taken(name: str, shape: Sequence[int], error: Exception) -> UserError:
    return UserError(
        f"the network {name} does not take images of {'×'.join(map(str, shape[1:]))} (channels×height×width): "
        f"{in_one_line(reason(error))}; choose another network, or other images"
    )


def _takes_one_argument(forward: Callable[..., Any]) -> bool:
    try:
        inspect.signature(forward).bind(None)
    except TypeError:
        return False
    return True


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
