"""Several augmentations one after the other, and transforms that were not written for batches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_cnn.data.augment.base import Augmentation
from lightning_cnn.errors import UserError


class Compose(Augmentation):
    """Apply augmentations one after the other.

    Args:
        augmentations: In the order in which they are applied.

    Example:
        >>> from lightning_cnn.data.augment import HorizontalFlip, RandomCrop
        >>> augment = Compose([RandomCrop(padding=4), HorizontalFlip()])
        >>> augment.num_random
        3
        >>> images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
        >>> augment(images, torch.rand(64, augment.num_random)).shape
        torch.Size([64, 3, 32, 32])
    """

    def __init__(self, augmentations: list[Augmentation]) -> None:
        super().__init__()
        self.augmentations = nn.ModuleList(augmentations)
        self.sizes = [augmentation.num_random for augmentation in augmentations]
        self.num_random = sum(self.sizes)

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`."""
        for augmentation, share in zip(self.augmentations, torch.split(random, self.sizes, dim=1), strict=True):
            images = augmentation(images, share)
        return images


class Transform(Augmentation):
    """Apply a transform of single images, such as those of `torchvision.transforms.v2`, to one image after the other.

    Each image has a seed of its own, made from its random number, so it is transformed in the same way with any number
    of processes and in a resumed run, if the transform draws from torch's default generators only, as all of
    `torchvision.transforms.v2` do (not from Python's or NumPy's). Those generators are put back afterwards.

    One by one is slower than a whole batch at once, often by a factor of 20 or more: where there is an augmentation of
    this module for it, take that.

    Args:
        transform: Takes a uint8 image `(C, H, W)`, and returns one of the same type and shape.

    Example:
        >>> from torchvision.transforms import v2
        >>> augment = Transform(v2.RandomAffine(degrees=10))
        >>> images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
        >>> augment(images, torch.rand(4, augment.num_random)).shape
        torch.Size([4, 3, 32, 32])
    """

    num_random = 1  # the seed

    def __init__(self, transform: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`.

        Raises:
            UserError: If the transform returns something else.
        """
        seeds = (random[:, 0].double() * 2**24).long().tolist()  # a float32 in [0, 1) has 24 bits
        with torch.random.fork_rng([images.device] if images.is_cuda else []):
            return torch.stack([self._transformed(image, seed) for image, seed in zip(images, seeds, strict=True)])

    def _transformed(self, image: Tensor, seed: int) -> Tensor:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed devices that are not put back
        if image.is_cuda:
            with torch.cuda.device(image.device):
                torch.cuda.manual_seed(seed)
        changed = self.transform(image)
        if not isinstance(changed, Tensor) or (changed.shape, changed.dtype) != (image.shape, image.dtype):
            found = f"{tuple(changed.shape)} {changed.dtype}" if isinstance(changed, Tensor) else type(changed).__name__
            raise UserError(
                f"an augmentation must keep shape and type of an image, {tuple(image.shape)} {image.dtype}, but "
                f"{type(self.transform).__name__} returned {found}; leave out conversion, normalisation and resizing"
            )
        return changed
