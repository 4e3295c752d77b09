"""MNIST: 70,000 handwritten digits.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 86(11), 1998.
"""

from lightning_cnn.data.facts import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetFacts, Framing

#: Height and width of the images in pixels, also of the datasets that are made to replace MNIST.
IMAGE_SIZE = (28, 28)

MNIST = DatasetFacts(
    name="mnist",
    title="MNIST",
    folder="MNIST",
    classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    mean=0.1307,
    std=0.3081,
    sha256={
        TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sample_sha256={
        TRAIN_IMAGES: "e5344d0facf69e33911c7cf820d290acaef96446210a7b871ac57a56f802f42e",
        TRAIN_LABELS: "e026daf3d28b630d395bff264d45247706f43ecba7d4f48422cba6b6a30e22d3",
        TEST_IMAGES: "9000659bdb636957f6894b409fac08e9d56eeaf226b1570d27075ac532c4b0bb",
        TEST_LABELS: "2bed0e3790b2dac87cb49ca6718054c88d630c4060f2671b4e1557c9e0ca6621",
    },
    sample_note="Its test images, like its training images, come from MNIST's training set.",
    image_size=IMAGE_SIZE,
    framing=Framing(side=20, by_mass=True),
)
