from pathlib import Path

import pytest

from lightning_cnn.data.tables import read_csv
from lightning_cnn.errors import UserError

ROOT, CSV = Path("data"), Path("labels.csv")


@pytest.fixture(autouse=True)
def _images():
    for name in ("1.png", "sub/2.jpg", "ä, b.png", "4"):
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).touch()
    Path("outside.png").touch()


def refusal(content: str | bytes) -> str:
    CSV.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        read_csv(ROOT, CSV)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_and_labels(capsys):
    CSV.write_text(
        'id,Label,file\n7,cat, sub/2.jpg\n8,dog,"ä, b.png"\n\n9,dog,./1.png\n3,dog,4\n', encoding="utf-8-sig"
    )

    listing = read_csv(ROOT, CSV)

    assert listing.files == ["1.png", "4", "sub/2.jpg", "ä, b.png"]
    assert listing.class_names == ("cat", "dog")
    assert listing.labels.tolist() == [1, 1, 0, 1]
    assert listing.parts == [""] * 4
    assert listing.stats[:, 0].tolist() == [0] * 4
    assert capsys.readouterr().err == ""


def test_splits_and_absolute_paths_in_the_root():
    CSV.write_text(f"file,label,split\n{ROOT.absolute()}/1.png,a,train\n4,b,Train\nsub/2.jpg,a,test\nä,b,val\n")
    (ROOT / "ä").touch()

    listing = read_csv(ROOT, CSV)

    assert listing.files == ["1.png", "4", "sub/2.jpg", "ä"]
    assert listing.parts == ["train", "train", "test", "val"]


def test_repeated_lines_are_told(capsys):
    CSV.write_text("file,label\n1.png,a\n4,b\n./1.png,a\n")

    assert read_csv(ROOT, CSV).files == ["1.png", "4"]
    assert capsys.readouterr().err == "lightning-cnn: labels.csv repeats 1 lines; each file is used once\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "labels.csv has no column file and no column label; its first line must be file,label or"),
        ("file;label\n1.png;a\n", "labels.csv has no column file and no column label; "),
        (
            "file,class\n1.png,a\n",
            "labels.csv has no column label; its first line must be file,label or file,label,split, it",
        ),
        ("file,label,label\n1.png,a,b\n", "labels.csv has two columns label; "),
        ("file,label\n1.png\n", "labels.csv, line 2: 1 values for 2 columns; put values that have commas into double"),
        ("file,label\n1.png,a\n4,\n", "labels.csv, line 3: the label is empty; "),
        ("file,label\n,a\n", "labels.csv, line 2: the file is empty; "),
        (
            "file,label,split\n1.png,a,trian\n",
            "labels.csv, line 2: the split is 'trian'; it must be train, val or test; did you mean 'train'",
        ),
        ("file,label,split\n1.png,a,\n", "labels.csv, line 2: the split is ''; it must be"),
        ("file,label\n1.png,a\n4,b\n1.png,b\n", "labels.csv lists 1 file again with another label or split: 1.png; "),
        (
            "file,label,split\n1.png,a,train\n1.png,a,test\n",
            "labels.csv lists 1 file again with another label or split",
        ),
        (
            "file,label\n1.png,a\n5,b\n6,b\n7,b\n8,b\n",
            "labels.csv lists 4 files that data does not have: 5, 6, 7 and 1 more; ",
        ),
        (
            "file,label\n../x.png,a\n/etc/passwd,b\na/../../x,a\n..,b\n",
            "labels.csv lists 4 files outside of data: ../x.png, /etc/passwd, a/../../x and 1 more; ",
        ),
        ("file,label\n\0,a\n", "labels.csv lists 1 file outside of data: \\x00"),
        ("file,label\n1.png,a\n4,a\n", "labels.csv has one class, a; there must be at least two"),
        ("file,label\n1.png,a\n4,A\n", "labels.csv: the classes 'A' and 'a' differ only in case; "),
        ("file,label\n", "labels.csv has no training images; "),
        ("file,label,split\n1.png,a,test\n4,b,test\n", "labels.csv has no training images; "),
        ("file,label,split\n1.png,a,train\n4,b,test\n", "labels.csv: 1 class in test without training images: b; "),
        (
            "file,label\n1.png,\xe4\n".encode("latin-1"),
            "labels.csv is not UTF-8, after line 1; save it as CSV in UTF-8",
        ),
        ("file,label\n1.png,a\n".encode("utf-16"), "labels.csv is not UTF-8, after line 1; "),
        (
            "file,label\n1.png," + "a" * 200_000,
            "labels.csv, line 2: not valid CSV (a line has more than 131,072 characters",
        ),
    ],
)
def test_what_is_not_clear_is_refused(content, message):
    assert refusal(content).startswith(message)


def test_files_that_cannot_be_read():
    with pytest.raises(UserError, match=r"no\.csv cannot be read \(no such file or directory\); name a CSV file"):
        read_csv(ROOT, Path("no.csv"))
    with pytest.raises(UserError, match=r"--data\.root nowhere does not exist"):
        read_csv(Path("nowhere"), CSV)
