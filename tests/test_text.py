import pytest

from lightning_cnn.text import READABLE, encodable, printable, shorten_words, spreadsheet_safe


def test_letters_of_all_languages_are_printable():
    assert printable("Größe 龙 – “x”") == "Größe 龙 – “x”"


def test_control_sequences_are_escaped():
    assert printable("\u202eevil\x07\n\x1b[31m\udcff") == "\\u202eevil\\x07\\n\\x1b[31m\\udcff"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_escaped(start):
    assert spreadsheet_safe(f"{start}1") == f"'{start}1"


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
