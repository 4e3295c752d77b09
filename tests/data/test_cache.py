import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_cnn.data import cache, decoding, store
from lightning_cnn.data.cache import decoded
from lightning_cnn.data.folders import list_images
from lightning_cnn.data.image_files import read
from lightning_cnn.data.listing import Listing
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import DataError, UserError

ROOT = Path("data")
SIZE = (6, 8)
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def save(name: str, mode: str = "RGB", size: tuple[int, int] = (10, 9), **options: object) -> None:
    (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).convert(mode).save(ROOT / name, **options)


def listing(mode: str = "RGB", count: int = 3) -> Listing:
    """Write some images of two classes, and list them."""
    for i in range(count):
        save(f"a/{i}.png", mode)
        save(f"b/{i}.png", mode)
    return list_images(ROOT)


def told(capsys) -> list[str]:
    return [line.removeprefix("lightning-cnn: ") for line in capsys.readouterr().err.splitlines()]


def content(folder: Path) -> list[str]:
    """Return what is in the cache, besides the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock") if folder.exists() else []


@pytest.fixture
def decodes(monkeypatch) -> list[int]:
    """The numbers of the shares that are decoded."""
    numbers = []
    decode = decoding.Decoder.__getitem__

    def note(self, number):
        numbers.append(number)
        return decode(self, number)

    monkeypatch.setattr(decoding.Decoder, "__getitem__", note)
    return numbers


def test_all_images_are_decoded_once_and_then_mapped(folder, decodes, capsys):
    images = listing()
    save("a/0.png", size=(30, 50))
    shutil.copy(ROOT / "a/1.png", ROOT / "b/1.png")
    images = list_images(ROOT)

    first, second = decoded(images, SIZE), decoded(images, SIZE)

    assert decodes == [0]
    for result in (first, second):
        assert result.images.shape == (6, 3, *SIZE) and result.images.dtype == np.uint8
        for file, pixels in zip(images.files, result.images, strict=True):
            assert (pixels == Resize(SIZE)(read(ROOT / file))).all()
        assert result.valid.all() and result.is_colour.all()
        assert result.sizes.tolist() == [[30, 50]] + [[10, 9]] * 5
        assert result.resize == Resize(SIZE)
        assert (result.digests[1:2] == result.digests).tolist() == [False, True, False, False, True, False]
    second.images[:] = 7  # private, and a tensor can share it
    assert (torch.from_numpy(second.images) == 7).all()
    assert (decoded(images, SIZE).images == first.images).all()
    (line,) = told(capsys)
    assert line.startswith("decoding 6 images: ") and line.endswith(" images/s")
    (entry,) = content(folder)
    assert (np.load(folder / entry / "images.npy") == first.images).all()


def test_a_terminal_has_a_progress_bar(capsys, monkeypatch):
    images = listing()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    decoded(images, SIZE)

    err = capsys.readouterr().err
    assert "decoding: 100%" in err and " 6/6 " in err and " images/s]" in err and "lightning-cnn: " not in err


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGB"])
def test_images_without_colour_get_one_channel(mode):
    for name in ("a/1.png", "b/2.png"):
        save(name, "L")
        Image.open(ROOT / name).convert(mode).save(ROOT / name)

    result = decoded(list_images(ROOT), SIZE)

    assert result.images.shape == (2, 1, *SIZE)
    assert (result.images == decoded(list_images(ROOT), SIZE, channels=1).images).all()
    assert (result.images == decoded(list_images(ROOT), SIZE, channels=3).images).all()
    assert result.resize == Resize(SIZE, channels=1)
    assert not result.is_colour.any()


def test_one_image_with_colour_gives_all_three_channels():
    listing("L")
    save("b/9.png")

    result = decoded(list_images(ROOT), SIZE)

    assert result.images.shape == (7, 3, *SIZE)
    assert result.is_colour.tolist() == [False] * 6 + [True]


def change_content(path: Path) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as archives do


@pytest.mark.parametrize(
    "change",
    [change_content, Path.unlink, Path.touch, lambda path: path.rename(path.with_name("9.png"))],
    ids=["content", "removed", "touched", "renamed"],
)
def test_changed_files_are_decoded_again(change, decodes, folder):
    decoded(listing(), SIZE)
    time.sleep(0.02)  # some systems count time in steps
    change(ROOT / "a/1.png")

    decoded(list_images(ROOT), SIZE, on_error="skip")

    assert len(decodes) == len(content(folder)) == 2


@pytest.mark.parametrize("settings", [{"size": (6, 9)}, {"mode": "pad"}, {"channels": 1}, {"channels": 3}])
def test_other_settings_are_other_entries(settings, decodes, folder):
    images = listing()
    decoded(images, SIZE)

    decoded(images, **{"size": SIZE, **settings})

    assert len(decodes) == len(content(folder)) == 2


def damage(name: str, at: int, new: bytes) -> None:
    with next(store.folder().glob(f"*/{name}")).open("r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(new)


DAMAGES = {
    "pixel": (lambda: damage("images.npy", -100, b"\0\1\2\3"), "its pixels have changed"),
    "last pixel": (lambda: damage("images.npy", -1, b"\0"), "its pixels have changed"),
    "too long": (lambda: next(store.folder().glob("*/images.npy")).open("ab").write(b"1"), "its size is wrong"),
    "too short": (lambda: os.truncate(next(store.folder().glob("*/images.npy")), 200), "its size is wrong"),
    "no pixels": (lambda: next(store.folder().glob("*/images.npy")).unlink(), "a file is missing"),
    "no index": (lambda: next(store.folder().glob("*/index.npz")).unlink(), "a file is missing"),
    "index": (lambda: damage("index.npz", 200, b"\7\7\7\7"), ""),
    "end of index": (lambda: damage("index.npz", -10, b"\7" * 10), ""),
    "empty index": (lambda: os.truncate(next(store.folder().glob("*/index.npz")), 0), ""),
    "other index": (lambda: np.savez(next(store.folder().glob("*/index.npz")), shape=np.ones(4)), ""),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGES.values(), ids=DAMAGES)
@pytest.mark.filterwarnings("ignore:unclosed file")
def test_a_damaged_entry_is_decoded_again(damage, why, capsys, folder, decodes):
    images = listing()
    before = decoded(images, SIZE).images.copy()
    capsys.readouterr()
    damage()

    assert (decoded(images, SIZE).images == before).all()
    first, second = told(capsys)
    assert first.startswith(f"decoding again: {folder / content(folder)[0]} cannot be used ({why}")
    assert second.startswith("decoding 6 images: ")
    decoded(images, SIZE)
    assert decodes == [0, 0]


def test_of_a_large_entry_a_part_is_checked(monkeypatch):
    monkeypatch.setattr(decoding, "_MAX_IMAGES", 1)
    monkeypatch.setattr(cache, "_CHECKED", 2 * 3 * 6 * 8)
    images = listing()
    decoded(images, SIZE)
    checked = []
    monkeypatch.setattr(cache.zlib, "crc32", lambda pixels: checked.append(pixels) or 0)

    with pytest.raises(cache._DamagedError):
        cache._open(next(store.folder().glob("[!.]*")), images, Resize(SIZE))

    assert len(checked) == 2


def test_files_that_cannot_be_decoded(capsys, decodes):
    listing()
    for name in ("a/1.png", "b/0.png", "b/1.png", "b/2.png"):
        (ROOT / name).write_bytes(b"no image" if name < "b/1" else b"")
    save("b/3.png")
    images = list_images(ROOT)
    named = "a/1.png (not an image), b/0.png (not an image), b/1.png (empty) and 1 more"

    for _ in range(2):
        with pytest.raises(UserError) as caught:
            decoded(images, SIZE)
        assert str(caught.value) == (
            f"4 of 7 images in data cannot be used: {named}; repair or remove them, or leave them out with "
            "--data.on_error skip"
        )
    capsys.readouterr()

    for _ in range(2):
        result = decoded(images, SIZE, on_error="skip")
        assert told(capsys) == [f"left out 4 of 7 images in data: {named}"]
        assert result.valid.tolist() == [True, False, True, False, False, False, True]
        assert not result.images[~result.valid].any() and result.images[result.valid].any((1, 2, 3)).all()
        assert set(result.digests[~result.valid]) == {b""}
    assert decodes == [0]


def test_a_class_without_any_valid_training_image_is_refused():
    listing(count=1)
    (ROOT / "b/0.png").write_bytes(b"no image")

    with pytest.raises(DataError, match="data: none of the training images of b can be used; repair some"):
        decoded(list_images(ROOT), SIZE, on_error="skip")


def test_a_file_that_failed_is_tried_again(monkeypatch, decodes, capsys):
    images = listing()

    def fail(content):
        raise decoding.ImageFileError("too large for the memory; close other programs")

    with monkeypatch.context() as patch:
        patch.setattr(decoding.image_files, "decode", fail)
        with pytest.raises(UserError, match=r"6 of 6 .* a/0.png \(too large for the memory\), "):
            decoded(images, SIZE)
    capsys.readouterr()

    assert decoded(images, SIZE).valid.all()
    assert told(capsys)[0].endswith(" cannot be used (files that could not be read now can)")


def test_files_that_change_or_vanish_while_they_are_decoded_are_errors():
    images = listing()
    save("a/1.png", size=(20, 20))
    (ROOT / "b/1.png").unlink()

    with pytest.raises(UserError, match=r"2 of 6 .*: a/1.png \(changed meanwhile\), b/1.png \(does not exist\); "):
        decoded(images, SIZE)


def test_names_that_are_not_utf_8():
    listing()
    name = os.fsdecode(b"\xff.png")
    save(f"a/{name}")
    (ROOT / f"b/{name}").touch()

    with pytest.raises(UserError, match=r"1 of 8 images in data cannot be used: b/\\udcff.png \(empty\); ") as caught:
        decoded(list_images(ROOT), SIZE)
    str(caught.value).encode()


# Several processes


def test_processes_decode_in_parallel_the_same_and_leave_random_numbers_alone(monkeypatch):
    images = listing(count=10)
    alone = decoded(images, SIZE).images.copy()
    store.clear()
    monkeypatch.setattr(decoding, "_FEW_FILES", 0)
    monkeypatch.setattr(decoding, "_MAX_IMAGES", 3)
    monkeypatch.setattr(decoding, "available_cores", lambda: 2)
    torch.manual_seed(0)
    state = torch.get_rng_state()

    assert (decoded(images, SIZE).images == alone).all()

    assert (torch.get_rng_state() == state).all()


def test_a_killed_worker_is_an_error_and_nothing_is_left(monkeypatch, folder):
    images = listing()
    monkeypatch.setattr(decoding, "_FEW_FILES", 0)
    monkeypatch.setattr(decoding, "available_cores", lambda: 1)
    monkeypatch.setattr(decoding.Decoder, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))

    with pytest.raises(DataError, match="a process that decodes images has ended, killed perhaps because memory was"):
        decoded(images, SIZE)
    assert content(folder) == []


def test_the_second_waits_for_the_first(capsys, decodes):
    images = listing()

    with ThreadPoolExecutor(1) as pool:
        with store.locked(store.folder()):
            second = pool.submit(decoded, images, SIZE)
            while "waiting" not in (line := capsys.readouterr().err):
                time.sleep(0.01)
        assert line == f"lightning-cnn: waiting for another process that is decoding images into {store.folder()}\n"
        assert second.result().valid.all()


CODE = """
import sys
from pathlib import Path
from lightning_cnn import signals
from lightning_cnn.data import cache, decoding, folders
from lightning_cnn.errors import Interrupted
signals.handle()
decoding._FEW_FILES, decoding._MAX_IMAGES, decoding.available_cores = 0, 1, lambda: 2
decode = decoding.Decoder.__getitem__
def slow(self, number):
    print("decoding", flush=True)
    __import__("time").sleep(0.3)
    return decode(self, number)
decoding.Decoder.__getitem__ = slow
try:
    cache.decoded(folders.list_images(Path("data")), (6, 8))
except Interrupted:
    sys.exit("interrupted")
"""


def test_ctrl_c_leaves_nothing_behind(folder):
    listing(count=20)
    command = [sys.executable, "-c", CODE]
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "decoding\n"

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the workers as well

    _, err = process.communicate(timeout=60)  # until no worker holds the pipes
    assert (process.returncode, err) == (1, "interrupted\n")
    assert content(folder) == []


# The folder


def test_a_full_disk_leaves_nothing_behind(monkeypatch, folder):
    images = listing()

    def full(self, number):
        return OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(decoding.Decoder, "__getitem__", full)

    with pytest.raises(DataError) as caught:
        decoded(images, SIZE)
    assert str(caught.value) == (
        f"0 MB of decoded images cannot be stored in {folder} (no space left on device); make room, or choose another "
        "folder with the environment variable LIGHTNING_CNN_CACHE_DIR"
    )
    assert content(folder) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_an_error_of_the_target_is_returned():
    decoder = decoding.Decoder(listing(), Resize(SIZE), Path("/dev/full"), 0)

    error = decoder[0]

    assert isinstance(error, OSError) and error.errno == errno.ENOSPC


def test_the_space_is_checked_before(monkeypatch, decodes):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))

    with pytest.raises(DataError, match=r"the decoded images take 0 MB, and .* has room for 0 MB: make room, or"):
        decoded(listing(), SIZE)
    assert decodes == []


def test_what_was_not_used_for_longest_is_removed(monkeypatch, folder):
    images = listing()
    sizes = [(6, 8), (6, 9), (6, 10)]
    for size in sizes:
        decoded(images, size)
        time.sleep(0.02)
    decoded(images, sizes[0])
    entries = store._entries()
    oldest, *kept = entries
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_LIMIT", str(sum(entries.values()) / 1e9))

    decoded(images, (6, 7))

    assert oldest.name not in content(folder)
    assert {path.name for path in kept} < set(content(folder)) and len(content(folder)) == 3


def test_more_than_the_limit_is_refused(monkeypatch):
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_LIMIT", "1e-9")

    with pytest.raises(DataError, match=r"more than the limit of 1e-09 GB: choose a smaller image size, or raise the"):
        decoded(listing(), SIZE)


@pytest.mark.parametrize("limit", ["", "0", "-1", "nan", "much"])
def test_a_limit_is_a_number(limit, monkeypatch):
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_LIMIT", limit)

    with pytest.raises(UserError, match=f"LIGHTNING_CNN_CACHE_LIMIT must be a number of GB above 0, got '{limit}'"):
        decoded(listing(), SIZE)


def test_clear(folder):
    assert store.clear() == 0 and not folder.exists()
    images = listing()
    result = decoded(images, SIZE)
    size = sum(path.stat().st_size for path in folder.glob("*/*"))

    assert store.clear() == size
    assert content(folder) == []
    assert result.images.any()  # whoever uses them is not disturbed


def test_what_cannot_be_removed_is_named(monkeypatch, folder):
    decoded(listing(), SIZE)

    def refuse(self, target):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "rename", refuse)

    with pytest.raises(
        DataError, match=r"images/[0-9a-f]{32} cannot be removed \(permission denied\); change its perm"
    ):
        store.clear()


def test_what_a_killed_process_has_left_is_removed(folder):
    (folder / ".key.part").mkdir(parents=True)
    (folder / ".key.part" / "images.npy").touch()

    decoded(listing(), SIZE)

    assert len(content(folder)) == 1


def test_a_folder_that_cannot_be_written_to(folder):
    folder.parent.touch()

    with pytest.raises(
        DataError, match=r"images, for decoded images, cannot be written to \(not a directory\); make it"
    ):
        decoded(listing(), SIZE)


def test_without_a_home_folder(monkeypatch):
    monkeypatch.delenv("LIGHTNING_CNN_CACHE_DIR")
    monkeypatch.setattr(store, "cache_dir", lambda: None)

    with pytest.raises(DataError, match="there is no home folder to store decoded images in; choose a folder with the"):
        decoded(listing(), SIZE)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 4"):
        decoded(listing(), SIZE, channels=4)
