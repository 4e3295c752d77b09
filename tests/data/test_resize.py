from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from lightning_cnn.data.resize import Resize

#: Noise, with no symmetry.
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
RGB = Image.fromarray(PIXELS)


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
def test_an_image_that_has_the_size_keeps_its_values(mode):
    pixels = Resize((60, 90), mode)(RGB)

    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert (pixels == PIXELS.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("shape", [(60, 90), (91, 60), (60, 61), (20, 33), (31, 30), (7, 100)])
@pytest.mark.parametrize("side", [30, 17])
def test_crop_is_what_torchvision_does(shape, side):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    expected = v2.Compose([v2.Resize(side), v2.CenterCrop(side)])(image)

    pixels = Resize((side, side), "crop")(image).astype(int)

    assert np.abs(pixels - np.asarray(expected).transpose(2, 0, 1)).max() <= 1  # positions are rounded differently


def test_stretch_is_what_torchvision_does():
    assert (Resize((20, 31), "stretch")(RGB) == np.asarray(v2.Resize((20, 31))(RGB)).transpose(2, 0, 1)).all()


def test_pad_keeps_the_whole_image_centred_on_black():
    (pixels,) = Resize((8, 8), "pad", channels=1)(Image.new("L", (40, 20), 200))

    assert (pixels[2:6] == 200).all()
    assert (pixels[:2] == 0).all() and (pixels[6:] == 0).all()


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (65_535, 2), (1, 1)])
def test_any_shape_is_made_to_fit(mode, size):
    assert Resize((224, 200), mode)(Image.new("RGB", size, "red")).shape == (3, 224, 200)


def test_colour_becomes_grey_and_grey_becomes_colour():
    grey = Image.fromarray(PIXELS[:, :, 0])

    assert (Resize((60, 90), channels=1)(RGB) == np.asarray(RGB.convert("L"))).all()
    assert (Resize((60, 90), channels=3)(grey) == PIXELS[:, :, 0]).all()
    assert (Resize((20, 30), channels=3)(grey) == Resize((20, 30), channels=1)(grey)).all()


def test_values_of_16_bits_are_rounded():
    values = np.array([[0, 0.4], [254.6, 255]], np.float32)

    assert Resize((2, 2), channels=1)(Image.fromarray(values)).tolist() == [[[0, 0], [255, 255]]]


def test_it_can_be_built_again_from_plain_values():
    resize = Resize((20, 30), "pad", 1)

    assert Resize(**{**asdict(resize), "size": [20, 30]}) == resize


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (0, 5)}, "size must be a height and a width from 1 to 4096"),
        ({"size": (5,)}, "size must be a height and a width from 1 to 4096"),
        ({"size": (5, 10**9)}, "size must be a height and a width from 1 to 4096"),
        ({"size": (5, 2.5)}, "size must be a height and a width from 1 to 4096"),
        ({"mode": "fit"}, "mode must be crop, pad or stretch, got 'fit'"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Resize(**{"size": (5, 5), **arguments})
