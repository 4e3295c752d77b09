import time

import pytest

from lightning_cnn.config.json import read_json
from lightning_cnn.errors import UserError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.json"


def test_an_object_is_read(path):
    path.write_text('{"a": [1, -0.5, 1e3, null, true, "\\u00e4", {}], "b": 9223372036854775807}')

    assert read_json(path) == {"a": [1, -0.5, 1000.0, None, True, "ä", {}], "b": 2**63 - 1}


def test_without_a_file_there_is_nothing(path):
    assert read_json(path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON: Expecting property name"),
        ("[]", r"must be a JSON object, got \[\]; repair or delete it"),
        ("1", "must be a JSON object, got 1"),
        (b"\xff", "is not text in UTF-8"),
        ("[" * 2_500, "is not valid JSON: nested more than 50 deep; repair"),
        ("[" * 100_000 + "]" * 100_000, "nested more than 50 deep"),
        ("[" * 51 + "]" * 51, "nested more than 50 deep"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested more than 50 deep"),
        ('{"a": NaN}', "NaN is not a number in JSON"),
        ('{"a": -Infinity}', "-Infinity is not a number in JSON"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": 10000000000000000000}', "the number 10000000000000000000… is too large"),
        (f'{{"a": -{"9" * 5_000}}}', "the number -9{29}… is too large"),
        ('{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "'c' is given twice"),
        ('{"a": "' + "x" * 5_000_000 + '"}', r"x\.json has 5,000,009 bytes, more than 4,000,000; repair or delete it"),
    ],
)
def test_what_is_refused_is_named_in_one_line(path, content, message):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(UserError, match=message) as caught:
        read_json(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_fifty_levels_are_read(path):
    path.write_text('{"a": ' + "[" * 49 + "]" * 49 + "}")

    assert len(read_json(path)) == 1


def test_a_key_among_many_that_is_given_twice_is_found_at_once(path):
    keys = [f"{number:x}" for number in range(300_000)]
    path.write_text("{" + ",".join(f'"{key}":1' for key in [*keys, keys[-1]]) + "}")
    started = time.process_time()

    with pytest.raises(UserError, match=f"'{keys[-1]}' is given twice"):
        read_json(path)

    assert time.process_time() - started < 5
