"""Fashion-MNIST: 70,000 images of clothes, a harder drop-in replacement of MNIST.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
arXiv:1708.07747, 2017.
"""

from lightning_cnn.data.facts import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetFacts, Framing
from lightning_cnn.data.mnist import IMAGE_SIZE

FASHION_MNIST = DatasetFacts(
    name="fashion_mnist",
    title="Fashion-MNIST",
    folder="FashionMNIST",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mean=0.2860,
    std=0.3530,
    sha256={
        TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    mirrors=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    sample_sha256={
        TRAIN_IMAGES: "98052d42e4201ac7ba5b48ea9ca4cc46eba790fe12cecc925d69cf46ee5fd71c",
        TRAIN_LABELS: "e026daf3d28b630d395bff264d45247706f43ecba7d4f48422cba6b6a30e22d3",
        TEST_IMAGES: "0d2bf24781487e94378e62bbb42fb468da524ace873c0c87c6637e008eda40a5",
        TEST_LABELS: "2bed0e3790b2dac87cb49ca6718054c88d630c4060f2671b4e1557c9e0ca6621",
    },
    system_folder="/usr/share/datasets/fashion-mnist",
    debian_package="dataset-fashion-mnist",
    image_size=IMAGE_SIZE,
    framing=Framing(side=max(IMAGE_SIZE), by_mass=False),
)
