import pytest
import torch

from lightning_cnn.classifiers.views import mean_logits


@pytest.fixture
def images():
    """Images without a black pixel, to tell apart what was shifted in."""
    return torch.randint(1, 256, (2, 3, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def shifted(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Images shifted pixel by pixel; black is shifted in."""
    result = torch.zeros_like(images)
    height, width = images.shape[-2:]
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                result[..., y, x] = images[..., y - down, x - right]
    return result


def pixels(images: torch.Tensor) -> torch.Tensor:
    """As many logits as there are pixels: where each pixel was counted is seen in them."""
    return images.flatten(1).double()


def test_without_flip_and_shift_the_logits_are_those_of_the_images(images):
    assert torch.equal(mean_logits(pixels, images, flip=False, shift=0), pixels(images))


def test_the_mirror_image_counts_one_half(images):
    expected = (pixels(images) + pixels(images.flip(3))) / 2

    assert torch.equal(mean_logits(pixels, images, flip=True, shift=0), expected)


@pytest.mark.parametrize("shift", [1, 5])
@pytest.mark.parametrize("flip", [False, True])
def test_the_diagonal_shifts_count_one_half_together(images, shift, flip):
    diagonal = [shifted(images, down, right) for down in (-shift, shift) for right in (-shift, shift)]
    views = [images] * 4 + diagonal
    views += [view.flip(3) for view in views] if flip else []

    found = mean_logits(pixels, images, flip=flip, shift=shift)

    torch.testing.assert_close(found, sum(map(pixels, views)) / len(views))
