"""The notebook of the documentation, cell by cell; `scripts/docs` runs it in Jupyter's kernel."""

import json
import re
from typing import Any

import pytest
from checkout import ROOT
from pages import DOCS

NOTEBOOK: dict[str, Any] = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))
CELLS: dict[str, str] = {
    cell["id"]: "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"
}


def test_it_opens_everywhere_and_has_no_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in NOTEBOOK["cells"])
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])


def test_links_lead_to_pages() -> None:
    text = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"])
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)

    assert links
    assert all((DOCS / link).is_file() for link in links)


@pytest.mark.usefixtures("_one_thread", "no_figures")
def test_it_trains_on_the_sample_and_reads_a_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_CNN_DATA_DIR", raising=False)
    names: dict[str, Any] = {}
    for cell, code in CELLS.items():
        exec(compile(code, f"{ROOT.name}/{cell}", "exec"), names)

    assert names["run"].metrics["test/acc"] > 0.9
    assert names["prediction"].label == "7"
    assert {"history", "confusion_matrix", "mistakes"} <= names["run"].plots.keys()
