import re

import pytest
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as reference

from lightning_cnn.config.parser import SettingsParser
from lightning_cnn.data.augment import (
    Augmentation,
    ColorJitter,
    Compose,
    CropAndRotate,
    Cutout,
    HorizontalFlip,
    RandomCrop,
    RandomErasing,
    RandomRotation,
    Transform,
)
from lightning_cnn.errors import UserError


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


def test_a_crop_and_rotation_of_a_wide_image_is_that_of_its_middle():
    """Square pixels stay square: the middle of a wide image turns as a square image does."""
    picture, random = smooth_picture().unsqueeze(0), torch.tensor([[0.9, 0.0]])
    augment = CropAndRotate(crop_size=22, crop_probability=1, max_degrees=45)

    wide = augment(torch.nn.functional.pad(picture, (10, 10)), random)[..., 10:38]

    assert largest_difference(wide, augment(picture, random)) <= 1
    assert largest_difference(wide, picture) > 30


def test_a_crop_and_rotation_is_the_one_it_always_was():
    ramp = (8 * torch.arange(16)).reshape(1, 1, 4, 4).to(torch.uint8)

    moved = CropAndRotate(crop_size=3, crop_probability=1, max_degrees=90)(ramp, torch.tensor([[0.6, 0.5]]))

    assert moved.tolist() == [[[[9, 22, 35, 48], [30, 43, 56, 69], [51, 64, 77, 90], [72, 85, 98, 111]]]]


# RandomCrop


DIGITS = torch.tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("mode", "random", "expected"),
    [
        ("zeros", (0.5, 0.5), [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        ("zeros", (0.0, 0.5), [[0, 0, 0], [1, 2, 3], [4, 5, 6]]),  # down by one
        ("zeros", (0.99, 0.0), [[0, 4, 5], [0, 7, 8], [0, 0, 0]]),  # up and to the right
        ("reflect", (0.0, 0.5), [[4, 5, 6], [1, 2, 3], [4, 5, 6]]),
        ("reflect", (0.99, 0.0), [[5, 4, 5], [8, 7, 8], [5, 4, 5]]),
    ],
)
def test_a_random_crop_shifts_by_whole_pixels(mode, random, expected):
    assert RandomCrop(1, mode)(DIGITS, torch.tensor([random])).tolist() == [[expected]]


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_shifts_of_a_random_crop_agree_with_torchvision(mode):
    images = torch.randint(256, (81, 3, 12, 9), dtype=torch.uint8)
    shifts = [(down, right) for down in range(-4, 5) for right in range(-4, 5)]
    random = torch.tensor([[(4 - down + 0.5) / 9, (4 - right + 0.5) / 9] for down, right in shifts])

    ours = RandomCrop(4, mode)(images, random)

    padded = reference.pad(images, [4], padding_mode={"zeros": "constant"}.get(mode, mode))
    for image, shifted, (down, right) in zip(padded, ours, shifts, strict=True):
        assert torch.equal(reference.crop(image, 4 - down, 4 - right, 12, 9), shifted)


def test_all_shifts_have_the_same_probability():
    random = torch.rand(9_000, 2, generator=torch.Generator().manual_seed(0))
    ramp = torch.arange(9, dtype=torch.uint8).expand(9_000, 1, 9, 9)

    shifts = RandomCrop(4, "zeros")(ramp, random)[:, 0, 4, 4].bincount()

    assert len(shifts) == 9
    assert (shifts - 1_000).abs().max() < 120  # four standard deviations


def test_the_largest_random_number_is_the_largest_shift():
    largest = torch.full((1, 2), 1 - 2**-24)

    assert RandomCrop(1, "zeros")(DIGITS, largest).tolist() == [[[[5, 6, 0], [8, 9, 0], [0, 0, 0]]]]


def test_a_reflection_beyond_the_image_is_refused():
    with pytest.raises(UserError, match=r"^padding must be below the shorter side of the image, 3, got 3$"):
        augmented(RandomCrop(3), DIGITS)
    assert augmented(RandomCrop(2), DIGITS).shape == DIGITS.shape


# HorizontalFlip


def test_a_flip_mirrors_those_images_whose_number_is_below_p():
    flipped = HorizontalFlip(0.5)(DIGITS[:, :, :1].repeat(3, 2, 1, 1), torch.tensor([[0.49], [0.5], [0.0]]))

    assert flipped.tolist() == [[[[3, 2, 1]]] * 2, [[[1, 2, 3]]] * 2, [[[3, 2, 1]]] * 2]


# RandomRotation


def test_a_rotation_by_a_right_angle_moves_every_pixel_to_its_place():
    turned = RandomRotation(90)(DIGITS.repeat(2, 3, 1, 1), torch.tensor([[0.0], [1.0]]))

    assert turned.tolist() == [[[[7, 4, 1], [8, 5, 2], [9, 6, 3]]] * 3, [[[3, 6, 9], [2, 5, 8], [1, 4, 7]]] * 3]


def test_a_random_rotation_is_that_of_crop_and_rotate():
    images, random = random_pictures(8), torch.rand(8, 2)

    assert torch.equal(RandomRotation(15)(images, random[:, :1]), CropAndRotate(22, 0, 15)(images, random))


def test_rotations_of_wide_images_agree_with_torchvision():
    picture = torch.nn.functional.pad(smooth_picture(), (2, 11))

    ours = RandomRotation(30)(picture[None], torch.tensor([[0.9]]))[0]

    assert largest_difference(ours, reference.rotate(picture, 24.0, InterpolationMode.BILINEAR)) <= 1


# Cutout, RandomErasing


@pytest.mark.parametrize(
    ("size", "random", "expected"),
    [
        (1, (0.5, 0.9), [[1, 2, 3], [4, 5, 77], [7, 8, 9]]),
        (2, (0.5, 0.5), [[77, 77, 3], [77, 77, 6], [7, 8, 9]]),
        (3, (0.0, 0.9), [[1, 77, 77], [4, 77, 77], [7, 8, 9]]),  # partly outside
        (9, (0.5, 0.5), [[77, 77, 77]] * 3),
    ],
)
def test_cutout_paints_a_square_around_a_pixel(size, random, expected):
    assert Cutout(size, value=77)(DIGITS.repeat(1, 3, 1, 1), torch.tensor([random])).tolist() == [[expected] * 3]


@pytest.mark.parametrize(
    ("random", "expected"),
    [
        ((0.0, 0, 0, 0.0, 0.0), [[0, 0, 3, 4], [0, 0, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]),
        ((0.0, 0, 0, 0.5, 0.9), [[1, 2, 3, 4], [5, 6, 0, 0], [9, 10, 0, 0], [13, 14, 15, 16]]),
        ((0.5, 0, 0, 0.0, 0.0), [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]),
    ],
)
def test_random_erasing_paints_a_rectangle_inside(random, expected):
    image = torch.arange(1, 17, dtype=torch.uint8).reshape(1, 1, 4, 4)

    erased = RandomErasing(0.5, scale=(0.25, 0.25), ratio=(1, 1))(image, torch.tensor([random]))

    assert erased.tolist() == [[expected]]


@pytest.mark.parametrize(("ratio", "shape"), [((4, 4), (8, 2)), ((0.25, 0.25), (2, 8)), ((100, 100), (16, 1))])
def test_the_ratio_is_height_by_width_and_a_side_ends_at_the_image(ratio, shape):
    images = torch.full((50, 3, 16, 16), 255, dtype=torch.uint8)

    erased = augmented(RandomErasing(1, scale=(1 / 16, 1 / 16), ratio=ratio), images)[:, 0] == 0

    assert (erased.any(dim=2).sum(dim=1) == shape[0]).all()
    assert (erased.any(dim=1).sum(dim=1) == shape[1]).all()
    assert (erased.sum(dim=(1, 2)) == shape[0] * shape[1]).all()


def test_erased_areas_are_in_the_scale():
    torch.manual_seed(0)
    images = torch.full((1_000, 1, 64, 64), 255, dtype=torch.uint8)

    share = (augmented(RandomErasing(p=1, scale=(0.1, 0.3)), images) == 0).float().mean(dim=(1, 2, 3))

    assert 0.09 < share.min() < 0.12
    assert 0.28 < share.max() < 0.31
    assert 0.19 < share.mean() < 0.21


# ColorJitter


@pytest.mark.parametrize(
    ("options", "random", "expected"),
    [
        ({"brightness": 0.5}, (0.0, 0, 0), [[50, 100], [0, 30]]),  # factor 0.5
        ({"brightness": 1}, (0.75, 0, 0), [[150, 255], [0, 90]]),  # 1.5, at most 255
        ({"contrast": 1}, (0, 0.0, 0), [[90, 90], [90, 90]]),  # 0: the mean
        ({"contrast": 1}, (0, 0.75, 0), [[105, 255], [0, 45]]),
        ({"saturation": 1}, (0, 0, 0.0), [[100, 200], [0, 60]]),  # grey stays as it is
        ({}, (0.1, 0.2, 0.3), [[100, 200], [0, 60]]),
    ],
)
def test_colour_jitter_of_a_grey_image(options, random, expected):
    image = torch.tensor([[[[100, 200], [0, 60]]]], dtype=torch.uint8)

    assert ColorJitter(**options)(image, torch.tensor([random])).tolist() == [[expected]]
    if "contrast" not in options or random[1]:  # grey written as colour is the same, up to rounding
        coloured = ColorJitter(**options)(image.repeat(1, 3, 1, 1), torch.tensor([random]))
        assert largest_difference(coloured, torch.tensor([[expected] * 3])) <= 1


def test_without_saturation_the_grey_image_is_left():
    orange, random = torch.tensor([200, 50, 0], dtype=torch.uint8).reshape(1, 3, 1, 1), torch.zeros(1, 3)

    assert ColorJitter(saturation=1)(orange, random).flatten().tolist() == [89] * 3  # 0.299·200 + 0.587·50


def test_colour_jitter_agrees_with_torchvision():
    image = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    ours = ColorJitter(0.4, 0.6, 0.8)(image, torch.tensor([[0.25, 0.8, 0.9]]))

    expected = reference.adjust_brightness(image / 255, 0.8)
    expected = reference.adjust_contrast(expected, 1.36)
    expected = reference.adjust_saturation(expected, 1.64)
    assert largest_difference(ours, expected * 255) <= 1


def test_colour_jitter_refuses_other_channels():
    with pytest.raises(UserError, match=r"^ColorJitter takes images of 1 or 3 channels, got 4$"):
        augmented(ColorJitter(0.1), torch.zeros(2, 4, 8, 8, dtype=torch.uint8))


# Compose


def test_augmentations_are_applied_in_order_each_with_numbers_of_its_own():
    augment = Compose([RandomCrop(1, "zeros"), HorizontalFlip(0.5)])

    assert augment.num_random == 3
    assert augment(DIGITS, torch.tensor([[0.5, 0.0, 0.1]])).tolist() == [[[[2, 1, 0], [5, 4, 0], [8, 7, 0]]]]
    assert augment(DIGITS, torch.tensor([[0.5, 0.0, 0.9]])).tolist() == [[[[0, 1, 2], [0, 4, 5], [0, 7, 8]]]]


def test_nothing_to_compose_is_the_identity():
    assert torch.equal(augmented(Compose([]), DIGITS), DIGITS)


# Transform


def test_a_transform_has_a_seed_of_each_image_and_leaves_the_generator_alone():
    images = random_pictures(1).repeat(6, 3, 1, 1)
    augment = Transform(v2.RandomAffine(degrees=45, translate=(0.2, 0.2)))
    torch.manual_seed(3)
    before = torch.get_rng_state()

    moved = augment(images, torch.tensor([[0.1], [0.2], [0.1], [0.3], [0.4], [0.5]]))

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(moved[0], moved[2])
    assert len({tuple(image.flatten().tolist()) for image in moved}) == 5


def test_any_function_is_a_transform():
    assert Transform(lambda image: image.flip(1))(DIGITS, torch.zeros(1, 1)).tolist() == [
        [[[7, 8, 9], [4, 5, 6], [1, 2, 3]]]
    ]


@pytest.mark.parametrize(
    ("transform", "name", "returned"),
    [
        (v2.Resize((5, 4)), "Resize", "(1, 5, 4) torch.uint8"),
        (v2.ToDtype(torch.float32, scale=True), "ToDtype", "(1, 3, 3) torch.float32"),
        (v2.ToPILImage(), "ToPILImage", "Image"),
    ],
)
def test_a_transform_that_returns_something_else_is_refused(transform, name, returned):
    message = (
        f"an augmentation must keep shape and type of an image, (1, 3, 3) torch.uint8, but {name} returned {returned}; "
        "leave out conversion, normalisation and resizing"
    )
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        augmented(Transform(transform), DIGITS)


@pytest.mark.parametrize(
    "settings",
    [
        {"class_path": "torchvision.transforms.v2.RandomAffine", "init_args": {"degrees": 10}},
        {
            "class_path": "torchvision.transforms.v2.Compose",
            "init_args": {"transforms": [{"class_path": "torchvision.transforms.v2.RandomVerticalFlip"}]},
        },
        "torchvision.transforms.v2.functional.hflip",
    ],
)
def test_a_config_names_a_transform_and_is_written_as_it_is_read(settings):
    parser = SettingsParser()
    parser.add_argument("--augment", type=Augmentation)
    given = {"class_path": "lightning_cnn.data.augment.Transform", "init_args": {"transform": settings}}

    written = parser.dump(parser.parse_object({"augment": given}))

    augment = parser.instantiate(parser.parse_string(written)).augment
    assert type(augment) is Transform
    assert augmented(augment, random_pictures(2)).shape == (2, 1, 28, 28)
    assert "class_path: lightning_cnn.data.augment.Transform\n" in written


# Every augmentation

EVERY = [
    RandomCrop(3),
    RandomCrop(3, "zeros"),
    HorizontalFlip(),
    RandomRotation(20),
    CropAndRotate(9, 0.5, 20),
    Cutout(5),
    RandomErasing(),
    ColorJitter(0.4, 0.4, 0.4),
    Compose([RandomCrop(2), HorizontalFlip(), Cutout(3)]),
    Transform(v2.RandomResizedCrop((12, 17))),
]
every_augmentation = pytest.mark.parametrize("augment", EVERY, ids=lambda augment: type(augment).__name__)


@every_augmentation
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_augmented_alike_in_any_batch(augment, channels):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (64, channels, 12, 17), dtype=torch.uint8, generator=generator)
    random = torch.rand(64, augment.num_random, generator=generator)
    before = images.clone()

    whole = augment(images, random)

    assert (whole.shape, whole.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    assert not torch.equal(whole, images)
    for size in (1, 5, 32):
        parts = [augment(*part) for part in zip(images.split(size), random.split(size), strict=True)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(
    "augment",
    [RandomCrop(0), RandomCrop(0, "zeros"), HorizontalFlip(0), RandomRotation(0), RandomErasing(0), ColorJitter()],
    ids=lambda augment: type(augment).__name__,
)
def test_nothing_to_change_is_the_identity(augment):
    images = torch.randint(256, (16, 3, 12, 17), dtype=torch.uint8)

    assert torch.equal(augmented(augment, images), images)


@pytest.mark.parametrize(
    ("augmentation", "options", "message"),
    [
        (CropAndRotate, {"crop_size": 0}, "crop_size must be at least 1, got 0"),
        (CropAndRotate, {"crop_probability": -0.1}, "crop_probability must be between 0 and 1, got -0.1"),
        (CropAndRotate, {"crop_probability": 1.1}, "crop_probability must be between 0 and 1, got 1.1"),
        (CropAndRotate, {"max_degrees": -1}, "max_degrees must be between 0 and 180, got -1"),
        (CropAndRotate, {"max_degrees": 181}, "max_degrees must be between 0 and 180, got 181"),
        (RandomCrop, {"padding": -1}, "padding must be at least 0, got -1"),
        (RandomCrop, {"padding_mode": "edge"}, "padding_mode must be reflect or zeros, got edge"),
        (HorizontalFlip, {"p": 2}, "p must be between 0 and 1, got 2"),
        (HorizontalFlip, {"p": float("nan")}, "p must be between 0 and 1, got nan"),
        (RandomRotation, {"degrees": 181}, "degrees must be between 0 and 180, got 181"),
        (Cutout, {"size": 0}, "size must be at least 1, got 0"),
        (Cutout, {"size": 8, "value": 256}, "value must be between 0 and 255, got 256"),
        (RandomErasing, {"p": -1}, "p must be between 0 and 1, got -1"),
        (RandomErasing, {"value": -1}, "value must be between 0 and 255, got -1"),
        (
            RandomErasing,
            {"scale": (0.5, 0.4)},
            "scale must be two numbers from 0 to 1 in ascending order, got (0.5, 0.4)",
        ),
        (RandomErasing, {"ratio": (0, 1)}, "ratio must be two numbers greater than 0 in ascending order, got (0, 1)"),
        (ColorJitter, {"brightness": -1}, "brightness must be at least 0, got -1"),
        (ColorJitter, {"contrast": float("inf")}, "contrast must be at least 0, got inf"),
        (ColorJitter, {"saturation": -0.5}, "saturation must be at least 0, got -0.5"),
    ],
)
def test_arguments_out_of_range_are_rejected(augmentation, options, message):
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        augmentation(**options)


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(UserError, match=r"^crop_size must be at most the shorter side of the image, 3, got 22$"):
        augmented(CropAndRotate(), DIGITS)


def test_the_base_class_is_abstract():
    with pytest.raises(NotImplementedError):
        Augmentation()(random_pictures(1), torch.rand(1, 2))
