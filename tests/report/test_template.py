import pytest
from jinja2 import UndefinedError

from lightning_cnn.report.template import breakable, render


def test_what_a_template_asks_for_must_be_given():
    with pytest.raises(UndefinedError):
        render("run.html")


def test_lines_may_end_after_separators_and_the_text_is_escaped():
    assert breakable("a/b.c_d-e_0") == "a/<wbr>b.<wbr>c_<wbr>d-<wbr>e_0"
    assert breakable("<b>/&") == "&lt;b&gt;/<wbr>&amp;"
