import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from lightning_cnn.data.folders import list_images
from lightning_cnn.errors import DataError, UserError

ROOT = Path("data")
NFC, NFD = (unicodedata.normalize(form, "Äpfel") for form in ("NFC", "NFD"))


def touch(*names: str) -> None:
    for name in names:
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")


def refusal(root: Path = ROOT) -> str:
    with pytest.raises(UserError) as caught:
        list_images(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def told(capsys) -> list[str]:
    return [line.removeprefix("lightning-cnn: ") for line in capsys.readouterr().err.splitlines()]


def test_class_folders(capsys):
    touch("dog/b.jpg", "dog/a.PNG", "cat/more/deep/z.webp", "cat/y.jpeg", "README.md", "labels.csv")

    listing = list_images(ROOT)

    assert listing.root == ROOT
    assert listing.class_names == ("cat", "dog")
    assert listing.files == ["cat/more/deep/z.webp", "cat/y.jpeg", "dog/a.PNG", "dog/b.jpg"]
    assert listing.labels.tolist() == [0, 0, 1, 1] and listing.labels.dtype == np.int64
    assert listing.parts == [""] * 4
    status = (ROOT / "cat/y.jpeg").stat()
    assert listing.stats[1].tolist() == [5, status.st_mtime_ns, status.st_ctime_ns]
    assert told(capsys) == []


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_class_folders_in_parts(val, capsys):
    touch("train/a/1.png", "train/b/2.png", f"{val}/a/3.png", f"{val}/b/4.png", "test/a/5.png", "test/b/6.png")

    listing = list_images(ROOT)

    assert dict(zip(listing.files, listing.parts, strict=True)) == {
        **{"train/a/1.png": "train", "train/b/2.png": "train", "test/a/5.png": "test", "test/b/6.png": "test"},
        **{f"{val}/a/3.png": "val", f"{val}/b/4.png": "val"},
    }
    assert listing.class_names == ("a", "b")
    assert [listing.class_names[label] for label in listing.labels] == [file.split("/")[1] for file in listing.files]
    assert told(capsys) == []


def test_train_may_be_alone_and_may_be_a_class():
    touch("train/a/1.png", "train/b/2.png")
    assert set(list_images(ROOT).parts) == {"train"}

    touch("vehicles/train/1.png", "vehicles/bus/2.png")
    assert list_images(ROOT / "vehicles").class_names == ("bus", "train")


def test_a_class_may_be_missing_in_a_part(capsys):
    touch("train/a/1.png", "train/b/2.png", "test/a/more/3.png")
    assert list_images(ROOT).class_names == ("a", "b")
    (ROOT / "test/b").mkdir()
    assert list_images(ROOT).class_names == ("a", "b")
    assert told(capsys) == ["data: no test images of 1 class: b"] * 2


def test_class_names_in_any_script_are_in_normal_form_c(capsys):
    touch(f"train/{NFD}/1.png", "train/猫/2.png", "train/קטן/3.png", f"test/{NFC}/4.png", "test/猫/5.png")

    listing = list_images(ROOT)

    assert listing.class_names == (NFC, "קטן", "猫")
    assert listing.labels.tolist() == [0, 2, 0, 1, 2]  # sorted by file: test, then train


def test_names_that_are_not_utf_8(capsys):
    touch("a/1.png")
    name = os.fsdecode(b"\xff")
    touch(f"{name}/2{name}.png", f"{name}/{name}.txt")

    listing = list_images(ROOT)

    assert listing.class_names == ("a", "\\udcff")
    assert (ROOT / listing.files[1]).is_file()
    assert told(capsys) == ["skipped 1 file not named as an image: \\udcff/\\udcff.txt"]


def test_hidden_files_are_ignored_and_others_are_told(capsys):
    touch("a/1.png", "b/2.png", ".git/x.png", "a/.hidden.png", "b/Thumbs.db", "b/desktop.ini", "__MACOSX/a/1.png")
    touch(".DS_Store", *(f"a/{name}" for name in ("1.txt", "2.pdf", "3.mov", "4.tga", "5")))

    assert list_images(ROOT).files == ["a/1.png", "b/2.png"]
    assert told(capsys) == ["skipped 5 files not named as an image: a/1.txt, a/2.pdf, a/3.mov and 2 more"]


def test_links_are_followed_and_each_folder_is_read_once():
    touch("a/1.png", "b/2.png", "../elsewhere/3.png")
    for name in ("b/far", "b/again", "c"):
        (ROOT / name).symlink_to(Path("elsewhere" if name != "c" else "other").absolute())
    Path("other").mkdir()
    Path("other/4.png").touch()
    (ROOT / "a/linked.png").symlink_to(Path("other/4.png").absolute())
    (ROOT / "a/nowhere.png").symlink_to("nothing")

    listing = list_images(ROOT)

    assert listing.files == ["a/1.png", "a/linked.png", "a/nowhere.png", "b/2.png", "b/again/3.png", "c/4.png"]
    assert listing.stats[2].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("target", ["../..", "..", ".", "/", "round"])
def test_links_that_lead_in_a_circle_are_refused(target):
    touch("a/1.png", "b/2.png")
    (ROOT / "a/round").symlink_to(target)

    assert refusal() == "data/a/round is a link that leads round in a circle; remove it"


def test_a_folder_cannot_be_of_two_classes():
    touch("a/1.png", "b/2.png")
    (ROOT / "c").symlink_to("a")

    assert refusal().startswith("data/c is a link to a folder of data/a: its images would be used twice; ")


def test_a_root_that_cannot_be_read(monkeypatch):
    assert refusal(Path("no")) == "--data.root no does not exist; name a folder of class folders"
    Path("file").touch()
    assert refusal(Path("file")) == "--data.root file is not a folder; name a folder of class folders"
    assert refusal(Path("x" * 300)).startswith("--data.root xxx") and "cannot be read (file name" in refusal(
        Path("x" * 300)
    )


def test_a_folder_without_permission(monkeypatch):
    touch("a/1.png", "b/closed/2.png")
    scandir = os.scandir

    def refuse(path):  # also for root
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    assert refusal().startswith("data/b/closed cannot be read (permission denied); change its permissions or move it")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "data has no class folders; put the images of each class into a folder of its own, data/<class>/"),
        (["1.png"], "data has no class folders; put the images of each class"),
        (["train/1.png", "test/2.png"], "data/train has no class folders; "),
        (["a/1.png"], "data has one class, a; there must be at least two"),
        (
            ["a/b/1.png", "a/c/1.png"],
            "data has one class folder, with 2 folders in it; if these are the classes, use data/a",
        ),
        (["a/1.png", "b/2.png", "3.png", "4.jpg"], "data has 2 images beside its class folders: "),
        (["train/a/1.png", "train/b/2.png", "train/3.png"], "data/train has 1 image beside its class folders: 3.png; "),
        (["a/1.png", "b/2.txt", "c/3.png"], "1 class folder without images in data: b; add images (.png, .jpg,"),
        (["train/a/1.png", "train/b/x.txt", "test/b/2.png"], "1 class folder without images in data: train/b; "),
        (["a/1.png", "A/2.png"], "data: the classes 'A' and 'a' differ only in case; give both one name"),
        (["a\nb/1.png", "a\\nb/2.png"], r"data: the classes 'a\nb' and 'a\\nb' are shown alike; give both one name"),
        (["train/a/1.png", "train/b/2.png", "test/B/3.png"], "data: the classes 'B' and 'b' differ only in case"),
        ([f"{NFC}/1.png", f"{NFD}/2.png"], r"data: the names 'A\u0308pfel' and '\xc4pfel' differ only in how accents"),
        (
            ["train/a/1.png", "train/b/1.png", *(f"test/{name}/2.png" for name in "vwxyz")],
            "data: 5 classes in test without training images: v, w, x and 2 more; add some, or remove these images",
        ),
        (["test/a/1.png", "val/b/2.png"], "data has test, val but no train; training images must be in data/train/"),
        (["train/a/1.png", "train/b/2.png", "extra/c/3.png"], "data has extra beside train; it must have either"),
        (["a/1.png", "b/2.png", "test/a/3.png", "test/b/4.png"], "data has a, b beside test; it must have either"),
        (["train/a/1.png", "train/b/2.png", "val/a/3.png", "valid/b/4.png"], "data has val and valid, both for val; "),
    ],
)
def test_what_is_not_clear_is_refused(files, message):
    ROOT.mkdir()
    touch(*files)

    assert refusal().startswith(message)


def test_a_damaged_dataset_is_not_an_error_of_usage():
    touch("a/1.png")

    with pytest.raises(DataError):
        list_images(ROOT)
