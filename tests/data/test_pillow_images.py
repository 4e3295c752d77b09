from PIL import Image

from lightning_cnn.data.pillow_images import reduced, thumbnail


def test_thumbnails_are_small_and_in_colour():
    assert thumbnail(Image.new("RGB", (3000, 1500), "red")).shape == (100, 200, 3)
    assert thumbnail(Image.new("RGB", (3000, 1500), "red"))[50, 50].tolist() == [255, 0, 0]
    assert thumbnail(Image.new("L", (20, 30), 7)).tolist() == [[[7, 7, 7]] * 20] * 30


def test_reduced_keeps_small_images_and_shrinks_long_ones():
    image = Image.new("L", (256, 3))

    assert reduced(image, 256) is image
    assert reduced(Image.new("L", (257, 100)), 256).size == (129, 50)
    assert reduced(Image.new("L", (60_000, 3)), 256).size == (256, 1)
