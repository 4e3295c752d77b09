import dataclasses
import gzip

import pytest
from idx import write_idx_dataset
from web import serve

from lightning_cnn.commands import data
from lightning_cnn.data.facts import FILES, TEST_LABELS
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.sources import load, raw_folder
from lightning_cnn.errors import DataError, UserError


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def facts(tmp_path, monkeypatch):
    """Facts of a tiny dataset in the folder `here`, available as `mnist`."""
    facts = write_idx_dataset(tmp_path / "here", MNIST)
    monkeypatch.setitem(data.DATASETS, "mnist", facts)
    return facts


def test_fetch_prints_the_source_of_each_file(tmp_path, facts, monkeypatch, capsys):
    here = raw_folder(facts, tmp_path / "here")
    with serve({f"/{file}.gz": gzip.compress((here / file).read_bytes()) for file in FILES}) as server:
        monkeypatch.setitem(data.DATASETS, "mnist", dataclasses.replace(facts, mirrors=(server.address,)))
        assert data.main(["data", "fetch", "mnist", "--data_dir", str(tmp_path / "new")]) == 0

    printed = capsys.readouterr().out
    assert "200 training and 100 test images" in printed
    assert all(f"from {server.address}{file}.gz" in printed for file in FILES)
    assert str(raw_folder(facts, tmp_path / "new")) in printed


def test_fetch_asks_the_mirrors_of_the_user(tmp_path, facts, capsys):
    here = raw_folder(facts, tmp_path / "here")
    with serve({f"/{file}.gz": gzip.compress((here / file).read_bytes()) for file in FILES}) as server:
        argv = ["data", "fetch", "mnist", "--data_dir", str(tmp_path / "new")]
        assert data.main([*argv, "--mirrors", server.address]) == 0

    assert f"from {server.address}{FILES[0]}.gz" in capsys.readouterr().out


def test_fetch_fails_without_a_source(tmp_path, facts):
    with pytest.raises(DataError, match="cannot be downloaded"):
        data.main(["data", "fetch", "mnist", "--data_dir", str(tmp_path / "new")])


def test_a_fetch_that_fails_leaves_nothing_behind(tmp_path, facts, monkeypatch):
    (tmp_path / "new").mkdir()
    with serve({}) as server:
        monkeypatch.setitem(data.DATASETS, "mnist", dataclasses.replace(facts, mirrors=(server.address,)))
        with pytest.raises(DataError, match="cannot be downloaded"):
            data.main(["data", "fetch", "mnist", "--data_dir", str(tmp_path / "new")])

    assert [*(tmp_path / "new").iterdir()] == []


def test_fetch_accepts_the_sample_if_allowed(tmp_path, facts, capsys):
    assert data.main(["data", "fetch", "mnist", "--data_dir", str(tmp_path / "new"), "--allow_sample", "true"]) == 0

    assert "2,000 training and 500 test images" in capsys.readouterr().out


def test_verify_reports_valid_files(tmp_path, facts, capsys):
    assert data.main(["data", "verify", "mnist", "--data_dir", str(tmp_path / "here")]) == 0

    printed = capsys.readouterr().out
    assert printed.count("valid  ") == 4
    assert f"{raw_folder(facts, tmp_path / 'here') / TEST_LABELS} (raw, 108 bytes)" in printed
    assert printed.endswith("MNIST is complete and valid\n")


@pytest.mark.parametrize("place", ["Fashion-MNIST", "fashion-mnist", "fashion_mnist/raw", "FashionMNIST"])
def test_folders_of_other_programs_are_found_for_verification_and_training(tmp_path, monkeypatch, capsys, place):
    facts = write_idx_dataset(tmp_path / "here", FASHION_MNIST)
    monkeypatch.setitem(data.DATASETS, "fashion_mnist", facts)
    folder = tmp_path / "new" / place
    folder.mkdir(parents=True)
    for file in FILES:
        (raw_folder(facts, tmp_path / "here") / file).rename(folder / file.replace("-idx", ".idx"))

    assert data.main(["data", "verify", "fashion_mnist", "--data_dir", str(tmp_path / "new")]) == 0

    assert f"{folder}/t10k-labels.idx1-ubyte (raw, 108 bytes)" in capsys.readouterr().out
    assert load(facts, tmp_path / "new").origin == f"raw files in {folder}"


def test_verify_reports_invalid_and_missing_files(tmp_path, facts, capsys):
    here = raw_folder(facts, tmp_path / "here")
    (here / TEST_LABELS).write_bytes(b"not labels")
    (here / FILES[0]).unlink()

    assert data.main(["data", "verify", "mnist", "--data_dir", str(tmp_path / "here")]) == 1

    printed = capsys.readouterr().out
    assert f"missing  {FILES[0]}" in printed
    assert f"INVALID  {here / TEST_LABELS} (raw, 10 bytes): SHA-256 is " in printed
    assert printed.count("valid  ") == 2
    assert "MNIST is NOT complete" in printed


def test_verify_writes_nothing_and_fetches_nothing(tmp_path, facts, monkeypatch):
    with serve({}) as server:
        monkeypatch.setitem(data.DATASETS, "mnist", dataclasses.replace(facts, mirrors=(server.address,)))
        assert data.main(["data", "verify", "mnist", "--data_dir", str(tmp_path / "new")]) == 1

    assert server.requests == []
    assert not (tmp_path / "new").exists()


def test_verify_accepts_the_system_package(tmp_path, facts, monkeypatch, capsys):
    write_idx_dataset(tmp_path / "system", MNIST, compress=True)
    system = raw_folder(facts, tmp_path / "system")
    monkeypatch.setitem(data.DATASETS, "mnist", dataclasses.replace(facts, system_folder=str(system)))

    assert data.main(["data", "verify", "mnist", "--data_dir", str(tmp_path / "new")]) == 0

    assert f"{system / TEST_LABELS}.gz (gz, " in capsys.readouterr().out


def test_verify_accepts_the_sample_if_allowed(tmp_path, facts, capsys):
    assert data.main(["data", "verify", "mnist", "--data_dir", str(tmp_path / "new"), "--allow_sample"]) == 0

    assert "the sample is complete and valid" in capsys.readouterr().out


def test_the_folder_comes_from_the_environment_if_not_given(tmp_path, facts, monkeypatch):
    monkeypatch.setenv("LIGHTNING_CNN_DATA_DIR", str(tmp_path / "here"))

    assert data.main(["data", "verify", "mnist"]) == 0
    assert data.main(["data", "verify", "mnist", "--data.data_dir", str(tmp_path / "new")]) == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["fetch", "minst"],
            "'minst' is not a dataset (choose from mnist, fashion_mnist); did you mean 'mnist'?",
        ),
        (["fetch", "cifar"], "'cifar' is not a dataset (choose from mnist, fashion_mnist)"),
        (["verfy", "mnist"], "'verfy' is not a verb (choose from fetch, verify, clear); did you mean 'verify'?"),
        (
            ["verify", "mnist", "--allow_sample=ture"],
            "'ture' is not a value of --allow_sample (choose from true, false); did you mean 'true'?",
        ),
        (
            ["verify", "mnist", "--allow_sample", "ture"],
            "unexpected argument 'ture' (see `lightning-cnn data --help`)",
        ),
        (
            ["verify", "mnist", "--data-dir=x"],
            "'--data-dir' is not an option "
            "(choose from --help, --data_dir, --mirrors, --allow_sample); did you mean '--data_dir'?",
        ),
        (
            ["fetch"],
            "data fetch needs a dataset: mnist or fashion_mnist",
        ),
    ],
)
def test_a_wrong_argument_is_reported_in_one_line(argv, message):
    with pytest.raises(UserError) as caught:
        data.main(["data", *argv])

    assert str(caught.value) == message
    assert caught.value.exit_status == 2


def test_a_path_that_is_too_long_is_reported_in_one_line(cli, facts):
    outcome = cli("data", "verify", "mnist", "--data_dir", "x" * 300)

    assert outcome.status == 2
    assert outcome.err.endswith(": File name too long; give a shorter path\n") and outcome.err.count("\n") == 1


def test_help_names_the_environment_variable(capsys):
    with pytest.raises(SystemExit) as caught:
        data.main(["data", "--help"])

    assert caught.value.code == 0
    assert "LIGHTNING_CNN_DATA_DIR" in capsys.readouterr().out


def test_clear_removes_decoded_images(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_DIR", str(tmp_path))
    entry = tmp_path / "images" / ("0" * 32)
    entry.mkdir(parents=True)
    (entry / "images.npy").write_bytes(bytes(2_000_000))

    assert data.main(["data", "clear"]) == 0

    assert capsys.readouterr().out == f"2.0 MB of decoded images removed from {tmp_path / 'images'}\n"
    assert not entry.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clear", "--data_dir", "photos"], "data clear has no option --data_dir; leave it out"),
        (["clear", "--data.mirrors", "https://example.org"], "data clear has no option --mirrors; leave it out"),
        (["verify", "mnist", "--mirrors", "https://example.org"], "data verify has no option --mirrors; leave it out"),
        (["clear", "mnist"], "data clear removes the decoded images of all folders; leave out 'mnist'"),
        (["fetch"], "data fetch needs a dataset: mnist or fashion_mnist"),
    ],
)
def test_a_verb_and_a_dataset_must_fit(arguments, message):
    with pytest.raises(UserError, match=message):
        data.main(["data", *arguments])
