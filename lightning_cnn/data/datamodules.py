"""One LightningDataModule per dataset: `ImageDataModule` with the facts of the dataset."""

from lightning_cnn.data.base import ImageDataModule
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST


class MNISTDataModule(ImageDataModule):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits."""

    facts = MNIST


class FashionMNISTDataModule(ImageDataModule):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes."""

    facts = FASHION_MNIST
