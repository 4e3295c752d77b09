import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_cnn.config import yaml as configs
from lightning_cnn.errors import UserError

SHIPPED = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


def lists(levels: int, of: int = 10) -> str:
    """Lists of aliases of lists, ten to the power of `levels` values in all."""
    lines = ["a0: &a0 boom"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * of)}]" for n in range(1, levels + 1)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], y{n}: 1}}" for n in range(1, levels + 1)]
    return "\n".join(lines)


def refusal(content: str | bytes) -> str:
    path = Path("mine.yaml")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        configs.read_config(path)
    message = str(caught.value)
    assert message.startswith("mine.yaml is not ")
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_configs_are_valid(path):
    assert configs.dump(configs.read_config(path))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, d: 2}\nc: {<<: *x, b: 3}", {"a": {"b": 1, "d": 2}, "c": {"b": 3, "d": 2}}),
        ("---\na: 1\n...\n", {"a": 1}),
        ("a: !!str 1", {"a": "1"}),
        ("a: {x: 1}\nb: {x: 1}", {"a": {"x": 1}, "b": {"x": 1}}),
        ("a: '99999999999999999999'", {"a": "99999999999999999999"}),
        ("a: '.nan'", {"a": ".nan"}),
        ("a: 9223372036854775807", {"a": 2**63 - 1}),
        ("a: 2024-13-45", {"a": "2024-13-45"}),
        ("trainer:", {"trainer": None}),
        ("\ufeffa: 1", {"a": 1}),
        (lists(4), None),
        (merges(3), None),
    ],
)
def test_valid_yaml_is_read(text, content):
    Path("mine.yaml").write_text(text)

    read = configs.read_config(Path("mine.yaml"))

    assert content is None or read == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("trainer: {max_epochs: 1}\ntrainer: {max_epochs: 2}", "'trainer' is given twice (line 2); keep one"),
        ("trainer:\n  max_epochs: 1\n  max_epochs: 1", "'max_epochs' is given twice (line 3); keep one"),
        ("callbacks: [{a: 1, a: 2}]", "'a' is given twice (line 1)"),
        ("trainer: {max_epochs: 1}\n---\ntrainer: {max_epochs: 2}", "several documents (line 2)"),
        ("a: &a [*a]", "*a (line 1) has no anchor before it"),
        ("a: &a {b: *a}", "*a (line 1) has no anchor before it"),
        ("a: *b", "*b (line 1) has no anchor before it"),
        (lists(9), "its aliases stand for more than 20,000 values"),
        (lists(60, of=2), "its aliases stand for more than 20,000 values"),
        (f"a: &a {'x' * 1000}\nb: [{'*a,' * 1000}]", "its aliases stand for more than 1,000,000 characters"),
        (f"[{'a,' * 20_001}]", "it has more than 20,000 values"),
        (merges(9), "its aliases stand for more than 20,000 values"),
        ("a: " + "[" * 100, "nested more than 50 deep (line 1)"),
        ("[" * 50_000, "nested more than 50 deep (line 1)"),
        ("a: " + "{a: " * 1000 + "}" * 1000, "nested more than 50 deep (line 1)"),
        ("!!python/object/apply:os.mkdir [hacked]", "the tag 'tag:yaml.org,2002:python/object/apply:os.mkdir'"),
        ("a: !!python/name:os.system", "the tag 'tag:yaml.org,2002:python/name:os.system' (line 1)"),
        ("a: !mine {b: 1}", "the tag '!mine' (line 1); only plain values are allowed"),
        ("a: !!set {b}", "the tag 'tag:yaml.org,2002:set'"),
        ("a: !!binary aGVsbG8=", "the tag 'tag:yaml.org,2002:binary'"),
        ("lr: .nan", ".nan (line 1) is not a finite number"),
        ("lr: -.INF", "-.INF (line 1) is not a finite number"),
        ("lr: 1e999", "1e999 (line 1) is not a finite number"),
        ("epochs: 99999999999999999999", "the number '99999999999999999999' (line 1) is too large"),
        ("epochs: " + "9" * 5000, "(line 1) is too large"),
        ("epochs: 0x" + "f" * 5000, "(line 1) is too large"),
        ("epochs: 0x_", "invalid number"),
    ],
)
def test_invalid_yaml_is_refused_with_the_reason(text, reason):
    message = refusal(text)

    assert message.startswith("mine.yaml is not a valid config: ")
    assert reason in message
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it must map settings such as trainer to values, it has no settings"),
        ("# nothing", "it has no settings"),
        ("- a\n- b", "got list"),
        ("text", "got 'text'"),
        ("7", "got 7"),
        ("a: [1", "not valid YAML: expected ',' or ']', but got '<stream end>' (line 1, column 6)"),
        ("a: b: c", "not valid YAML: mapping values are not allowed here (line 1, column 5)"),
        ("? [a]\n: b", "not valid YAML: found unhashable key (line 1, column 3)"),
        ("a: 1".encode("utf-16"), "not text in UTF-8"),
        ("# é".encode("latin-1"), "not text in UTF-8"),
        (b"\xff\xfe\x00model", "not text in UTF-8"),
        (b"a: 1\x00", "it has NUL bytes"),
        (b"a: \x1b[31m", "not valid YAML"),
        (b"#" * (configs.MAX_BYTES + 1), "it has 100,001 bytes, more than 100,000"),
    ],
)
def test_files_that_are_not_configs_are_refused_with_the_reason(content, reason):
    assert reason in refusal(content)


@pytest.mark.parametrize("name", ["nowhere.yaml", "x" * 300, "a\0b", "file/below.yaml"])
def test_files_that_cannot_be_read_are_named(name):
    Path("file").touch()

    with pytest.raises(UserError, match=r"^config '.* cannot be read \(.*\); give a YAML file"):
        configs.read_config(Path(name))


def test_folders_pipes_and_devices_are_refused_at_once():
    os.mkfifo("pipe")
    Path("folder").mkdir()

    for name, kind in (("pipe", "a device or a pipe"), ("/dev/zero", "a device or a pipe"), ("folder", "a folder")):
        with pytest.raises(UserError, match=rf"^{name} is not a config: it is {kind}; give a YAML file$"):
            configs.read_config(Path(name))


def test_the_parser_reads_strictly_too():
    with pytest.raises(configs.InvalidConfigError, match="'a' is given twice"):
        configs.load("{a: 1, a: 2}")
    assert configs.load("1e-3") == 0.001  # unlike YAML 1.1
    assert configs.load("2024-01-01") == "2024-01-01"


keys = st.text(min_size=1, max_size=8)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(-1e300, 1e300, allow_subnormal=False)
    | st.text()
)
content = st.dictionaries(
    keys,
    st.recursive(
        plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
    ),
)


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(content)
def test_what_is_dumped_is_loaded(content):
    text = configs.dump(content)

    assert configs.parse_config(text, "mine") == content


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.text(st.sampled_from("ab:{}[],&*!-?|>'\"#% \n\t0.9é~<")) | st.text())
def test_any_text_is_a_config_or_refused_in_one_line(text):
    message = ""
    try:
        assert isinstance(configs.parse_config(text, "mine"), dict)
    except UserError as error:
        message = str(error)

    assert message.splitlines() in ([], [message])
