"""Files in the formats of the datasets, tiny and generated; their checksums take the place of the real ones."""

import gzip
import hashlib
import pickle
import struct
import tarfile
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from idx import idx_bytes, images_and_labels
from torchvision import datasets
from web import redirect, send, serve

from lightning_cnn.data import CIFAR10DataModule, EMNISTDataModule, KMNISTDataModule, QMNISTDataModule, published
from lightning_cnn.errors import DataError


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes files of a data module, and makes their checksums the known ones."""

    def write(module_class, files: dict[str, bytes]):
        for name, content in files.items():
            path = tmp_path / module_class.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        known = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
        monkeypatch.setattr(module_class, "md5", known)
        return tmp_path

    return write


def loaded(datamodule):
    datamodule.prepare_data()
    datamodule.setup()
    return [part[:] for part in (datamodule.train_set, datamodule.val_set, datamodule.test_set)]


def test_kmnist(written):
    rng = np.random.default_rng(0)
    train, test = images_and_labels(40, 10, rng), images_and_labels(20, 10, rng)
    contents = [gzip.compress(idx_bytes(array)) for array in (*train, *test)]
    data_dir = written(KMNISTDataModule, dict(zip(KMNISTDataModule.md5, contents, strict=True)))

    (images, targets), (val, _), (tested, labels) = loaded(KMNISTDataModule(data_dir, val_size=10))

    assert images.shape == (30, 1, 28, 28)
    assert val.shape == (10, 1, 28, 28)
    assert len(targets) == 30
    assert np.array_equal(tested[:, 0].numpy(), test[0])
    assert labels.tolist() == test[1].tolist()


def test_missing_files_come_from_mirrors_of_the_user(written, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "*")
    contents = {name: gzip.compress(name.encode()) for name in KMNISTDataModule.md5}
    data_dir = written(KMNISTDataModule, contents)
    folder = data_dir / KMNISTDataModule.folder
    one, other, *_ = contents
    for name in (one, other):
        (folder / name).unlink()
    served = {f"/{one}": contents[one], f"/{KMNISTDataModule.folder}/{other}": contents[other]}
    with serve(redirect) as first, serve(served) as second:
        KMNISTDataModule(data_dir, mirrors=[first.address, second.address]).prepare_data()

    assert {name: (folder / name).read_bytes() for name in contents} == contents


def test_a_failed_download_is_one_line(written, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with serve(redirect) as server:
        monkeypatch.setattr(KMNISTDataModule, "addresses", {n: server.address + n for n in KMNISTDataModule.md5})
        with pytest.raises(DataError) as caught:
            KMNISTDataModule(tmp_path / "new", mirrors=f"{server.address}mine").prepare_data()

    message = str(caught.value)
    assert "\n" not in message
    assert f"{server.address}mine/train-images-idx3-ubyte.gz: " in message and "infinite loop" in message
    assert (
        "put train-images-idx3-ubyte.gz, " in message and "name a web folder that has them as --data.mirrors" in message
    )


def not_http(handler, server):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")


@pytest.mark.parametrize("answer", [send(b"cut off", announced=100), b"<html>", not_http])
def test_of_a_download_that_fails_nothing_is_left(written, tmp_path, monkeypatch, answer):
    monkeypatch.setenv("no_proxy", "*")
    name, *_ = KMNISTDataModule.md5
    data_dir = written(KMNISTDataModule, {name: b"right"})
    (data_dir / KMNISTDataModule.folder / name).unlink()
    with serve({f"/bad/{name}": answer, f"/good/{name}": b"right"}) as server:
        bad, good = (f"{server.address}{folder}" for folder in ("bad", "good"))
        monkeypatch.setattr(KMNISTDataModule, "addresses", {name: f"{bad}/{name}"})
        with pytest.raises(DataError, match="cannot be downloaded"):
            KMNISTDataModule(data_dir).prepare_data()
        assert list((data_dir / KMNISTDataModule.folder).iterdir()) == []
        KMNISTDataModule(data_dir, mirrors=[bad, good]).prepare_data()

    assert [path.name for path in (data_dir / KMNISTDataModule.folder).iterdir() if path.suffix == ".gz"] == [name]
    assert (data_dir / KMNISTDataModule.folder / name).read_bytes() == b"right"


def test_what_another_process_has_fetched_meanwhile_is_kept(written, monkeypatch):
    name, *_ = KMNISTDataModule.md5
    data_dir = written(KMNISTDataModule, {name: b"right"})
    path = data_dir / KMNISTDataModule.folder / name
    path.unlink()

    @contextmanager
    def locked(folder):
        path.write_bytes(b"right")
        yield

    monkeypatch.setattr(published, "locked", locked)
    monkeypatch.setattr(KMNISTDataModule, "addresses", {name: "http://127.0.0.1:9/x.gz"})

    KMNISTDataModule(data_dir).prepare_data()


def test_qmnist_has_the_class_first_of_eight_numbers(written):
    images, labels = images_and_labels(20, 10, np.random.default_rng(0))
    columns = np.zeros((20, 8), ">i4")
    columns[:, 0], columns[:, 1:] = labels, 99
    stored = gzip.compress(struct.pack(">III", 0x0C02, 20, 8) + columns.tobytes())
    pixels = gzip.compress(idx_bytes(images))
    contents = dict(zip(QMNISTDataModule.md5, (pixels, stored, pixels, stored), strict=True))

    _, _, (tested, targets) = loaded(QMNISTDataModule(written(QMNISTDataModule, contents), val_size=5))

    assert targets.tolist() == labels.tolist()
    assert np.array_equal(tested[:, 0].numpy(), images)


@pytest.mark.parametrize(("subset", "first"), [("letters", 1), ("balanced", 0)])
def test_emnist_is_upright_and_counts_labels_from_0(written, tmp_path, subset, first):
    images, labels = images_and_labels(52, 26, np.random.default_rng(0))
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for part in ("train", "test"):
            prefix = f"gzip/emnist-{subset}-{part}"
            archive.writestr(f"{prefix}-images-idx3-ubyte.gz", gzip.compress(idx_bytes(images.transpose(0, 2, 1))))
            archive.writestr(f"{prefix}-labels-idx1-ubyte.gz", gzip.compress(idx_bytes(labels + np.uint8(first))))
    data_dir = written(EMNISTDataModule, {"gzip.zip": (tmp_path / "made.zip").read_bytes()})
    datamodule = EMNISTDataModule(subset, data_dir=data_dir, val_size=10)

    _, _, (tested, targets) = loaded(datamodule)

    assert targets.tolist() == labels.tolist()
    assert np.array_equal(tested[:, 0].numpy(), images)
    assert datamodule.class_names[0] == ("a" if first else "0")
    assert datamodule.name == f"emnist_{subset}"


def test_cifar10(written):
    rng = np.random.default_rng(0)
    batches = [
        {b"data": rng.integers(256, size=(10, 3072), dtype=np.uint8), b"labels": list(range(10))} for _ in range(6)
    ]
    contents = dict(zip(CIFAR10DataModule.md5, (pickle.dumps(batch, protocol=2) for batch in batches), strict=True))

    (images, _), (val, _), (tested, targets) = loaded(CIFAR10DataModule(written(CIFAR10DataModule, contents), 10))

    assert images.shape == (40, 3, 32, 32)
    assert val.shape == (10, 3, 32, 32)
    assert np.array_equal(tested.flatten(1).numpy(), batches[5][b"data"])
    assert targets.tolist() == list(range(10))


def test_the_archive_of_cifar10_is_downloaded_once_and_extracted_file_by_file(written, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    contents = {name: name.encode() for name in CIFAR10DataModule.md5}
    data_dir = written(CIFAR10DataModule, contents)
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as made:
        for name in contents:
            made.add(data_dir / name, name)
        made.add(data_dir / name, "cifar-10-batches-py/batches.meta")  # which torchvision reads
    archive = (tmp_path / "made.tar.gz").read_bytes()
    kept, *lost = contents
    kept_before = (data_dir / kept).stat()
    for name in lost:
        (data_dir / name).unlink()
    with serve({"/cifar.tar.gz": archive}) as server:
        facts = (f"{server.address}cifar.tar.gz", hashlib.md5(archive).hexdigest())
        monkeypatch.setattr(CIFAR10DataModule, "archive", facts)
        CIFAR10DataModule(data_dir).prepare_data()
        requests = len(server.requests)
        (data_dir / lost[0]).unlink()
        CIFAR10DataModule(data_dir).prepare_data()

    assert {name: (data_dir / name).read_bytes() for name in contents} == contents
    assert (data_dir / "cifar-10-batches-py/batches.meta").is_file()
    assert (data_dir / kept).stat().st_mtime_ns == kept_before.st_mtime_ns
    assert len(server.requests) == requests
    assert {path.name for path in data_dir.iterdir()} - {"made.tar.gz", ".lock"} == {
        "cifar-10-batches-py",
        "cifar.tar.gz",
    }


def test_code_in_a_file_of_cifar10_is_not_run(written):
    contents = dict.fromkeys(CIFAR10DataModule.md5, pickle.dumps(print, protocol=2))

    with pytest.raises(DataError, match="is not an array"):
        loaded(CIFAR10DataModule(written(CIFAR10DataModule, contents)))


def test_a_damaged_file_is_refused(written):
    contents = dict.fromkeys(KMNISTDataModule.md5, gzip.compress(b"x"))
    data_dir = written(KMNISTDataModule, contents)
    (data_dir / KMNISTDataModule.folder / next(iter(contents))).write_bytes(b"y")

    with pytest.raises(DataError, match="is damaged: its MD5 is not"):
        KMNISTDataModule(data_dir).setup("fit")


def test_what_cannot_be_downloaded_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(KMNISTDataModule, "addresses", dict.fromkeys(KMNISTDataModule.md5, "http://127.0.0.1:9/x.gz"))

    with pytest.raises(DataError, match=r"KMNIST is not in .*KMNIST/raw and cannot be downloaded \(.*\); put train-"):
        KMNISTDataModule(tmp_path).prepare_data()


def test_an_unknown_subset_is_refused():
    with pytest.raises(ValueError, match=r"subset must be one of byclass, .*, got 'upper'"):
        EMNISTDataModule("upper")


def test_the_facts_are_those_of_torchvision():
    assert KMNISTDataModule.md5 == dict(datasets.KMNIST.resources)
    assert {*KMNISTDataModule.addresses.values()} == {
        f"{datasets.KMNIST.mirrors[0]}{name}" for name in KMNISTDataModule.md5
    }
    known = [*datasets.QMNIST.resources["train"], *datasets.QMNIST.resources["test"]]
    assert [(QMNISTDataModule.addresses[name], md5) for name, md5 in QMNISTDataModule.md5.items()] == known
    assert EMNISTDataModule.md5 == {"gzip.zip": datasets.EMNIST.md5}
    assert EMNISTDataModule.addresses == {"gzip.zip": datasets.EMNIST.url}
    cifar = datasets.CIFAR10
    files = {f"{cifar.base_folder}/{name}": md5 for name, md5 in [*cifar.train_list, *cifar.test_list]}
    assert CIFAR10DataModule.md5 == files
    assert CIFAR10DataModule.archive == (cifar.url, cifar.tgz_md5)
    for subset, names in datasets.EMNIST.classes_split_dict.items():
        assert list(EMNISTDataModule(subset).class_names) == [name for name in names if name != "N/A"]
