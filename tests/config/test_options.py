from pathlib import Path

import pytest

from lightning_cnn.config.options import Parser, one_of, require_new, require_writable
from lightning_cnn.errors import UserError


def test_an_error_is_one_line_that_names_the_help():
    parser = Parser("lightning-cnn data", "Do something.")
    parser.add_argument("--number", type=int)

    with pytest.raises(UserError) as caught:
        parser.parse_args(["--number", "x"])

    assert str(caught.value) == "argument --number: invalid int value: 'x' (see `lightning-cnn data --help`)"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["a"], (False, ["a"])),
        (["--force", "a"], (True, ["a"])),
        (["a", "--force"], (True, ["a"])),
        (["--force", "true", "a"], (True, ["a"])),
        (["--force=false", "a", "true"], (False, ["a", "true"])),
        (["--force", "false", "a"], (False, ["a"])),
    ],
)
def test_a_switch_is_given_alone_or_with_true_or_false(argv, expected):
    parser = Parser("lightning-cnn data", "Do something.")
    parser.add_switch("--force", help="force it")
    parser.add_argument("files", nargs="+")

    arguments = parser.parse(argv)

    assert (arguments.force, arguments.files) == expected


def test_a_choice_is_returned():
    assert one_of(("fetch", "verify"), "verify", "verb") == "verify"


@pytest.mark.parametrize(
    ("value", "what", "message"),
    [
        ("fetsh", "verb", "'fetsh' is not a verb (choose from fetch, verify); did you mean 'fetch'?"),
        ("verfy", "action", "'verfy' is not an action (choose from fetch, verify); did you mean 'verify'?"),
        ("xyzzy", "verb", "'xyzzy' is not a verb (choose from fetch, verify)"),
        ("", "verb", "'' is not a verb (choose from fetch, verify)"),
    ],
)
def test_another_value_is_refused_with_the_closest_choice(value, what, message):
    with pytest.raises(UserError) as caught:
        one_of(iter(("fetch", "verify")), value, what)

    assert str(caught.value) == message


def test_a_device_is_not_replaced_by_a_file():
    with pytest.raises(UserError, match=r"--output /dev/null is a device or a pipe; name a file"):
        require_writable("--output", Path("/dev/null"))


def test_a_name_must_have_one_of_the_endings(tmp_path):
    require_writable("--output", tmp_path / "a.CSV", ".csv", ".json")
    with pytest.raises(UserError, match=r"--output .*a\.txt: the name must end in \.csv or \.json"):
        require_writable("--output", tmp_path / "a.txt", ".csv", ".json")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "is a folder; name a file in it"),
        ("nowhere/a.csv", r"cannot be written \(no such file or directory\); name a file in a folder of yours"),
        ("far", "is a link that leads nowhere; name a file"),
        ("round", "is a link that leads nowhere; name a file"),
        ("round/a.csv", r"cannot be written \(too many levels of symbolic links\)"),
        ("n" * 250, r"cannot be written \(file name too long\)"),  # the name of the unfinished file is longer
        ("n" * 5_000, r"cannot be written \(file name too long\)"),
    ],
)
def test_an_unwritable_path_is_refused(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "far").symlink_to("nowhere/a.csv")
    (tmp_path / "round").symlink_to("round")

    with pytest.raises(UserError, match=f"^--output .*{name} {message}"):
        require_writable("--output", tmp_path / name)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "folder", "round"]


def test_an_existing_file_is_replaced_only_with_overwrite(tmp_path):
    path = tmp_path / "a.csv"
    require_new("--output", path, overwrite=False)
    path.touch()
    require_new("--output", path, overwrite=True)

    with pytest.raises(UserError, match=r"^--output .*a\.csv exists; add --overwrite to replace it, or name another$"):
        require_new("--output", path, overwrite=False)
