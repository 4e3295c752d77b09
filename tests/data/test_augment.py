import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from lightning_cnn.data.augment import Augmentation, CropAndRotate


def smooth_picture() -> torch.Tensor:
    """A lopsided blob, (1, 28, 28), black towards the sides; neighbours differ by less than 40 grey values."""
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")

    def blob(row, column, height, width):
        return torch.exp(-(((rows - row) / height) ** 2) - ((columns - column) / width) ** 2)

    return (180 * blob(9, 15, 3, 7) + 75 * blob(19, 10, 5, 4)).round().to(torch.uint8).unsqueeze(0)


def random_pictures(n: int) -> torch.Tensor:
    return torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def augmented(augment: Augmentation, images: torch.Tensor) -> torch.Tensor:
    return augment(images, torch.rand(len(images), augment.num_random))


def largest_difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first.float() - second.float()).abs().max().item()


def test_without_crop_and_rotation_it_is_the_identity():
    images = random_pictures(5)

    assert torch.equal(augmented(CropAndRotate(crop_probability=0, max_degrees=0), images), images)


def test_a_crop_of_the_whole_is_the_identity():
    images = random_pictures(5)

    assert torch.equal(augmented(CropAndRotate(crop_size=28, crop_probability=1, max_degrees=0), images), images)


def test_a_crop_stretches_a_ramp_by_a_known_amount():
    ramp = (8 * torch.arange(28)).expand(1, 1, 28, 28).to(torch.uint8)  # 0, 8, …, 216 from left to right

    zoomed = augmented(CropAndRotate(crop_size=14, crop_probability=1, max_degrees=0), ramp)

    # Output pixel c lies at 7 + (c + 1/2) / 2 − 1/2 of the input, where the ramp is 54 + 4c.
    assert zoomed[0, 0].tolist() == [[54 + 4 * c for c in range(28)]] * 28


@pytest.mark.parametrize("crop_size", [10, 16, 22, 26])  # torchvision moves the middle of odd crops by half a pixel
def test_a_crop_agrees_with_torchvision(crop_size):
    """Equal up to rounding, but for the outermost pixels: torchvision repeats the edge of the crop beyond it."""
    images = random_pictures(4)

    ours = augmented(CropAndRotate(crop_size, crop_probability=1, max_degrees=0), images)

    cropped = reference.center_crop(images, [crop_size, crop_size])
    theirs = reference.resize(cropped, [28, 28], InterpolationMode.BILINEAR, antialias=False)
    edge = 28 // crop_size + 1
    inner = slice(edge, 28 - edge)
    assert largest_difference(ours[..., inner, inner], theirs[..., inner, inner]) <= 1
    assert largest_difference(ours, images) > 50  # and the images were cropped


def test_a_rotation_agrees_with_torchvision():
    picture, degrees = smooth_picture(), [-15.0, -11.25, -3.75, 0.0, 7.5, 14.0]
    rotations = torch.stack([reference.rotate(picture, angle, InterpolationMode.BILINEAR) for angle in degrees])
    random = torch.tensor([[(angle / 15 + 1) / 2, 0.5] for angle in degrees])

    ours = CropAndRotate(crop_probability=0, max_degrees=15)(picture.repeat(len(degrees), 1, 1, 1), random)

    assert largest_difference(ours, rotations) <= 1  # both round
    assert largest_difference(ours[0], ours[-1]) > 30


def test_crop_and_rotation_combine():
    """A crop of a rotated picture: torchvision does both one after the other, so it blurs a little more."""
    picture, degrees = smooth_picture(), [-15.0, -5.0, 10.0]
    zoomed = reference.resize(reference.center_crop(picture, [22, 22]), [28, 28], InterpolationMode.BILINEAR)
    expected = torch.stack([reference.rotate(zoomed, angle, InterpolationMode.BILINEAR, fill=0) for angle in degrees])
    random = torch.tensor([[(angle / 15 + 1) / 2, 0.0] for angle in degrees])

    ours = CropAndRotate(crop_size=22, crop_probability=1, max_degrees=15)(picture.repeat(3, 1, 1, 1), random)

    assert (ours.float() - expected.float()).abs().mean(dim=(1, 2, 3)).max() < 1.5
    assert largest_difference(ours, picture) > 30


def test_pixels_from_outside_the_image_are_black():
    torch.manual_seed(0)
    white = torch.full((32, 1, 28, 28), 255, dtype=torch.uint8)

    turned = augmented(CropAndRotate(crop_probability=0, max_degrees=45), white)

    assert turned.amin().item() == 0
    assert (turned[:, :, 10:18, 10:18] == 255).all()


def test_crops_have_the_given_probability():
    torch.manual_seed(0)
    images = smooth_picture().repeat(1_000, 1, 1, 1)

    changed = (augmented(CropAndRotate(crop_probability=0.25, max_degrees=0), images) != images).flatten(1).any(dim=1)

    assert 0.2 < changed.float().mean() < 0.3  # three standard deviations are 0.04


def test_a_seed_reproduces_the_augmentation():
    augment, images = CropAndRotate(crop_probability=0.5), random_pictures(8)

    def after(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return augmented(augment, images)

    assert torch.equal(after(0), after(0))
    assert not torch.equal(after(0), after(1))


@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (7, 1, 28, 28), (2, 3, 28, 28)])
def test_type_and_shape_are_kept_and_the_input_is_not_modified(shape):
    images = torch.randint(256, shape, dtype=torch.uint8)
    before = images.clone()

    changed = augmented(CropAndRotate(crop_probability=0.5), images)

    assert (changed.shape, changed.dtype) == (shape, torch.uint8)
    assert torch.equal(images, before)


def test_white_stays_white():
    images = torch.full((64, 1, 28, 28), 255, dtype=torch.uint8)

    assert (augmented(CropAndRotate(crop_size=9, crop_probability=1, max_degrees=180), images) == 255).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": 0}, "crop_size must be between 1 and 28, got 0"),
        ({"crop_size": 29}, "crop_size must be between 1 and 28, got 29"),
        ({"crop_probability": -0.1}, "crop_probability must be between 0 and 1, got -0.1"),
        ({"crop_probability": 1.1}, "crop_probability must be between 0 and 1, got 1.1"),
        ({"max_degrees": -1}, "max_degrees must be between 0 and 180, got -1"),
        ({"max_degrees": 181}, "max_degrees must be between 0 and 180, got 181"),
    ],
)
def test_arguments_out_of_range_are_rejected(options, message):
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.") + "$"):
        CropAndRotate(**options)


def test_the_base_class_is_abstract():
    with pytest.raises(NotImplementedError):
        Augmentation()(random_pictures(1), torch.rand(1, 2))
