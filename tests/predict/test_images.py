from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_cnn.errors import UserError
from lightning_cnn.predict.images import is_one, named_images, to_bytes

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def images_of(given: object, shape: tuple[int, int, int] = GREY) -> list[np.ndarray]:
    """The images as arrays; errors of files are raised."""

    def fail(name, error):
        raise error

    return [np.asarray(image) for _, image in named_images(given, shape, None, fail)]


def names_of(given: object) -> list[str]:
    return [name for name, _ in named_images(given, GREY, None, lambda *_: None)]


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(60, 40), (60, 40, 1), (1, 60, 40)])
def test_a_grey_array_is_one_image(shape):
    array = pixels(*shape)

    assert is_one(array, GREY)
    (image,) = images_of(array)
    assert np.array_equal(image, array.reshape(60, 40))


def test_a_colour_array_is_one_image_wherever_its_channels_are():
    array = pixels(60, 40, 3)

    for given in (array, array.transpose(2, 0, 1), torch.from_numpy(array).permute(2, 0, 1)):
        assert is_one(given, GREY) and is_one(given, COLOUR)
        assert np.array_equal(images_of(given)[0], array)


def test_transparent_pixels_are_filled():
    array = np.zeros((60, 40, 4), np.uint8)  # transparent, but for a black pixel
    array[5, 5, 3] = 255

    (image,) = images_of(array)

    assert image.shape == (60, 40, 3) and image[0, 0].tolist() == [255, 255, 255] and image[5, 5].tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(5, 60, 40), (5, 60, 40, 1), (5, 1, 60, 40), (5, 60, 40, 3), (5, 3, 60, 40)])
def test_a_batch_is_split(shape):
    array = pixels(*shape)

    images = images_of(array)

    assert not is_one(array, GREY)
    assert len(images) == 5
    last = np.moveaxis(array, 1, -1) if shape[1] in (1, 3) else array
    assert all(np.array_equal(image, of.squeeze()) for image, of in zip(images, last, strict=True))


def test_three_grey_images_of_the_training_size_are_no_colours():
    array = pixels(3, 28, 28)

    assert not is_one(array, GREY) and len(images_of(array)) == 3
    assert is_one(array, COLOUR) and len(images_of(array, COLOUR)) == 1


def test_floats_are_scaled_as_to_tensor_has_divided_them():
    array = pixels(28, 28)

    for kind in (torch.float32, torch.float64):
        assert np.array_equal(images_of(torch.from_numpy(array).to(kind) / 255)[0], array)
    assert np.array_equal(images_of(np.float16([[0, 0.5], [1, 1]]))[0], [[0, 128], [255, 255]])
    assert np.array_equal(images_of(torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True))[0], [[255, 255]] * 2)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), np.int64), r"must be uint8 \(0 to 255\) or floating point \(0 to 1\), got int64"),
        (np.zeros((4, 4), bool), "got bool"),
        (np.full((4, 4), 255.0), "values from 0 to 1, got 255 to 255"),
        (np.full((4, 4), -0.1), "got -0.1 to -0.1"),
        (np.full((4, 4), np.nan), "got nan to nan"),
        (np.zeros((2, 2, 2, 2, 2), np.uint8), r"must have the shape \(H, W\), .*, got \(2, 2, 2, 2, 2\)"),
        (np.zeros(4, np.uint8), r"got \(4,\)"),
        (np.zeros((5, 9, 9, 2), np.uint8), r"got \(5, 9, 9, 2\)"),
    ],
)
def test_other_arrays_are_refused(array, message):
    with pytest.raises(UserError, match=message):
        images_of(array)


def test_uint8_is_returned_as_it_is():
    array = pixels(4, 4)

    assert to_bytes(array) is array


def test_images_of_pillow_are_upright_and_not_changed():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90°
    Image.new("LA", (60, 40), (0, 0)).save("a.png", exif=exif)
    image = Image.open("a.png")

    (found,) = images_of(image)

    assert is_one(image, GREY)
    assert found.shape == (60, 40, 3) and (image.size, image.mode) == ((60, 40), "LA")


def test_names_are_files_or_positions():
    Path("a").mkdir()
    for name in ("a/1.png", "a/2.png", "three.png"):
        Image.new("L", (9, 9)).save(name)

    given = [Path("three.png"), "a", np.zeros((9, 9), np.uint8), Image.open("a/1.png"), Image.new("L", (9, 9))]

    assert names_of(given) == ["three.png", "a/1.png", "a/2.png", "[3]", "a/1.png", "[5]"]
    assert names_of("a/*.png") == ["a/1.png", "a/2.png"]
    assert names_of(np.zeros((2, 9, 9), np.uint8)) == ["[0]", "[1]"]


def test_folders_patterns_and_sequences_are_several():
    Path("a").mkdir()
    Path("[1].png").touch()

    assert [is_one(given, GREY) for given in ("a", "*.png", ["b.png"], iter(["b.png"]))] == [False] * 4
    assert [is_one(given, GREY) for given in ("b.png", Path("b.png"), "[1].png")] == [True] * 3


def test_a_dash_is_a_file_like_any_other():
    Image.new("L", (9, 9)).save("-", "PNG")

    assert names_of("-") == ["-"]


@pytest.mark.parametrize("given", [3, None, [3], [["a.png"]]])
def test_other_objects_are_refused(given):
    with pytest.raises(UserError, match="is not an image; give a file, a folder, a pattern, a NumPy array"):
        images_of(given)


def test_addresses_are_refused():
    with pytest.raises(UserError, match="is an address; download it first"):
        images_of("https://example.org/a.png")


def test_an_image_without_pixels_is_an_error():
    failed = []
    given = [np.zeros((0, 4), np.uint8), Image.new("L", (0, 3))]

    assert [*named_images(given, GREY, None, lambda name, error: failed.append((name, str(error))))] == []
    assert failed == [("[0]", "empty; give an image with pixels"), ("[1]", "empty; give an image with pixels")]
