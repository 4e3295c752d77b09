import dataclasses
import hashlib
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from idx import idx_bytes
from lightning.fabric import Fabric
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.tuner import Tuner

from lightning_cnn.data import FashionMNISTDataModule, IDXDataModule, ImageDataModule, MNISTDataModule
from lightning_cnn.data.augment import Augmentation
from lightning_cnn.data.facts import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.splits import stratified_fold, stratified_split
from lightning_cnn.errors import DataError, UserError

both_datasets = pytest.mark.parametrize("module_class", [MNISTDataModule, FashionMNISTDataModule])


def loaded(module_class=MNISTDataModule, stage: str = "fit", **options):
    datamodule = module_class(**{"val_size": 50, **options})
    datamodule.prepare_data()
    datamodule.setup(stage)
    return datamodule


def contents(loader) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images and targets in the order of the loader."""
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([targets for _, targets in batches])


def as_bytes(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


# The split


def test_the_split_does_not_depend_on_the_seed_of_the_run(tiny_data):
    torch.manual_seed(1)
    np.random.seed(1)
    first = loaded()
    torch.manual_seed(2)
    np.random.seed(2)
    second = loaded(batch_size=7)

    assert torch.equal(first.val_set.images, second.val_set.images)
    assert torch.equal(first.train_set.images, second.train_set.images)


@pytest.mark.parametrize("val_size", [-1, 0, 200, 5000])
def test_a_val_size_out_of_range_is_rejected(tiny_data, val_size):
    with pytest.raises(UserError, match=rf"^val_size must be between 1 and 199, got {val_size}$"):
        loaded(val_size=val_size)


@both_datasets
def test_the_real_split_is_a_stratified_5000_of_60000(real_data_dir, module_class):
    datamodule = loaded(module_class, val_size=5_000)
    assert module_class().val_size == 5_000  # the default

    labels = datamodule.raw.train_labels
    train, val = stratified_split(labels, 5_000)

    assert (len(train), len(val), len(np.intersect1d(train, val))) == (55_000, 5_000, 0)
    assert np.abs(np.bincount(labels[val]) - np.bincount(labels) * 5_000 / 60_000).max() < 1
    assert torch.equal(datamodule.val_set.targets, torch.from_numpy(labels[val].astype(np.int64)))
    assert np.array_equal(datamodule.val_set.images[:, 0].numpy(), datamodule.raw.train_images[val])


def test_a_fold_replaces_the_validation_split(tiny_data):
    datamodule = loaded(folds=4, fold=3)
    train, val = stratified_fold(datamodule.raw.train_labels, 4, 3)

    assert (len(train), len(val)) == (150, 50)
    assert np.array_equal(datamodule.train_set.images[:, 0].numpy(), datamodule.raw.train_images[train])
    assert np.array_equal(datamodule.val_set.images[:, 0].numpy(), datamodule.raw.train_images[val])


def test_more_folds_than_images_are_rejected(tiny_data):
    with pytest.raises(UserError, match=r"^folds must be between 2 and 200, got 201$"):
        loaded(folds=201, fold=0)


# Batches


def test_batches_are_uint8_images_and_int64_targets(tiny_data):
    images, targets = next(iter(loaded(batch_size=16).train_dataloader()))

    assert (images.shape, images.dtype) == ((16, 1, 28, 28), torch.uint8)
    assert (targets.shape, targets.dtype) == ((16,), torch.int64)


def test_training_sees_each_image_exactly_once_an_epoch(tiny_data):
    datamodule = loaded(batch_size=64)

    images, targets = contents(datamodule.train_dataloader())

    assert [len(targets) for _, targets in datamodule.train_dataloader()] == [64, 64, 22]
    assert len(set(as_bytes(images))) == 150
    assert sorted(as_bytes(images)) == sorted(as_bytes(datamodule.train_set.images))
    of_image = dict(zip(as_bytes(datamodule.train_set.images), datamodule.train_set.targets.tolist(), strict=True))
    assert [of_image[image] for image in as_bytes(images)] == targets.tolist()


def test_the_training_order_depends_only_on_seed_and_epoch(tiny_data, monkeypatch):
    def epoch(seed: int, number: int) -> list[bytes]:
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        loader = loaded().train_dataloader()
        loader.sampler.set_epoch(number)
        return as_bytes(contents(loader)[0])

    first = epoch(0, 0)

    assert sorted(first) == sorted(epoch(0, 1)) == sorted(epoch(1, 0))
    assert len({tuple(first), tuple(epoch(0, 1)), tuple(epoch(1, 0))}) == 3
    torch.rand(1)
    assert epoch(0, 0) == first


@pytest.mark.parametrize("processes", [2, 5])
def test_the_processes_together_see_the_batches_of_one_process(tiny_data, processes):
    def batches(rank: int, world: int, batch_size: int) -> list[list[bytes]]:
        datamodule = loaded(batch_size=batch_size)
        datamodule.trainer = SimpleNamespace(world_size=world, global_rank=rank)
        return [as_bytes(images) for images, _ in datamodule.train_dataloader()]

    alone = batches(0, 1, 10 * processes)
    together = zip(*(batches(rank, processes, 10) for rank in range(processes)), strict=True)

    assert [sorted(itertools.chain(*parts)) for parts in together] == [sorted(batch) for batch in alone]


@pytest.fixture
def unseeded(monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


def test_without_seed_everything_the_order_depends_on_the_seed_of_torch(tiny_data, unseeded):
    def epoch(seed: int) -> list[bytes]:
        torch.manual_seed(seed)
        return as_bytes(contents(loaded().train_dataloader())[0])

    first = epoch(5)

    assert epoch(5) == first
    assert epoch(6) != first
    loader = loaded().train_dataloader()
    assert as_bytes(contents(loader)[0]) != as_bytes(contents(loader)[0])  # each iteration is an epoch


def test_without_seed_everything_all_processes_have_the_order_of_the_first(tiny_data, unseeded, monkeypatch):
    def broadcast(seeds):
        seeds[0] = 123  # that of rank 0

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)

    loader = loaded().train_dataloader()  # without a Trainer, as in a script with Fabric

    assert (loader.seed, loader.rank, loader.world_size) == (123, 1, 2)


def test_validation_images_are_in_order(tiny_data):
    datamodule = loaded(eval_batch_size=16)
    _, val = stratified_split(datamodule.raw.train_labels, 50)

    images, targets = contents(datamodule.val_dataloader())

    assert np.array_equal(images[:, 0].numpy(), datamodule.raw.train_images[val])
    assert targets.tolist() == datamodule.raw.train_labels[val].tolist()


@both_datasets
def test_test_images_are_the_official_ones_in_order(tiny_data, module_class):
    datamodule = loaded(module_class, stage="test", eval_batch_size=16)

    images, targets = contents(datamodule.test_dataloader())

    assert np.array_equal(images[:, 0].numpy(), datamodule.raw.test_images)
    assert targets.tolist() == datamodule.raw.test_labels.tolist()


def test_the_two_datasets_are_not_mixed_up(tiny_data):
    assert loaded(MNISTDataModule).class_names == tuple("0123456789")
    assert loaded(FashionMNISTDataModule).class_names[9] == "Ankle boot"
    assert not torch.equal(loaded(MNISTDataModule).val_set.images, loaded(FashionMNISTDataModule).val_set.images)


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "global_batch_size"])
@pytest.mark.parametrize("size", [0, -1])
def test_batch_sizes_below_one_are_rejected(name, size):
    with pytest.raises(ValueError, match=rf"^{name} must be at least 1, got {size}$"):
        MNISTDataModule(**{name: size})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1, "fold": 0}, "folds must be at least 2, got 1"),
        ({"folds": 5, "fold": 5}, "fold must be between 0 and 4, got 5"),
        ({"folds": 5, "fold": -1}, "fold must be between 0 and 4, got -1"),
        ({"folds": 5}, "folds and fold must be given together: .*"),
        ({"fold": 0}, "folds and fold must be given together: .*"),
    ],
)
def test_folds_out_of_range_are_rejected(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MNISTDataModule(**options)


def test_the_global_batch_is_divided_among_the_devices(tiny_data):
    datamodule = loaded(batch_size=7, global_batch_size=48)
    whole = contents(datamodule.train_dataloader())[1].tolist()
    assert [len(targets) for _, targets in datamodule.train_dataloader()] == [48, 48, 54]

    shares = []
    for rank in range(3):
        datamodule.trainer = SimpleNamespace(world_size=3, global_rank=rank)
        shares.append([targets.tolist() for _, targets in datamodule.train_dataloader()])

    assert [len(targets) for targets in shares[0]] == [16, 16, 18]
    assert shares[1][0] == whole[:48][1::3]


def test_the_batch_size_is_that_of_a_device(tiny_data):
    datamodule = MNISTDataModule(batch_size=7, global_batch_size=48)
    datamodule.trainer = SimpleNamespace(world_size=3, global_rank=0)

    assert (MNISTDataModule(batch_size=7).batch_size, datamodule.batch_size) == (7, 16)


def test_a_batch_size_that_is_not_used_is_named(tiny_data, caplog):
    with caplog.at_level("INFO"):
        loaded()
        assert "Batch size" not in caplog.text
        datamodule = loaded(batch_size=7, global_batch_size=48)
    assert "Batch size: 48 (--data.global_batch_size 48; --data.batch_size is not used)" in caplog.text

    with pytest.raises(
        UserError, match=r"^batch_size 9 would not be used, because --data\.global_batch_size 48 replaces"
    ):
        datamodule.batch_size = 9  # as BatchSizeFinder does


def test_the_tuner_scales_the_batch_size(tiny_data, trainer):
    datamodule = MNISTDataModule(val_size=50, batch_size=4)

    found = Tuner(trainer()).scale_batch_size(
        BatchRecorder(), datamodule=datamodule, init_val=4, max_trials=3, steps_per_trial=1
    )

    assert found == datamodule.batch_size == datamodule.hparams["batch_size"] == 16
    assert datamodule.train_dataloader().batch_size == 16


def test_an_indivisible_global_batch_size_is_rejected(tiny_data):
    datamodule = loaded(global_batch_size=64)
    datamodule.trainer = SimpleNamespace(world_size=3, global_rank=0)

    with pytest.raises(UserError, match=r"^--data\.global_batch_size must be a multiple of the 3 devices, got 64$"):
        datamodule.setup("fit")


def test_hyperparameters_are_plain_types(tmp_path):
    datamodule = MNISTDataModule(tmp_path, augment=Blackout())

    assert dict(datamodule.hparams) == {
        **{"data_dir": str(tmp_path), "batch_size": 64, "eval_batch_size": datamodule.eval_batch_size},
        **{"val_size": 5_000, "allow_sample": False, "global_batch_size": None, "folds": None, "fold": None},
    }


# Stages


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        (None, ["train_set", "val_set", "test_set"]),
        ("fit", ["train_set", "val_set"]),
        ("validate", ["train_set", "val_set"]),
        ("test", ["test_set"]),
        ("predict", ["test_set"]),
    ],
)
def test_a_stage_has_the_images_it_needs(tiny_data, stage, names):
    datamodule = MNISTDataModule(val_size=50)
    datamodule.setup(stage)

    sizes = {"train_set": 150, "val_set": 50, "test_set": 100}
    found = {name: len(getattr(datamodule, name)) for name in sizes if hasattr(datamodule, name)}
    assert found == {name: sizes[name] for name in names}


def test_without_a_stage_all_images_are_loaded(tiny_data):
    datamodule = MNISTDataModule(val_size=50)
    datamodule.setup()

    assert str(datamodule).splitlines() == [
        "{Train dataloader: size=150}",
        "{Validation dataloader: size=50}",
        "{Test dataloader: size=100}",
        "{Predict dataloader: size=100}",
    ]


# Sources


def test_data_dir_overrides_the_environment(tiny_data, tmp_path):
    with pytest.raises(DataError, match=r"MNIST is not in .*elsewhere"):
        loaded(data_dir=tmp_path / "elsewhere")

    assert loaded(data_dir=str(tiny_data)).data_dir == tiny_data


def sized_dataset(folder, train: tuple[int, int], test: tuple[int, int]):
    """Write a dataset of two classes with images of these sizes, and return its data module."""
    rng = np.random.default_rng(0)
    contents = {
        **{TRAIN_IMAGES: rng.integers(0, 256, (20, *train)), TRAIN_LABELS: np.arange(20) % 2},
        **{TEST_IMAGES: rng.integers(0, 256, (4, *test)), TEST_LABELS: np.arange(4) % 2},
    }
    files = {name: idx_bytes(array.astype(np.uint8)) for name, array in contents.items()}
    (folder / "Sized/raw").mkdir(parents=True)
    for name, content in files.items():
        (folder / "Sized/raw" / name).write_bytes(content)
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

    class Sized(IDXDataModule):
        facts = DatasetFacts("sized", "Sized", "Sized", ("a", "b"), 0.5, 0.3, sha256)

    return Sized(folder, val_size=4)


def test_images_in_mnist_s_format_may_have_any_size_which_their_files_say(tmp_path):
    datamodule = sized_dataset(tmp_path, (9, 7), (9, 7))

    assert (datamodule.image_shape, datamodule.image_size, datamodule.framing) == ((1, 9, 7), (9, 7), None)
    datamodule.setup("fit")
    assert datamodule.train_set.images.shape == (16, 1, 9, 7)


def test_training_and_test_images_of_two_sizes_are_rejected(tmp_path):
    message = r"/train-images-idx3-ubyte and .* have images of 9×7 and of 8×7 pixels; replace them$"
    with pytest.raises(DataError, match=message):
        sized_dataset(tmp_path, (9, 7), (8, 7)).prepare_data()


def test_setup_loads_without_prepare_data(tiny_data):
    datamodule = MNISTDataModule(val_size=50)

    datamodule.setup("fit")  # as in all processes of a node but one

    assert len(datamodule.train_set) == 150


@pytest.mark.parametrize(("module_class", "facts"), [(MNISTDataModule, MNIST), (FashionMNISTDataModule, FASHION_MNIST)])
def test_the_sample_keeps_the_proportion_of_validation_images(module_class, facts, tmp_path, monkeypatch, capsys):
    nowhere = dataclasses.replace(facts, mirrors=(), system_folder=None, debian_package=None)
    monkeypatch.setattr(module_class, "facts", nowhere)

    datamodule = loaded(module_class, data_dir=tmp_path, val_size=6_000, allow_sample=True)

    assert datamodule.raw.is_sample
    assert (len(datamodule.train_set), len(datamodule.val_set)) == (1_800, 200)
    assert "THIS IS A SAMPLE" in capsys.readouterr().err


# Augmentation


class Blackout(Augmentation):
    """Makes every image black, and records the batch sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = []

    num_random = 0

    def forward(self, images, random):
        self.batches.append(len(images))
        return torch.zeros_like(images)


class BatchRecorder(LightningModule):
    """Learns nothing, and records the batches of each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": [], "val": [], "test": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch)
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch)

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_only_training_images_are_augmented(tiny_data, trainer):
    augment, recorder = Blackout(), BatchRecorder()
    datamodule = MNISTDataModule(val_size=50, augment=augment)

    trainer(num_sanity_val_steps=1).fit(recorder, datamodule=datamodule)
    trainer().validate(recorder, datamodule=datamodule, verbose=False)
    trainer().test(recorder, datamodule=datamodule, verbose=False)

    assert augment.batches == [64, 64, 22]
    train, targets = contents(recorder.seen["train"])
    assert train.count_nonzero() == 0
    assert sorted(targets.tolist()) == sorted(datamodule.train_set.targets.tolist())
    val, _ = contents(recorder.seen["val"])
    assert torch.equal(val, datamodule.val_set.images.repeat(3, 1, 1, 1))  # before, during and after training
    test, _ = contents(recorder.seen["test"])
    assert np.array_equal(test[:, 0].numpy(), datamodule.raw.test_images)


def targets_of_epochs(recorder: BatchRecorder, batches: int) -> list[list[list[int]]]:
    """Return the targets of each training batch, by epoch."""
    targets = [batch[1].tolist() for batch in recorder.seen["train"]]
    return [targets[i : i + batches] for i in range(0, len(targets), batches)]


@pytest.mark.filterwarnings("ignore:You requested to overfit")
@pytest.mark.parametrize("in_hooks", [True, False])
def test_overfitting_trains_on_the_same_batches_in_every_epoch(tiny_data, trainer, in_hooks):
    recorder, augment, datamodule = BatchRecorder(), Blackout(), MNISTDataModule(val_size=50, eval_batch_size=20)
    datamodule.augment = augment
    datamodule.setup("fit")
    loaders = (datamodule.train_dataloader(), datamodule.val_dataloader())

    options = (
        {"datamodule": datamodule} if in_hooks else {"train_dataloaders": loaders[0], "val_dataloaders": loaders[1]}
    )
    trainer(overfit_batches=2, max_epochs=2, num_sanity_val_steps=0).fit(recorder, **options)

    first, second = targets_of_epochs(recorder, 2)
    assert first == second == [datamodule.train_set.targets[i : i + 64].tolist() for i in (0, 64)]
    assert augment.batches == [64] * 4
    assert [len(batch[1]) for batch in recorder.seen["val"]] == [20] * 4


@pytest.mark.parametrize("every", [0, 1, 2])
def test_reloaded_batches_are_those_of_the_epoch(tiny_data, trainer, monkeypatch, every):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    recorder, datamodule = BatchRecorder(), MNISTDataModule(val_size=50)

    trainer(reload_dataloaders_every_n_epochs=every, max_epochs=3).fit(recorder, datamodule=datamodule)

    loader = datamodule.train_dataloader()
    expected = [[targets.tolist() for _, targets in loader] for _ in range(3)]
    assert targets_of_epochs(recorder, 3) == expected


class SaveInMidEpoch(Callback):
    """Saves a checkpoint after the second of five batches of the second epoch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (1, 1):
            trainer.save_checkpoint("middle.ckpt")


def test_an_epoch_is_resumed_where_it_was(tiny_data, trainer, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")

    def fit(batch_size: int, **options) -> list[list[int]]:
        recorder = BatchRecorder()
        run = trainer(max_epochs=3, callbacks=[SaveInMidEpoch()])
        run.fit(recorder, datamodule=MNISTDataModule(val_size=50, batch_size=batch_size), **options)
        return [batch[1].tolist() for batch in recorder.seen["train"]]

    whole = fit(30)
    resume = {"ckpt_path": "middle.ckpt", "weights_only": True}

    assert len(whole) == 15
    assert fit(30, **resume) == whole[7:]
    with pytest.raises(
        UserError, match=r"^the epoch was begun with 30 images per step .* --data\.global_batch_size 30$"
    ):
        fit(50, **resume)


def test_fabric_takes_the_loaders(tiny_data, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    datamodule = MNISTDataModule(val_size=50, eval_batch_size=20)
    datamodule.setup()
    train, val = Fabric(accelerator="cpu", devices=1).setup_dataloaders(
        datamodule.train_dataloader(), datamodule.val_dataloader()
    )

    fresh = datamodule.train_dataloader()
    assert [[y.tolist() for _, y in train] for _ in range(2)] == [[y.tolist() for _, y in fresh] for _ in range(2)]
    assert torch.equal(contents(val)[0], datamodule.val_set.images)


@pytest.mark.filterwarnings("ignore", "error:.*does not have many workers")
def test_workers_are_not_recommended(tiny_data, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.trainer.connectors.data_connector.suggested_max_num_workers", lambda _: 8)
    silence = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}

    Trainer(fast_dev_run=True, accelerator="cpu", **silence).fit(
        BatchRecorder(), datamodule=MNISTDataModule(val_size=50)
    )


def test_the_model_summary_has_an_example_without_augmentation(tiny_data, trainer):
    recorder, augment = BatchRecorder(), Blackout()
    recorder.example_input_array = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    recorder.forward = lambda images: images

    trainer(enable_model_summary=True).fit(recorder, datamodule=MNISTDataModule(val_size=50, augment=augment))

    assert augment.batches == [64, 64, 22]


class ReadDataModule(ImageDataModule):
    """A dataset of a user's, which returns what it is given."""

    name, title, class_names, image_shape = "read", "Read", ("a", "b"), [1, 4, 5]

    def __init__(self, images, labels):
        super().__init__()
        self.given = images, labels

    def read(self, is_test):
        return self.given


READ, READ_LABELS = np.zeros((20, 1, 4, 5), np.uint8), np.arange(20) % 2


def test_what_a_data_module_reads_is_split():
    datamodule = ReadDataModule(READ, READ_LABELS)
    datamodule.setup()

    assert [len(part) for part in (datamodule.train_set, datamodule.val_set, datamodule.test_set)] == [18, 2, 20]


@pytest.mark.parametrize("is_test", [False, True])
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (READ / 255, READ_LABELS, r"images must be uint8 from 0 to 255, got float64; scale and convert them"),
        (READ[..., :3], READ_LABELS, r"images must have the image_shape \(1, 4, 5\), got \(1, 4, 3\)"),
        (READ, READ_LABELS[:15], r"the labels of images must be 20 integers of at least 0, got int64 \(15,\)"),
        (READ, READ_LABELS + 0.5, r"the labels of images must be 20 integers of at least 0, got float64 \(20,\)"),
        (READ, READ_LABELS - 1, r"the labels of images must be 20 integers of at least 0, got int64 \(20,\)"),
        (READ, READ_LABELS + 1, r"labels must be below the number of class_names, 2, got 2"),
    ],
)
def test_what_is_not_images_and_labels_is_refused(images, labels, message, is_test):
    with pytest.raises(UserError, match=rf"^ReadDataModule\.read: {message}$"):
        ReadDataModule(images, labels).setup("test" if is_test else "fit")
