import hashlib
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data.image_folders import CLASSES, write_images
from PIL import Image

from lightning_cnn.data import ImageFolderDataModule
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import UserError


def of(root: str | Path = "photos", **options) -> ImageFolderDataModule:
    return ImageFolderDataModule(root, **{"image_size": 8, **options})


def sizes(datamodule: ImageFolderDataModule) -> tuple[int, ...]:
    return tuple(len(datamodule.parts[part]) for part in ("train", "val", "test"))


def split(datamodule: ImageFolderDataModule) -> dict[str, set[str]]:
    return {part: set(datamodule.files(part)) for part in ("train", "val", "test")}


def told(capsys) -> list[str]:
    lines = [line.removeprefix("lightning-cnn: ") for line in capsys.readouterr().err.splitlines()]
    return [line for line in lines if not line.startswith("decoding ")]


def write_csv(lines: list[str]) -> Path:
    Path("labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path("labels.csv")


# Layouts


def test_class_folders_are_split_in_three(capsys):
    datamodule = of(write_images("photos"), val_size=0.2, test_size=6)

    assert sizes(datamodule) == (19, 5, 6)
    for part, per_class in (("test", [2, 2, 2]), ("val", [2, 2, 1])):
        assert sorted(np.bincount(datamodule.listing.labels[datamodule.parts[part]]).tolist()) == sorted(per_class)
    together = np.concatenate([*datamodule.parts.values()])
    assert sorted(together.tolist()) == list(range(30))
    assert told(capsys) == []
    assert split(of(val_size=0.2, test_size=6)) == split(datamodule)


def test_the_test_images_do_not_depend_on_how_many_are_validated_on():
    write_images("photos")
    assert split(of(val_size=1))["test"] == split(of(val_size=0.5))["test"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("train",), (24, 3, 3)),
        (("train", "test"), (27, 3, 30)),
        (("train", "val"), (27, 30, 3)),
        (("train", "val", "test"), (30, 30, 30)),
    ],
)
def test_parts_that_have_folders_are_those_folders(parts, expected, capsys):
    datamodule = of(write_images("photos", parts))

    assert sizes(datamodule) == expected
    for part, files in split(datamodule).items():
        folder = part if part in parts else "train"
        assert all(file.startswith(f"{folder}/") for file in files)
    assert told(capsys) == []


def test_a_csv_file_has_labels_and_perhaps_parts():
    write_images("photos", classes=["mixed"], n=12)
    files = [f"mixed/{n}.png,{'odd' if n % 2 else 'even'}" for n in range(12)]

    datamodule = of(labels=write_csv(["file,label", *files]), val_size=2, test_size=2)
    assert (sizes(datamodule), datamodule.class_names) == ((8, 2, 2), ("even", "odd"))

    parts = [f"{line},{'train' if n < 8 else 'test'}" for n, line in enumerate(files)]
    datamodule = of(labels=write_csv(["file,label,split", *parts]), val_size=2)
    assert sizes(datamodule) == (6, 2, 4)
    assert split(datamodule)["test"] == {f"mixed/{n}.png" for n in range(8, 12)}


@pytest.mark.parametrize("names", [("猫", "Äpfel", "=SUM(1)"), ("a b", 'c "d", e', "f'g")])
def test_the_record_of_a_split_is_a_csv_file_that_repeats_it(names, tmp_path):
    from lightning_cnn.callbacks.run_record import _write_split

    datamodule = of(write_images("photos", classes=names))
    _write_split(tmp_path / "split.csv", datamodule.split_rows())
    shutil.copy("photos/猫/0.png" if "猫" in names else "photos/a b/0.png", f"photos/{names[1]}/new.png")

    again = of(labels="split.csv")

    assert split(again) == split(datamodule)
    assert again.class_names == datamodule.class_names


def test_any_number_of_classes_from_two():
    assert of(write_images("two", classes=("a", "b"))).num_classes == 2
    assert of(write_images("many", classes=[f"c{n}" for n in range(13)], n=3)).num_classes == 13


# Images


@pytest.mark.parametrize(
    ("colour", "channels", "expected"),
    [(True, "auto", 3), (False, "auto", 1), (True, "grey", 1), (False, "rgb", 3)],
)
def test_channels_are_as_found_or_as_said(colour, channels, expected):
    datamodule = of(write_images("photos", colour=colour), channels=channels)
    datamodule.setup("fit")

    assert datamodule.image_shape == (expected, 8, 8)
    assert (datamodule.in_channels, datamodule.image_size) == (expected, 8)
    assert datamodule.framing == Resize((8, 8), "crop", expected)
    images, _ = next(iter(datamodule.train_dataloader()))
    assert images.shape[1:] == (expected, 8, 8) and images.dtype == torch.uint8


def test_images_may_be_higher_than_wide(caplog):
    datamodule = of(write_images("photos"), image_size=(12, 8), resize="pad")
    with caplog.at_level("INFO"):
        datamodule.setup("fit")
    assert "Images of photos: 24 train, 3 val, 3 test; 3 classes; RGB, 12×8" in caplog.text

    assert (datamodule.image_shape, datamodule.image_size) == ((3, 12, 8), (12, 8))
    assert datamodule.val_set[:1][0].shape == (1, 3, 12, 8)


@pytest.mark.parametrize("stage", [None, "fit", "test"])
def test_batches_have_the_images_of_the_files(stage):
    datamodule = of(write_images("photos"), image_size=(16, 14), eval_batch_size=4, batch_size=8)
    datamodule.setup(stage)
    loaders = {"fit": ["train", "val"], "test": ["test"], None: ["train", "val", "test"]}[stage]

    for part in loaders:
        loader = getattr(datamodule, f"{part}_dataloader")()
        seen = {(image.numpy().tobytes(), int(label)) for batch in loader for image, label in zip(*batch, strict=True)}
        assert seen == {
            (np.moveaxis(np.asarray(_open(file)), -1, 0).tobytes(), CLASSES.index(file.split("/")[0]))
            for file in datamodule.files(part)
        }


def _open(file: str):
    from PIL import Image

    return Image.open(Path("photos", file))


def test_images_without_a_part_take_no_memory():
    datamodule = of(write_images("photos"))
    datamodule.setup()

    pixels = datamodule.decoded.images
    for images in (datamodule.train_set, datamodule.val_set, datamodule.test_set):
        assert images.images.data_ptr() == pixels.ctypes.data


def test_the_processes_together_see_the_batches_of_one_process():
    write_images("photos")

    def batches(rank: int, world: int, part: str) -> list[list[bytes]]:
        datamodule = of(global_batch_size=8, eval_batch_size=2)
        device = SimpleNamespace(root_device=torch.device("cpu"))
        datamodule.trainer = SimpleNamespace(world_size=world, global_rank=rank, strategy=device)
        datamodule.setup()  # each process maps the images itself
        loader = getattr(datamodule, f"{part}_dataloader")()
        return [[image.numpy().tobytes() for image in images] for images, _ in loader]

    train = zip(batches(0, 2, "train"), batches(1, 2, "train"), strict=True)
    assert [sorted(a + b) for a, b in train] == [sorted(batch) for batch in batches(0, 1, "train")]
    test = [batch for turn in zip(batches(0, 2, "test"), batches(1, 2, "test"), strict=True) for batch in turn]
    assert [batch for batch in test if batch] == batches(0, 1, "test")


# Damaged files and duplicates


def test_damaged_files_end_the_run_or_are_left_out(capsys):
    write_images("photos")
    Path("photos/cat/0.png").write_bytes(b"nonsense")
    Path("photos/dog/0.png").write_bytes(b"")

    with pytest.raises(UserError, match=r"^2 of 30 images in photos cannot be used: cat/0\.png \(.*--data\.on_error"):
        of().prepare_data()
    datamodule = of(on_error="skip")

    assert sum(sizes(datamodule)) == 28
    assert not {"cat/0.png", "dog/0.png"} & {row[0] for row in datamodule.split_rows()}
    assert told(capsys)[-1].startswith("left out 2 of 30 images in photos: cat/0.png (")


def test_a_part_whose_files_are_all_damaged_is_not_taken_from_the_training_images():
    write_images("photos", ("train", "test"), n=4)
    for file in Path("photos/test").rglob("*.png"):
        file.write_bytes(b"nonsense")

    datamodule = of(on_error="skip")

    assert sizes(datamodule)[2] == 0
    with pytest.raises(UserError, match=r"^photos has no test images; add some, or set --data\.test_size$"):
        datamodule.setup("test")


def with_copies() -> None:
    """Four copies of an image of `cat`, in a folder that is not divided."""
    write_images("photos")
    for number in range(4):
        shutil.copy("photos/cat/0.png", f"photos/cat/copy{number}.png")


@pytest.mark.parametrize("options", [{"val_size": n} for n in (1, 5, 14)] + [{"folds": 3, "fold": n} for n in (0, 2)])
@pytest.mark.parametrize("duplicates", ["group", "refuse"])
def test_copies_are_in_one_part(options, duplicates, capsys):
    with_copies()

    parts = split(of(duplicates=duplicates, **options)).values()

    copies = {"cat/0.png", *(f"cat/copy{n}.png" for n in range(4))}
    assert sorted(len(copies & files) for files in parts) == [0, 0, 5]
    assert sum(map(len, parts)) == 34
    assert told(capsys) == []


def test_copies_may_be_kept_apart(capsys):
    with_copies()

    datamodule = of(duplicates="keep", val_size=0.4, test_size=0.4)

    assert sizes(datamodule) == (12, 8, 14)
    copies = {"cat/0.png", *(f"cat/copy{n}.png" for n in range(4))}
    assert sum(bool(copies & files) for files in split(datamodule).values()) > 1
    assert told(capsys) == []


def test_the_split_of_other_files_does_not_depend_on_their_content():
    before = split(of(write_images("photos")))
    for number, file in enumerate(sorted(Path("photos").rglob("*.png"))):
        Path(file).write_bytes(file.read_bytes() + bytes([number]))

    assert split(of()) == before


def test_copies_in_given_parts_are_told_or_refused(capsys):
    write_images("photos", ("train", "test"))
    shutil.copy("photos/train/cat/train0.png", "photos/test/cat/copy.png")
    found = "1 file of test is also in train, for example train/cat/train0.png and test/cat/copy.png"

    assert sum(sizes(of())) == 61
    assert told(capsys) == [f"WARNING: {found}"]
    assert sum(sizes(of(duplicates="keep"))) == 61
    assert told(capsys) == []
    with pytest.raises(UserError, match=f"^{found}; remove them, or set --data.duplicates keep$"):
        of(duplicates="refuse").setup("fit")


def test_an_image_in_two_classes_is_told(capsys):
    write_images("photos")
    shutil.copy("photos/cat/3.png", "photos/dog/copy.png")

    assert sum(sizes(of())) == 31
    assert told(capsys) == ["WARNING: 1 file is also in another class, for example cat/3.png and dog/copy.png"]
    of(duplicates="keep").setup("fit")
    assert told(capsys) == []


# Sizes of the parts


def test_without_test_images_only_a_test_is_refused():
    datamodule = of(write_images("photos"), test_size=0)
    datamodule.setup("fit")

    assert sizes(datamodule) == (27, 3, 0)
    with pytest.raises(UserError, match=r"^photos has no test images; add some, or set --data\.test_size$"):
        datamodule.setup("test")


def test_a_class_with_one_image_is_trained_on(capsys):
    write_images("photos")
    write_images("photos", classes=["rare"], n=1)

    assert "rare/0.png" in split(of())["train"]
    assert told(capsys) == []
    of(test_size=0.5, val_size=0.5).setup("fit")
    assert told(capsys) == ["WARNING: no training images are left of 1 class: rare"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_size": 30}, "test_size must be between 1 and 29, got 30"),
        ({"test_size": -1}, "test_size must be between 1 and 29, got -1"),
        (
            {"test_size": 0.01},
            "test_size must be between 1 and 29, got 0.01, which is 0 of 30 images; add images, or give another share",
        ),
        ({"test_size": 29}, "val_size 0.1: 1 image cannot be split; add some"),
        ({"val_size": 27}, "val_size must be between 1 and 26, got 27"),
        ({"val_size": 0}, "val_size must be between 1 and 26, got 0"),
        ({"folds": 28, "fold": 0}, "folds must be between 2 and 27, got 28"),
    ],
)
def test_sizes_that_leave_no_images_are_refused(options, message):
    with pytest.raises(UserError) as caught:
        of(write_images("photos"), **options).setup("fit")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be a side, or a height and a width, from 1 to 4096, got 0"),
        ({"image_size": (8, 0)}, "image_size must be a side, or a height and a width, from 1 to 4096, got (8, 0)"),
        ({"image_size": (8, 8, 8)}, "image_size must be a side, or a height and a width, from 1 to 4096, got (8, 8,"),
        ({"resize": "crp"}, "resize must be crop or pad or stretch, got 'crp'"),
        ({"channels": "gray"}, "channels must be auto or grey or rgb, got 'gray'"),
        ({"on_error": "ignore"}, "on_error must be fail or skip, got 'ignore'"),
        ({"duplicates": "drop"}, "duplicates must be refuse or keep or group, got 'drop'"),
        ({"test_size": 1.5}, "test_size must be a number of images, or a share between 0 and 1, got 1.5"),
        ({"val_size": 1.0}, "val_size must be a number of images, or a share between 0 and 1, got 1.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused_before_any_file_is_read(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        of("nowhere", **options)


# Folds


def test_folds_are_of_all_images_that_are_not_for_the_test():
    write_images("photos", ("train", "val", "test"), n=5)

    parts = [split(of(folds=3, fold=fold)) for fold in range(3)]

    assert [sorted(map(len, part.values())) for part in parts] == [[10, 15, 20]] * 3
    assert all(part["test"] == parts[0]["test"] for part in parts)
    assert sorted(file for part in parts for file in part["val"]) == sorted(parts[0]["train"] | parts[0]["val"])


def test_folds_of_an_undivided_folder_have_the_same_test_images():
    write_images("photos")

    parts = [split(of(folds=3, fold=fold)) for fold in range(3)]

    assert len({frozenset(part["test"]) for part in parts}) == 1
    assert sorted(file for part in parts for file in part["val"]) == sorted(parts[0]["train"] | parts[0]["val"])


# Names and records


@pytest.mark.parametrize(
    ("root", "title", "name"),
    [
        ("photos/", "photos", "photos"),
        ("./Hand signs (2)", "Hand signs (2)", "hand_signs_2"),
        ("a/../фото", "фото", "фото"),
        ("~/my-set", "my-set", "my_set"),
        ("---", "---", "images"),
    ],
)
def test_a_dataset_has_the_name_of_its_folder(root, title, name):
    datamodule = of(root)

    assert (datamodule.title, datamodule.name) == (title, name)


def test_the_current_folder_may_be_the_root(monkeypatch):
    monkeypatch.chdir(write_images("photos"))

    datamodule = of(".")

    assert (datamodule.title, sum(sizes(datamodule))) == ("photos", 30)
    assert datamodule.record["images"] == {"train": 24, "val": 3, "test": 3}


def test_the_home_folder_may_be_in_the_root(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_images("photos")

    datamodule = of("~/photos", labels=None)

    assert sum(sizes(datamodule)) == 30
    assert datamodule.record["origin"] == str(tmp_path / "photos")


def test_split_rows_name_each_file_once():
    datamodule = of(write_images("photos"))

    rows = datamodule.split_rows()

    assert rows == sorted(rows)
    assert [row[0] for row in rows] == sorted(f"{name}/{n}.png" for name in CLASSES for n in range(10))
    assert all(label == file.split("/")[0] for file, label, *_ in rows)
    assert all(
        hashlib.blake2b(Path("photos", row[0]).read_bytes(), digest_size=16).hexdigest() == row[3] for row in rows
    )
    assert {part: {row[0] for row in rows if row[2] == part} for part in ("train", "val", "test")} == split(datamodule)


def test_hyperparameters_are_plain_types(tmp_path):
    datamodule = of(tmp_path / "photos", image_size=(8, 12), labels=tmp_path / "labels.csv")

    assert dict(datamodule.hparams) == {
        **{"root": str(tmp_path / "photos"), "labels": str(tmp_path / "labels.csv"), "image_size": (8, 12)},
        **{"resize": "crop", "channels": "auto", "val_size": 0.1, "test_size": 0.1, "on_error": "fail"},
        **{"duplicates": "group", "batch_size": 64, "eval_batch_size": 1000, "global_batch_size": None},
        **{"folds": None, "fold": None},
    }


# A folder that has changed


def state(options: dict | None = None) -> dict:
    datamodule = of(**(options or {}))
    datamodule.setup("fit")
    return datamodule.state_dict()


def load(saved: dict, stage: str, options: dict | None = None) -> None:
    datamodule = of(**(options or {}))
    datamodule.trainer = SimpleNamespace(
        world_size=1,
        global_rank=0,
        state=SimpleNamespace(fn=stage),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    datamodule.setup(stage)
    datamodule.load_state_dict(saved)


def change(what: str, part: str = "") -> None:
    if what == "added":
        shutil.copy(f"photos/{part}/cat/{part}0.png", f"photos/{part}/dog/new.png")
    elif what == "removed":
        Path(f"photos/{part}/cat/{part}9.png").unlink()
    else:
        shutil.copy(f"photos/{part}/cat/{part}0.png", f"photos/{part}/cat/{part}9.png")


EVALUATED = r"^the files of photos, or how they are split, are not those of the training, .* --data\.labels"


@pytest.mark.parametrize("what", ["added", "removed", "replaced"])
@pytest.mark.parametrize("stage", ["test", "validate"])
def test_no_image_is_evaluated_that_may_have_been_trained_on(what, stage, capsys):
    write_images("photos")
    saved = state()
    load(saved, stage)

    change(what)

    with pytest.raises(UserError, match=EVALUATED):
        load(saved, stage)


def test_another_split_is_not_evaluated():
    write_images("photos")

    with pytest.raises(UserError, match=EVALUATED):
        load(state(), "test", {"test_size": 0.2})


def test_given_parts_can_be_evaluated_whatever_becomes_of_the_training_images():
    write_images("photos", ("train", "test"))
    saved = state()
    change("removed", "train")

    load(saved, "test")
    with pytest.raises(UserError, match=EVALUATED):
        load(saved, "validate")


def test_a_training_is_resumed_only_with_its_images():
    write_images("photos", ("train", "val", "test"))
    saved = state()
    load(saved, "fit")

    change("replaced", "train")

    with pytest.raises(UserError, match=r"^the run was trained on 30 images, and these 30 are others; resume with"):
        load(saved, "fit")


# Formats


def test_images_of_every_format_are_read_and_documents_are_not(capsys):
    pillow_heif = pytest.importorskip("pillow_heif")
    root = write_images("photos", n=1)
    for label in CLASSES:
        with Image.open(root / label / "0.png") as image:
            for suffix, options in (
                (".tif", {}),
                (".tiff", {"compression": "tiff_lzw"}),
                (".avif", {"quality": 100, "subsampling": "4:4:4"}),
            ):
                image.save(root / label / f"a{suffix}", **options)
            pillow_heif.from_pillow(image).save(root / label / "a.heic", quality=-1, chroma=444)
            image.save(root / label / "a.pdf")

    datamodule = of(val_size=3, test_size=3, image_size=[16, 14])

    assert len(datamodule.listing.files) == 15
    assert told(capsys) == ["skipped 3 files not named as an image: cat/a.pdf, cow/a.pdf, dog/a.pdf"]
    datamodule.setup("fit")
    decoded = datamodule.decoded
    assert decoded.valid.all()
    by_class = decoded.images.reshape(3, 5, *decoded.images.shape[1:]).astype(int)
    assert np.abs(by_class - by_class[:, :1]).mean(axis=(2, 3, 4)).max() < 3


def test_several_pages_are_a_fault():
    root = write_images("photos")
    page = Image.new("L", (8, 8))
    page.save(root / "cat/scan.tif", save_all=True, append_images=[page])

    with pytest.raises(UserError) as caught:
        of().setup("fit")

    assert "1 of 31 images in photos cannot be used: cat/scan.tif (has several pages); " in str(caught.value)
