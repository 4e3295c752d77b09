import pytest

from lightning_cnn.text import printable, spreadsheet_safe


def test_letters_of_all_languages_are_printable():
    assert printable("Größe 龙 – “x”") == "Größe 龙 – “x”"


def test_control_sequences_are_escaped():
    assert printable("\u202eevil\x07\n\x1b[31m\udcff") == "\\u202eevil\\x07\\n\\x1b[31m\\udcff"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_escaped(start):
    assert spreadsheet_safe(f"{start}1") == f"'{start}1"


def test_different_texts_stay_different():
    assert len({spreadsheet_safe(text) for text in ("=1", "'=1", "''=1", "'", "1")}) == 5
