import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from lightning_cnn.errors import UserError
from lightning_cnn.run import Run, find_runs, resolve_checkpoint, snake_case


def make_run(folder, *names: str, time: int | None = None):
    (folder / "checkpoints").mkdir(parents=True)
    for name in names:
        (folder / "checkpoints" / f"{name}.ckpt").touch()
    if time is not None:
        os.utime(folder / "checkpoints", (time, time))
    return Run(folder)


def test_run_folders_are_numbered(tmp_path):
    names = [Run.create(tmp_path / "logs", "mnist-cnn").folder.name for _ in range(11)]

    assert names == [f"version_{n}" for n in range(11)]  # version_10 after version_9, not after version_1
    assert Run.create(tmp_path / "logs", "mnist-mlp").folder == tmp_path / "logs" / "mnist-mlp" / "version_0"


def test_the_next_number_follows_the_highest(tmp_path):
    (tmp_path / "run" / "version_7").mkdir(parents=True)
    (tmp_path / "run" / "version_old").mkdir()
    (tmp_path / "run" / "notes").mkdir()

    assert Run.create(tmp_path, "run").folder.name == "version_8"


def test_threads_that_start_at_once_get_different_folders(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: Run.create(tmp_path, "run").folder, range(64)))

    assert len(set(folders)) == 64
    assert all(folder.is_dir() for folder in folders)


def test_a_checkpoint_can_be_a_file(tmp_path):
    file = make_run(tmp_path / "run", "epoch_3").checkpoint("epoch_3")

    assert resolve_checkpoint(str(file), [], folder_means="best") == file


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_run_folder_means_its_best_or_last_checkpoint(tmp_path, name):
    run = make_run(tmp_path / "run", "best", "last")

    assert resolve_checkpoint(str(run.folder), [], folder_means=name) == run.checkpoint(name)


def test_a_name_means_a_checkpoint_of_the_first_run_that_has_any(tmp_path):
    runs = [
        make_run(tmp_path / "a", "last"),
        make_run(tmp_path / "b", "best", "last", "previous"),
        make_run(tmp_path / "c", "best"),
    ]

    assert resolve_checkpoint("last", runs, folder_means="best") == runs[0].checkpoint("last")
    for name in ("best", "previous"):
        assert resolve_checkpoint(name, runs[1:], folder_means="last") == runs[1].checkpoint(name)
        with pytest.raises(UserError, match=rf"the newest run, .*a, has no {name}\.ckpt; give a file, a run folder"):
            resolve_checkpoint(name, runs, folder_means="last")


def test_missing_checkpoints_are_named(tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(UserError, match=r"checkpoint nowhere\.ckpt does not exist"):
        resolve_checkpoint("nowhere.ckpt", [], folder_means="best")
    with pytest.raises(UserError, match=r"empty' is not a run folder"):
        resolve_checkpoint(str(tmp_path / "empty"), [], folder_means="best")
    with pytest.raises(
        UserError, match=r"v0' has no best\.ckpt, which the first validation saves; give .*/last\.ckpt$"
    ):
        resolve_checkpoint(str(make_run(tmp_path / "v0", "last").folder), [], folder_means="best")
    with pytest.raises(UserError, match=r"no matching run has a checkpoint best\.ckpt; train with `fit` first"):
        resolve_checkpoint("best", [make_run(tmp_path / "a")], folder_means="best")
    make_run(tmp_path / "mnist-cnn/version_0", "best")
    with pytest.raises(UserError, match=r"mnist-cnn' has runs in it; name one of them, such as .*mnist-cnn/version_0$"):
        resolve_checkpoint(str(tmp_path / "mnist-cnn"), [], folder_means="best")


def test_runs_are_found_newest_checkpoint_first(tmp_path):
    old = make_run(tmp_path / "mnist-cnn" / "version_1", "last", time=1_000)
    new = make_run(tmp_path / "mnist-cnn" / "version_0", "last", time=3_000)
    other = make_run(tmp_path / "fashion_mnist-mlp" / "version_0", "last", time=2_000)
    (tmp_path / "mnist-cnn" / "version_2").mkdir()  # without checkpoints

    assert find_runs(tmp_path) == [new, other, old]
    assert find_runs(tmp_path / "nowhere") == []


def test_event_files_are_those_of_the_run_alone(tmp_path):
    (tmp_path / "version_0").mkdir()
    (events := tmp_path / "version_0" / "events.out.tfevents.1700000000.host.2.0").touch()

    assert Run(tmp_path).event_files() == Run(tmp_path / "missing").event_files() == []
    assert Run(tmp_path / "version_0").event_files() == [events]


def test_of_checkpoint_returns_the_run_or_else_the_folder(tmp_path):
    assert Run.of_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt") == Run(tmp_path / "run")
    assert Run.of_checkpoint(tmp_path / "mail" / "best.ckpt") == Run(tmp_path / "mail")


def test_a_file_name_that_is_too_long_is_refused():
    with pytest.raises(UserError, match=r"cannot be read \(file name too long\); give a file, a run folder"):
        resolve_checkpoint("x" * 5_000, [], folder_means="best")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CNN", "cnn"),
        ("MLP", "mlp"),
        ("DeepCNN", "deep_cnn"),
        ("ShallowCNN", "shallow_cnn"),
        ("SimpleCNN", "simple_cnn"),
        ("LeNet5", "le_net5"),
        ("Net5Wide", "net5_wide"),
    ],
)
def test_class_names_in_snake_case(name, expected):
    assert snake_case(name) == expected


def test_a_checkpoint_in_a_subfolder_belongs_to_its_run(tmp_path):
    run = Run(tmp_path / "checkpoints" / "version_0")  # a folder above it has the same name
    nested = run.checkpoints_folder / "epoch=1-val" / "acc=0.98.ckpt"
    nested.parent.mkdir(parents=True)

    assert Run.of_checkpoint(nested) == Run(nested.parent)
    run.config_file.write_text("trainer: {}")
    assert Run.of_checkpoint(nested) == run
    assert Run.of_checkpoint(run.checkpoint("best")) == run


def test_configs_are_named_after_their_networks(configs):
    from lightning_cnn import classifiers, networks

    found = {path.stem for path in configs.glob("*mnist/*.yaml")}
    named = {"fast", "small", "tiny"}  # after what they are for, on both datasets
    assert found - named == {
        snake_case(name) for name in networks.__all__ if f"{name}Classifier" in classifiers.__all__
    } - {"fast_cnn"}


def linked(folder, name, target):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(target)


@pytest.mark.parametrize(
    "name", ["report.html", "metrics.csv", "plots", "plots/x.png", "checkpoints/last.ckpt", ".lock"]
)
def test_a_link_out_of_the_folder_is_refused_before_anything_is_written(tmp_path, name):
    (tmp_path / "outside").write_text("precious")
    folder = tmp_path / "run"
    linked(folder, name, tmp_path / "outside")

    with pytest.raises(UserError, match=rf"{name} is a link that leads out of the run folder, to .*/outside; delete"):
        Run(folder).lock().__enter__()

    assert (tmp_path / "outside").read_text() == "precious"


def test_links_within_the_folder_and_to_the_folder_are_followed(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    linked(tmp_path / "run" / "checkpoints", "best.ckpt", "last.ckpt")
    (tmp_path / "logs").symlink_to(tmp_path / "run")

    Run(tmp_path / "logs").require_inside()


@pytest.mark.parametrize("content", ['{"loggers": 1}', '{"earlier": {}}'])
def test_a_damaged_environment_is_named(tmp_path, content):
    Run(tmp_path).environment_file.write_text(content)

    with pytest.raises(UserError, match=r"environment\.json is damaged; repair or delete it"):
        Run(tmp_path).lock().__enter__()


def test_the_lock_removes_what_a_killed_process_has_left(tmp_path):
    (tmp_path / ".config.yaml.x.part").write_text("half")

    with Run(tmp_path).lock():
        assert not list(tmp_path.rglob("*.part"))
