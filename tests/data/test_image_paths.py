import os
import subprocess
from pathlib import Path

import pytest

from lightning_cnn.data.image_files import DOCUMENTS, STDIN, SUFFIXES
from lightning_cnn.data.image_paths import find, require_local
from lightning_cnn.errors import UserError


def found(*names: object) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the files that are found for these arguments, and the failures."""
    failures: list[tuple[str, str]] = []
    files = [str(path) for path in find(map(str, names), lambda name, error: failures.append((name, str(error))))]
    return files, failures


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_a_file_may_have_any_name():
    touch("a.txt", "[1].png", "b*.png", "b1.png")

    assert found("a.txt", "[1].png", "b*.png", "nowhere.png") == (["a.txt", "[1].png", "b*.png", "nowhere.png"], [])


def test_the_images_of_a_folder_and_its_subfolders_are_found_sorted():
    touch("d/b.png", "d/a.PNG", "d/notes.txt", "d/.hidden.png", "d/2/z.jpeg", "d/1/y.webp", "d/.git/x.png", "other.png")

    assert found("d") == (["d/a.PNG", "d/b.png", "d/1/y.webp", "d/2/z.jpeg"], [])
    assert found("d/2/", "d/1") == (["d/2/z.jpeg", "d/1/y.webp"], [])


def test_linked_folders_are_skipped_but_linked_files_are_not():
    touch("far/a.png", "d/b.png")
    Path("d/far").symlink_to(Path("far").absolute())
    Path("d/round").symlink_to(Path("d").absolute())
    Path("d/c.png").symlink_to(Path("far/a.png").absolute())

    assert found("d") == (["d/b.png", "d/c.png"], [])


def test_a_folder_without_images_is_reported():
    touch("d/notes.txt")

    files, ((name, error),) = found("d", "d/notes.txt")

    assert (files, name) == (["d/notes.txt"], "d")
    assert error.startswith("no images in this folder; files that end in .png, .jpg,")


@pytest.fixture
def closed(monkeypatch):
    """Make folders with this name unreadable, also for root."""
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("name", ["d", "d/**/*.png", "d/**"])
def test_a_folder_that_cannot_be_read_is_reported_and_the_others_are_read(name):
    touch("d/a.png", "d/closed/b.png", "d/open/c.png")

    files, failures = found(name)

    assert files == ["d/a.png", "d/open/c.png"]
    assert failures == [("d/closed", "cannot be read (permission denied); change its permissions or leave it out")]


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("name", ["d/closed/*.png", "d/closed/**/*.png", "d/*/?.png"])
def test_a_pattern_in_a_folder_that_cannot_be_read_is_reported(name):
    touch("d/closed/b.png")

    files, (first, second) = found(name)

    assert files == []
    assert first == ("d/closed", "cannot be read (permission denied); change its permissions or leave it out")
    assert second[0] == name


@pytest.fixture
def deep():
    """A file that is nested deeper than Python's recursion limit."""
    here, folder = Path.cwd(), Path("d")
    for _ in range(1_100):
        folder.mkdir()
        os.chdir(folder)
    touch("a.png")
    os.chdir(here)
    yield "d/" * 1_100 + "a.png"
    subprocess.run(["rm", "-r", "d"], check=True)  # shutil.rmtree is recursive


def test_folders_may_be_nested_to_any_depth(deep):
    assert found("d")[0] == found("**/*.png")[0] == [deep]


def test_the_files_that_match_a_pattern_are_found_sorted():
    touch("b/2.png", "b/1.png", "a/c/3.png", "a/4.jpg", "a/.5.png")

    assert found("b/*.png") == (["b/1.png", "b/2.png"], [])
    assert found("**/*.png") == (["a/c/3.png", "b/1.png", "b/2.png"], [])
    assert found("a/*") == (["a/4.jpg"], [])
    assert found("b/[2-9].png") == (["b/2.png"], [])
    assert found("*/../b/1.*") == (["a/../b/1.png", "b/../b/1.png"], [])
    assert found("**") == (["a/4.jpg", "a/c/3.png", "b/1.png", "b/2.png"], [])
    assert found("*/*/**/*.png") == (["a/c/3.png"], [])
    assert found("a/.*") == (["a/.5.png"], [])
    assert found(f"{Path.cwd()}/?/4.jpg") == ([f"{Path.cwd()}/a/4.jpg"], [])


def test_a_pattern_finds_a_file_once_despite_circular_links():
    touch("a/1.png")
    Path("a/round").symlink_to(Path("a").absolute())
    Path("a/itself").symlink_to("itself")

    assert found("**/1.png") == (["a/1.png"], [])
    assert found("**/**/*.png") == (["a/1.png"], [])
    assert found("a/*/1.png") == (["a/round/1.png"], [])  # a link that is named is followed


def test_a_pattern_without_a_match_is_reported():
    files, ((name, error),) = found("*.png")

    assert (files, name) == ([], "*.png")
    assert error.startswith("no file matches this pattern; ")


def test_files_are_found_lazily():
    touch("a.png")

    names = iter(["a.png", "a.png"])
    files = find(names, print)

    assert next(files) == Path("a.png")
    assert next(names) == "a.png"


@pytest.mark.parametrize("suffix", SUFFIXES + DOCUMENTS)
def test_a_folder_stands_for_its_files_of_every_format(suffix):
    touch(f"d/a{suffix.upper()}")

    assert found("d") == ([f"d/a{suffix.upper()}"], [])


def test_a_dash_stands_for_stdin_and_a_file_of_that_name_for_itself():
    touch("-")

    assert next(iter(find(["-", "./-"], print))) is STDIN
    assert found("./-") == (["-"], [])


@pytest.mark.parametrize(
    "name",
    ["http://a.org/1.png", "HTTPS://a.org", "ftp://a/b", "s3://b/k.png", "gs://b/*.png", "data:image/png;base64,A"],
)
def test_an_address_is_refused_with_a_way_out(name):
    with pytest.raises(UserError) as caught:
        require_local(["a.png", name])

    assert str(caught.value) == (
        f"{name} is an address; download it first, or pipe it: `curl ADDRESS | lightning-cnn predict CHECKPOINT -`"
    )


def test_an_address_of_a_file_is_refused_with_its_own_way_out():
    with pytest.raises(UserError, match=r"file:///a\.png is an address; give the path alone, without file:"):
        require_local(["file:///a.png"])


def test_names_with_colons_are_files():
    touch("http:/a", "data:1.png")

    require_local(["12:30.png", "scan:1.png", "http://a", "data:1.png", "C:/a.png", "httpx"])
