import dataclasses
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from idx import idx_bytes, idx_files, write_idx_dataset
from web import not_found, redirect, send, serve, stall

from lightning_cnn.data import mirrors, sources
from lightning_cnn.data.facts import FILES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from lightning_cnn.data.files import GzipFiles, RawFiles, SourceError
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.sources import load, raw_folder, read_verified
from lightning_cnn.errors import DataError, UserError


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def facts(tmp_path):
    """Facts of a tiny dataset that is stored in the folder `here`."""
    return write_idx_dataset(tmp_path / "here", MNIST)


@pytest.fixture
def here(tmp_path, facts):
    return raw_folder(facts, tmp_path / "here")


def packed(folder: Path) -> dict[str, bytes]:
    """Return what a mirror of the folder serves."""
    return {f"/{file}.gz": gzip.compress((folder / file).read_bytes(), 1) for file in FILES}


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Local files


def test_raw_files_are_loaded(tmp_path, facts, here):
    dataset = load(facts, tmp_path / "here")

    assert dataset.train_images.shape == (200, 28, 28)
    assert dataset.test_images.shape == (100, 28, 28)
    assert np.array_equal(dataset.train_labels, np.frombuffer((here / TRAIN_LABELS).read_bytes()[8:], np.uint8))
    assert not dataset.is_sample
    assert dataset.origin == f"raw files in {here}"
    assert dataset.origins == {file: str(here / file) for file in FILES}


def test_gzipped_files_are_the_same(tmp_path, facts, capsys):
    raw = load(facts, tmp_path / "here")
    write_idx_dataset(tmp_path / "gz", MNIST, compress=True)

    dataset = load(facts, tmp_path / "gz")

    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(dataset, name), getattr(raw, name))
    assert dataset.origins[TEST_LABELS].endswith(f"{TEST_LABELS}.gz")
    assert capsys.readouterr().err == ""  # no warning about missing raw files


def test_the_system_package_is_read_in_place(tmp_path, facts):
    write_idx_dataset(tmp_path / "system", MNIST, compress=True)
    system = raw_folder(facts, tmp_path / "system")

    dataset = load(dataclasses.replace(facts, system_folder=str(system)), tmp_path / "empty")

    assert dataset.origin == f"gz files in {system}"
    assert not (tmp_path / "empty").exists()


def test_loading_local_files_writes_nothing(tmp_path, facts, here):
    before = listing(here)

    load(dataclasses.replace(facts, mirrors=("http://127.0.0.1:9/",)), tmp_path / "here")

    assert listing(here) == before


def test_the_data_folder_may_be_read_only(tmp_path, facts, here):
    here.chmod(0o555)
    if os.access(here, os.W_OK):
        pytest.skip("this user, probably root, may write into a read-only folder")

    assert len(load(facts, tmp_path / "here").train_labels) == 200


def test_a_tilde_in_data_dir_is_expanded(tmp_path, facts, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    assert len(load(facts, Path("~/here")).train_labels) == 200


def test_the_default_folder_is_in_the_environment(monkeypatch):
    monkeypatch.setenv("LIGHTNING_CNN_DATA_DIR", "/somewhere")
    assert sources.default_data_dir() == Path("/somewhere")
    monkeypatch.setenv("LIGHTNING_CNN_DATA_DIR", "")
    assert sources.default_data_dir() == Path("data")
    monkeypatch.delenv("LIGHTNING_CNN_DATA_DIR")
    assert sources.default_data_dir() == Path("data")
    monkeypatch.setenv("LIGHTNING_CNN_DATA_DIR", "s3://bucket/data")
    with pytest.raises(UserError, match="LIGHTNING_CNN_DATA_DIR s3://bucket/data is an address;"):
        sources.default_data_dir()


# Damaged files


@pytest.mark.parametrize("file", FILES)
def test_a_single_flipped_byte_is_rejected(facts, here, file):
    content = bytearray((here / file).read_bytes())
    assert read_verified(RawFiles(here), file, facts, facts.sha256)[0] == content
    for place in [0, len(content) - 1, *random.Random(0).sample(range(len(content)), 12)]:
        content[place] ^= 0x10
        (here / file).write_bytes(content)
        with pytest.raises(SourceError, match="SHA-256"):
            read_verified(RawFiles(here), file, facts, facts.sha256)
        content[place] ^= 0x10


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_byte_in_a_gzip_file_is_rejected_or_harmless(tmp_path, facts, file):
    write_idx_dataset(tmp_path / "gz", MNIST, compress=True)
    source = GzipFiles(raw_folder(facts, tmp_path / "gz"))
    valid, _ = read_verified(source, file, facts, facts.sha256)
    path = Path(source.where(file))
    content = bytearray(path.read_bytes())
    refused = 0
    for place in random.Random(0).sample(range(len(content)), 16):
        content[place] ^= 0x10
        path.write_bytes(content)
        try:
            assert read_verified(source, file, facts, facts.sha256)[0] == valid  # such as the date in the header
        except SourceError:
            refused += 1
        content[place] ^= 0x10
    assert refused > 0


def damage_flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [damage_flip, damage_cut, damage_empty, damage_folder])
def test_a_damaged_raw_file_is_named_and_the_gzipped_one_used(tmp_path, facts, here, damage, capsys):
    write_idx_dataset(tmp_path / "here", MNIST, compress=True)
    damage(here / TEST_IMAGES)

    dataset = load(facts, tmp_path / "here")

    assert dataset.origins[TEST_IMAGES] == str(here / f"{TEST_IMAGES}.gz")
    assert dataset.origins[TEST_LABELS] == str(here / TEST_LABELS)
    announced = capsys.readouterr().err.splitlines()
    assert len(announced) == 1
    assert f"{here / TEST_IMAGES} is not used: " in announced[0]


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        (TRAIN_IMAGES, idx_bytes(np.zeros((200, 28, 28), np.uint8), magic=0x801), "magic number"),
        (TRAIN_IMAGES, idx_bytes(np.zeros((200, 28, 27), np.uint8)), "28×27"),
        (TRAIN_LABELS, idx_bytes(np.full(200, 10, np.uint8)), "below 10"),
        (TRAIN_LABELS, idx_bytes(np.zeros((1, 28, 28), np.uint8)), "magic number"),
    ],
)
def test_an_invalid_file_is_rejected_despite_its_checksum(tmp_path, file, content, why):
    facts = write_idx_dataset(tmp_path, MNIST)
    (raw_folder(facts, tmp_path) / file).write_bytes(content)
    facts = dataclasses.replace(facts, sha256={**facts.sha256, file: hashlib.sha256(content).hexdigest()})

    with pytest.raises(DataError, match=why):
        load(facts, tmp_path)


def test_as_many_labels_as_images_are_required(tmp_path):
    facts = write_idx_dataset(tmp_path, MNIST, n_train=20)
    labels = write_idx_dataset(tmp_path / "other", MNIST, n_train=30)
    (raw_folder(facts, tmp_path / "other") / TRAIN_LABELS).replace(raw_folder(facts, tmp_path) / TRAIN_LABELS)
    facts = dataclasses.replace(facts, sha256={**facts.sha256, TRAIN_LABELS: labels.sha256[TRAIN_LABELS]})

    with pytest.raises(
        DataError, match=f"{TRAIN_IMAGES} and .*{TRAIN_LABELS} have 20 images but 30 labels; replace them"
    ):
        load(facts, tmp_path)


# Downloads


def test_missing_files_are_downloaded_and_stored_uncompressed(tmp_path, facts, here):
    with serve(packed(here)) as server:
        facts = dataclasses.replace(facts, mirrors=(server.address,))
        fetched = load(facts, tmp_path / "new")

    stored = load(facts, tmp_path / "new")  # the server is gone
    assert fetched.origin == server.address
    assert stored.origin == f"raw files in {raw_folder(facts, tmp_path / 'new')}"
    assert np.array_equal(fetched.train_images, stored.train_images)
    new = listing(raw_folder(facts, tmp_path / "new"))
    assert {file: new[file] for file in FILES} == {file: (here / file).read_bytes() for file in FILES}
    assert set(new) - set(FILES) <= {".lock"}


def test_valid_files_are_kept_and_a_damaged_one_is_replaced(tmp_path, facts, here, capsys):
    mirror = packed(here)
    valid = (here / TEST_LABELS).read_bytes()
    damage_cut(here / TEST_LABELS)
    (here / f".{TEST_LABELS}.4711.part").write_bytes(valid[:10])  # left by a process that was killed

    with serve(mirror) as server:
        load(dataclasses.replace(facts, mirrors=(server.address,)), tmp_path / "here")

    assert server.requests == [f"/{TEST_LABELS}.gz"]
    assert (here / TEST_LABELS).read_bytes() == valid
    assert not list(here.glob("*.part")) and not list(here.glob(".*.part"))
    announced = capsys.readouterr().err
    assert announced.count(f"{here / TEST_LABELS} is not used: SHA-256 is ") == 1
    assert f"{here / TEST_LABELS} was damaged and has been replaced" in announced


def test_invalid_files_of_one_mirror_come_from_the_next(tmp_path, facts, here):
    good = packed(here)
    bad = {**good, f"/{TRAIN_IMAGES}.gz": good[f"/{TEST_IMAGES}.gz"], f"/{TEST_LABELS}.gz": not_found}

    with serve(bad) as first, serve(good) as second:
        dataset = load(dataclasses.replace(facts, mirrors=(first.address, second.address)), tmp_path / "new")

    assert len(first.requests) == 4
    assert second.requests == [f"/{TRAIN_IMAGES}.gz", f"/{TEST_LABELS}.gz"]
    assert dataset.origins[TRAIN_IMAGES].startswith(second.address)
    assert dataset.origins[TRAIN_LABELS].startswith(first.address)
    assert dataset.origin == f"{first.address}, {second.address}"


def test_mirrors_of_the_user_come_first_in_their_order(tmp_path, facts, here, capsys):
    good = packed(here)
    damaged = {**good, f"/{TRAIN_IMAGES}.gz": good[f"/{TEST_IMAGES}.gz"]}
    partly = {f"/{facts.folder}/raw{name}": content for name, content in good.items() if TEST_LABELS not in name}
    with serve(damaged) as first, serve(partly) as second, serve(good) as official:
        facts = dataclasses.replace(facts, mirrors=(official.address,))
        dataset = load(facts, tmp_path / "new", mirrors=f"{first.address},{second.address}")
        again = load(facts, tmp_path / "again", mirrors=[second.address])

    assert dataset.origins[TRAIN_IMAGES] == f"{second.address}{facts.folder}/raw/{TRAIN_IMAGES}.gz"
    assert dataset.origins[TEST_LABELS] == f"{first.address}{TEST_LABELS}.gz"
    assert again.origins[TEST_LABELS] == f"{official.address}{TEST_LABELS}.gz"
    assert official.requests == [f"/{TEST_LABELS}.gz"]
    announced = capsys.readouterr().err
    assert f"{first.address}{TRAIN_IMAGES}.gz is not used: SHA-256 is " in announced
    assert "404 Not Found" not in announced  # the files may be in either place


def test_mirrors_of_the_environment_are_used(tmp_path, facts, here, monkeypatch):
    with serve(packed(here)) as server:
        monkeypatch.setenv("LIGHTNING_CNN_MIRRORS", server.address)
        assert load(facts, tmp_path / "new").origin == server.address.rstrip("/")


def test_a_redirect_loop_is_one_line_that_names_the_file(tmp_path, facts, capsys):
    with serve(redirect) as server, pytest.raises(DataError) as caught:
        load(dataclasses.replace(facts, mirrors=(server.address,)), tmp_path / "new")

    announced = capsys.readouterr().err.splitlines()
    assert len(announced) == 4
    assert f"{server.address}{TRAIN_IMAGES}.gz is not used: 302 The HTTP server" in "".join(announced)
    lines = str(caught.value).splitlines()
    assert len([line for line in lines if "infinite loop" in line and line.endswith("(all four files)")]) == 1


def test_a_mirror_that_does_not_answer_is_asked_once(tmp_path, facts, here, monkeypatch, capsys):
    monkeypatch.setattr(mirrors, "TIMEOUT", 0.2)

    with serve(stall) as first, serve(packed(here)) as second:
        load(dataclasses.replace(facts, mirrors=(first.address, second.address)), tmp_path / "new")

    expected = f"{first.address}{TRAIN_IMAGES}.gz: timed out after 0.2 s; {first.address} is skipped"
    assert expected in capsys.readouterr().err
    assert len(first.requests) == 1
    assert len(second.requests) == 4


def test_files_downloaded_before_a_failure_are_kept(tmp_path, facts, here):
    mirror = {**packed(here), f"/{TEST_LABELS}.gz": send(b"cut", announced=30)}
    with serve(mirror) as server:
        facts = dataclasses.replace(facts, mirrors=(server.address,))
        with pytest.raises(DataError, match=f"connection closed after 3 of 30 bytes \\({TEST_LABELS}\\)"):
            load(facts, tmp_path / "new")
    with serve(packed(here)) as server:
        load(dataclasses.replace(facts, mirrors=(server.address,)), tmp_path / "new")

    assert server.requests == [f"/{TEST_LABELS}.gz"]


FETCH = """
import dataclasses, json, pathlib, sys
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.sources import load
facts = dataclasses.replace(MNIST, sha256=json.loads(sys.argv[1]), mirrors=(sys.argv[2],))
print("ready", flush=True)
sys.stdin.readline()
print(int(load(facts, pathlib.Path(sys.argv[3])).train_images.sum()))
"""


def test_concurrent_processes_download_once(tmp_path, facts, here):
    content = packed(here)

    def slowly(handler, server):
        time.sleep(0.1)
        send(content[handler.path])(handler, server)

    with serve(slowly) as server:
        command = [sys.executable, "-W", "error", "-c", FETCH, json.dumps(facts.sha256), server.address]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen([*command, str(tmp_path / "new")], **pipes) for _ in range(4)]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=30) for process in processes]

    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert {stdout for stdout, _ in outputs} == {f"{load(facts, tmp_path / 'here').train_images.sum()}\n"}
    assert sorted(server.requests) == sorted(content)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, facts, here):
    (tmp_path / "file").touch()

    with serve(packed(here)) as server:
        facts = dataclasses.replace(facts, mirrors=(server.address,))
        with pytest.raises(DataError, match=r"file/MNIST/raw cannot be written to .*--data\.data_dir"):
            load(facts, tmp_path / "file")

    assert server.requests == []  # nothing is fetched that could not be stored


# Without a source


def test_the_error_lists_every_source_and_what_to_do(tmp_path, facts, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get
    folder = raw_folder(facts, tmp_path / "new")
    folder.mkdir(parents=True)
    (folder / f"{TEST_LABELS}.gz").write_bytes(b"rubbish")
    with serve({}) as gone:
        pass
    with serve({}) as empty:
        broken = dataclasses.replace(
            facts,
            mirrors=(gone.address, empty.address),
            system_folder=str(tmp_path / "system"),
            debian_package="dataset-tiny",
        )
        with pytest.raises(DataError) as caught:
            load(broken, tmp_path / "new")

    message = str(caught.value)
    assert message.splitlines()[0] == f"MNIST is not in {folder} and cannot be downloaded."
    assert f"raw files in {folder}: missing (all four files)" in message
    assert f"gz files in {folder}: not a valid gzip file" in message
    assert f"gz files in {tmp_path / 'system'}: missing (all four files)" in message
    assert f"{gone.address}: connection refused" in message
    assert f"{empty.address}: 404 Not Found (all four files)" in message
    assert "Debian package dataset-tiny: there is no apt-get" in message
    assert f"Put these four files into {folder}" in message
    assert all(f"{file} " in message and facts.sha256[file] in message for file in FILES)
    assert "`--data.data_dir`" in message and "LIGHTNING_CNN_DATA_DIR" in message
    assert "`--data.allow_sample true`" in message
    assert caught.value.exit_status == 1


def test_the_sample_is_used_only_if_allowed(tmp_path, facts, capsys):
    with pytest.raises(DataError):
        load(facts, tmp_path / "new")
    assert "SAMPLE" not in capsys.readouterr().err

    sample = load(facts, tmp_path / "new", allow_sample=True)

    assert sample.is_sample and len(sample.train_labels) == 2000
    announced = capsys.readouterr().err
    assert "MNIST is not in" in announced and "THIS IS A SAMPLE of 2,500 images" in announced


def test_the_sample_is_not_used_if_the_dataset_is_available(tmp_path, facts):
    dataset = load(facts, tmp_path / "here", allow_sample=True)

    assert not dataset.is_sample and len(dataset.train_labels) == 200


def test_the_sample_is_used_if_downloads_cannot_be_stored(tmp_path, facts):
    (tmp_path / "file").touch()
    facts = dataclasses.replace(facts, mirrors=("http://127.0.0.1:9/",))

    assert load(facts, tmp_path / "file", allow_sample=True).is_sample


def test_a_dataset_without_a_sample_is_named(tmp_path, facts):
    with pytest.raises(DataError, match="no valid sample of MNIST"):
        load(dataclasses.replace(facts, sample_sha256={}), tmp_path / "new", allow_sample=True)


# The tiny dataset of the tests


def test_the_tiny_dataset_is_balanced_and_its_classes_differ():
    contents = idx_files(n_train=200, n_test=100)
    labels = np.frombuffer(contents[TRAIN_LABELS][8:], np.uint8)
    images = np.frombuffer(contents[TRAIN_IMAGES][16:], np.uint8).reshape(-1, 28, 28)

    assert np.bincount(labels).tolist() == [20] * 10
    brightest = {tuple(np.argwhere(images[labels == label].mean(axis=0) > 128)[0]) for label in range(10)}
    assert len(brightest) == 10
