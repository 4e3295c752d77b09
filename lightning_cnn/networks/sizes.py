"""The arguments that all networks share, checked in one place."""

from torch import nn

#: Side in pixels of the images for which a network is built by default: the published ones are for MNIST's.
IMAGE_SIZE = 28


def checked_sides(
    network: nn.Module, num_classes: int, in_channels: int, image_size: int | tuple[int, int], smallest: int
) -> tuple[int, int]:
    """Return the height and the width of the images, from which the size of the first linear layer follows.

    Args:
        network: The network that is being built.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        image_size: Side of square images in pixels, or (height, width).
        smallest: The least height and width at which the network's last feature map has a pixel.

    Raises:
        ValueError: If `num_classes` or `in_channels` is below 1, or a side is below `smallest`.
    """
    for name, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < smallest:
        raise ValueError(
            f"image_size must be at least {smallest} for {type(network).__name__}, got {image_size}; "
            "resize the images or choose another network"
        )
    return height, width
