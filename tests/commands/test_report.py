import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import TEST, text, write_run


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    return write_run(tmp_path / "logs" / "a" / "version_0"), write_run(tmp_path / "logs" / "a" / "version_1")


def pages(folder: Path) -> set[str]:
    """Every file below the folder that `report` may have written, finished or not."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".html", ".part")}


def test_the_page_of_a_run_is_written_into_its_folder(cli, tmp_path, two):
    outcome = cli("report", "logs/a/version_0")

    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == "Written: logs/a/version_0/report.html\n"
    assert pages(tmp_path) == {"logs/a/version_0/report.html"}
    assert "Report of the run a/version_0 ShallowCNN on Fashion-MNIST" in text(
        (two[0] / "report.html").read_text(encoding="utf-8")
    )


def test_the_page_of_a_run_can_be_written_elsewhere(cli, tmp_path, two):
    assert cli("report", two[0], "--output", "page.html").out == "Written: page.html\n"
    assert pages(tmp_path) == {"page.html"}


def test_several_runs_have_a_page_each_and_one_that_compares_them(cli, tmp_path, two):
    outcome = cli("report", *two)

    assert outcome.out.splitlines() == [
        *(f"Written: {folder}/report.html" for folder in two),
        "Written: comparison.html",
    ]
    assert pages(tmp_path) == {"logs/a/version_0/report.html", "logs/a/version_1/report.html", "comparison.html"}
    assert "2 runs, side by side" in Path("comparison.html").read_text(encoding="utf-8")


def test_the_comparison_can_be_written_elsewhere(cli, tmp_path, two):
    assert cli("report", *two, "--output", "best.html").status == 0
    assert "best.html" in pages(tmp_path) and "comparison.html" not in pages(tmp_path)


@pytest.mark.parametrize("options", [(), ("--output", "logs/a/version_0/report.html")])
def test_a_new_page_replaces_the_old_one(cli, two, options):
    cli("report", two[0])
    write_run(two[0], test={**TEST, "test/acc": 0.75})

    assert cli("report", two[0], *options).status == 0
    assert "75.00 %" in (two[0] / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [(), ("--output", "comparison.html")])
def test_an_existing_comparison_is_replaced_only_with_overwrite(cli, tmp_path, two, options):
    Path("comparison.html").write_text("important")

    outcome = cli("report", *two, *options)

    assert (outcome.status, outcome.out) == (2, "")
    message = "--output comparison.html exists; add --overwrite to replace it, or name another"
    assert outcome.err == f"lightning-cnn: error: {message}\n"
    assert pages(tmp_path) == {"comparison.html"}
    assert Path("comparison.html").read_text() == "important"
    assert cli("report", *two, *options, "--overwrite").status == 0
    assert "2 runs, side by side" in Path("comparison.html").read_text(encoding="utf-8")


def test_a_page_elsewhere_is_replaced_only_with_overwrite(cli, two):
    Path("page.html").write_text("important")

    assert cli("report", two[0], "--output", "page.html").status == 2
    assert Path("page.html").read_text() == "important"
    assert cli("report", two[0], "--output", "page.html", "--overwrite").status == 0
    assert "Report of the run" in text(Path("page.html").read_text(encoding="utf-8"))


def test_an_undecodable_name_is_escaped(cli, two):
    assert cli("report", two[0], "--output", "\udcff.html").out == "Written: \\udcff.html\n"


def test_a_run_that_is_given_twice_is_reported_once(cli, tmp_path, two):
    (tmp_path / "link").symlink_to(two[0])

    assert cli("report", two[0], "logs/a/../a/version_0", "link").status == 0
    assert pages(tmp_path) == {"logs/a/version_0/report.html"}


def test_runs_of_the_same_name_have_longer_labels(cli, tmp_path):
    runs = [write_run(tmp_path / root / "mnist-cnn" / "version_0") for root in ("old", "new")]

    assert cli("report", *runs).status == 0
    page = text(Path("comparison.html").read_text(encoding="utf-8"))
    assert "old/mnist-cnn/version_0" in page and "new/mnist-cnn/version_0" in page


@pytest.mark.parametrize("reference", ["logs/a/version_0/checkpoints/best.ckpt", "best", "last", "previous"])
def test_a_checkpoint_is_accepted_in_place_of_its_run(cli, tmp_path, reference):
    run = write_run(tmp_path / "logs" / "a" / "version_0")
    (run / "checkpoints" / "previous.ckpt").touch()

    assert cli("report", reference).out == "Written: logs/a/version_0/report.html\n"


def test_best_is_that_of_the_newest_run(cli, two):
    for run, time in zip(two, (2_000, 1_000), strict=True):
        os.utime(run / "checkpoints", (time, time))

    assert cli("report", "best").out == "Written: logs/a/version_0/report.html\n"


def test_a_page_of_a_real_run(cli, run, tiny_data):
    assert cli("report", run).status == 0
    assert "not tested yet" in text((run / "report.html").read_text(encoding="utf-8"))
    assert cli("test", "--ckpt_path", run).status == 0
    assert cli("report", run).status == 0

    accuracy = json.loads((run / "test_metrics.json").read_text())["test/acc"]
    page = text((run / "report.html").read_text(encoding="utf-8"))
    assert f"test accuracy {100 * accuracy:.2f} % of 100 images" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: RUN (see `lightning-cnn report --help`)"),
        ("nowhere", "'nowhere' does not exist; give a run folder, such as logs/mnist-cnn/version_0"),
        (
            "logs",
            "'logs' is not a run folder: it has neither config.yaml nor metrics.csv; give a run in it, such as ",
        ),
        (
            "empty",
            "'empty' is not a run folder: it has neither config.yaml nor metrics.csv; give a folder that `fit`",
        ),
        ("file.txt", "'file.txt' is not a run folder"),
        ("logs/a/version_0 --output empty.HTML", "--output empty.HTML is a folder; name a file in it"),
        ("logs/a/version_0 --output logs/a/version_0/config.yaml", "config.yaml: the name must end in .html"),
        ("logs/a/version_0 --output no/x.html", "--output no/x.html cannot be written (no such file or directory)"),
        (
            "logs/a/version_0 logs/a/version_1 --output logs/a/version_1/report.html",
            "is the page of a run; name another file for the comparison",
        ),
        ("x" * 300, "x: File name too long; give a shorter path"),
        ("logs/a/version_0 --ouput x", "(choose from --help, --output, --overwrite); did you mean '--output'?"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(cli, tmp_path, two, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.HTML").mkdir()
    (tmp_path / "file.txt").write_text("not a run")
    outcome = cli("report", *arguments.split())

    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert pages(tmp_path) == set()


def test_without_runs_there_is_no_best(cli):
    outcome = cli("report", "best")

    assert outcome.status == 2
    assert "no matching run has a checkpoint best.ckpt; train with `fit` first" in outcome.err


def test_nothing_is_written_if_one_of_the_runs_is_damaged(cli, tmp_path, two):
    (two[1] / "test_metrics.json").write_text("{")
    outcome = cli("report", *two)

    assert outcome.status == 2
    assert f"{two[1] / 'test_metrics.json'} is not valid JSON" in outcome.err
    assert outcome.err.count("\n") == 1
    assert pages(tmp_path) == set()


@pytest.mark.parametrize("target", ["precious", "nowhere"])
def test_a_page_is_not_written_through_a_link_out_of_the_run(cli, tmp_path, two, target):
    (tmp_path / "precious").write_text("mine")
    (two[1] / "report.html").symlink_to(tmp_path / target)
    outcome = cli("report", *two)

    assert outcome.status == 2
    assert "report.html is a link that leads out of the run folder, to " in outcome.err
    assert outcome.err.count("\n") == 1
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists() and not Path("comparison.html").exists()
    assert cli("report", two[1], "--output", "page.html").status == 0


def test_names_that_are_no_text_are_written(cli, two):
    (two[0] / "data.json").write_text('{"dataset": "\\ud800", "origin": "x", "sample": false}')

    assert cli("report", two[0]).status == 0
    assert "\\ud800" in (two[0] / "report.html").read_text(encoding="utf-8")


def test_runs_are_not_looked_for_in_the_whole_disk(cli, tmp_path):
    write_run(tmp_path / "x" / "a" / "b" / "version_0")
    write_run(tmp_path / "y" / "a" / "b" / "c" / "version_0")

    assert "give a run in it, such as x/a/b/version_0" in cli("report", "x").err
    assert "give a folder that `fit` has written" in cli("report", "y").err


def test_a_read_only_folder_is_exit_status_1(cli, tmp_path, two, monkeypatch):
    opened = os.open

    def refuse(path, flags, *args, **options):  # also for root
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    outcome = cli("report", two[0])

    assert outcome.status == 1
    page = f"{two[0]}/report.html"
    assert outcome.err == f"lightning-cnn: error: {page}: Permission denied; free space, or choose another folder\n"
    assert pages(tmp_path) == set()


def test_it_works_without_torch(two):
    code = (
        "import sys\nfrom lightning_cnn.cli import main\nfrom lightning_cnn.report import figures\n"
        "figures._source = lambda figure: 'data:image/svg+xml;base64,'\n"
        f"assert main(['report', {str(two[0])!r}]) == 0\n"
        "assert not {'torch', 'lightning', 'torchvision', 'pandas'} & sys.modules.keys()"
    )

    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
