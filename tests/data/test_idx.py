import re
import struct

import numpy as np
import pytest
from idx import idx_bytes, idx_files

from lightning_cnn.data.facts import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from lightning_cnn.data.idx import IdxError, decode_images, decode_labels, encode


def test_images_are_decoded_in_row_order():
    pixels = np.arange(2 * 28 * 28, dtype=np.uint8)

    images = decode_images(struct.pack(">IIII", 0x803, 2, 28, 28) + pixels.tobytes())

    assert images.shape == (2, 28, 28)
    assert images[0, 0, :3].tolist() == [0, 1, 2]
    assert images[1, 2, 3] == (784 + 2 * 28 + 3) % 256


def test_the_header_says_how_large_images_are():
    pixels = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)

    assert np.array_equal(decode_images(idx_bytes(pixels)), pixels)
    assert np.array_equal(decode_images(idx_bytes(pixels), (3, 5)), pixels)


def test_labels_are_decoded():
    assert decode_labels(struct.pack(">II", 0x801, 3) + bytes([7, 0, 9]), n_classes=10).tolist() == [7, 0, 9]


def test_arrays_are_writable():
    images = decode_images(idx_bytes(np.zeros((1, 28, 28), np.uint8)))

    images[0] = 1  # read-only memory would raise here, and warn in torch

    assert images.sum() == 784


@pytest.mark.parametrize("shape", [(3,), (2, 28, 28)])
def test_encode_writes_the_bytes_of_the_format(shape):
    array = np.random.default_rng(0).integers(0, 10, shape, dtype=np.uint8)

    assert encode(array) == idx_bytes(array)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "truncated inside the header, after 0 bytes"),
        (struct.pack(">III", 0x803, 1, 28), "truncated inside the header, after 12 bytes"),
        (idx_bytes(np.zeros((1, 28, 28), np.uint8), magic=0x801), "magic number must be 0x00000803, got 0x00000801"),
        (idx_bytes(np.zeros((1, 28, 28), np.uint8), magic=0xD03), "magic number must be 0x00000803, got 0x00000d03"),
        (idx_bytes(np.zeros((2, 28, 28), np.uint8))[:-1], "announces 1568 bytes, got 1567"),
        (idx_bytes(np.zeros((2, 28, 28), np.uint8)) + b"x", "announces 1568 bytes, got 1569"),
        (struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "bytes, got 0"),
        (idx_bytes(np.zeros((1, 32, 32), np.uint8)), "images must be 28×28, got 32×32"),
        (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "no items"),
        (idx_bytes(np.zeros((3, 0, 28), np.uint8)), "images must be 28×28, got 0×28"),
    ],
)
def test_invalid_images_are_rejected(content, why):
    with pytest.raises(IdxError, match=re.escape(why)):
        decode_images(content, (28, 28))


def test_images_without_pixels_are_rejected():
    with pytest.raises(IdxError, match="no pixels"):
        decode_images(idx_bytes(np.zeros((3, 0, 28), np.uint8)))


def test_a_label_out_of_range_is_rejected():
    with pytest.raises(IdxError, match="must be below 10, got 10"):
        decode_labels(idx_bytes(np.array([3, 10], np.uint8)), n_classes=10)


def test_decoding_agrees_with_torchvision(tmp_path):
    from torchvision.datasets import MNIST  # the independent reference

    contents = idx_files(n_train=30, n_test=20)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)

    for train, images_file, labels_file in ((True, TRAIN_IMAGES, TRAIN_LABELS), (False, TEST_IMAGES, TEST_LABELS)):
        reference = MNIST(tmp_path, train=train)
        assert np.array_equal(decode_images(contents[images_file]), reference.data.numpy())
        assert np.array_equal(decode_labels(contents[labels_file], n_classes=10), reference.targets.numpy())
