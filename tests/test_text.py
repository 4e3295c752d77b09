import pytest

from lightning_cnn.text import (
    READABLE,
    encodable,
    path_from_spreadsheet,
    printable,
    shorten_words,
    spreadsheet_safe,
    spreadsheet_safe_path,
    text_from_spreadsheet,
)


def test_letters_of_all_languages_are_printable():
    assert printable("Größe 龙 – “x”") == "Größe 龙 – “x”"


def test_control_sequences_are_escaped():
    assert printable("\u202eevil\x07\n\x1b[31m\udcff") == "\\u202eevil\\x07\\n\\x1b[31m\\udcff"


FORMULAS = [f"{start}1" for start in ("=", "+", "-", "@", "\t", "\r", "\n", " =", "\u3000@", "＝", "＋", "－", "＠")]


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_are_escaped(formula):
    assert spreadsheet_safe(formula) == f"'{formula}"
    assert spreadsheet_safe_path(formula) == f"./{formula}"


@pytest.mark.parametrize("text", [*FORMULAS, "'=1", "''=1", "'", "''", "", "a", "'s", "a=1", " b"])
def test_escaped_text_is_read_back(text):
    assert text_from_spreadsheet(spreadsheet_safe(text)) == text
    assert text_from_spreadsheet(text_from_spreadsheet(spreadsheet_safe(spreadsheet_safe(text)))) == text


@pytest.mark.parametrize("path", [*FORMULAS, "'=1", "a/=1.png", "1.png"])
def test_an_escaped_path_is_read_back(path):
    assert path_from_spreadsheet(spreadsheet_safe_path(path)) == path


def test_different_texts_stay_different():
    assert len({spreadsheet_safe(text) for text in ("=1", "'=1", "''=1", "'", "1")}) == 5


def test_output_in_ascii_stays_readable():
    text = "epoch 1/5 · 98.1 ± 0.2 % → best … 3×3 │ ─"

    assert encodable(text, "ascii") == "epoch 1/5 - 98.1 +- 0.2 % -> best ... 3x3 | -"
    assert encodable(text, "utf-8") == encodable(text, None) == text
    assert "龙 \udcff ·".encode("ascii", READABLE) == b"\\u9f99 \\udcff -"


def test_very_long_words_are_shortened():
    assert shorten_words(f"error: {'x' * 10_000}: unknown") == f"error: {'x' * 150}…{'x' * 149}: unknown"
    assert shorten_words(f"error: {'x' * 250} 'y'") == f"error: {'x' * 250} 'y'"
