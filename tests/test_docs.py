"""The documentation: its pages, links, pictures and reference. `scripts/docs` builds it, with warnings as errors."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from checkout import ROOT
from pages import DOCS, PAGES, TEXT, blocks

from lightning_cnn.cli import COMMANDS
from lightning_cnn.config.yaml import read_config
from lightning_cnn.sweep.space import build_space

WRITTEN = (*PAGES, ROOT / "CHANGELOG.md", ROOT / "CODE_OF_CONDUCT.md")
#: `[text](target)` and `![text](target)`, with an anchor or without.
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_a_table_of_contents() -> None:
    assert {page for page in PAGES if DOCS in page.parents} == {*DOCS.rglob("*.md")}


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_command_has_a_page_with_its_options() -> None:
    folder = DOCS / "reference/commands"
    index = (folder / "index.md").read_text(encoding="utf-8")

    assert {page.stem for page in folder.glob("*.md")} - {"index"} == {*COMMANDS}
    for command, summary in COMMANDS.items():
        assert blocks(f"{{options}} {command}", (folder / f"{command}.md").read_text(encoding="utf-8"))
        assert f"| [{command}]({command}.md) | {summary} |" in index


@pytest.mark.parametrize("command", ["fit", "sweep", "serve"])
def test_the_options_are_those_of_the_parser(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    monkeypatch.syspath_prepend(DOCS / "extensions")
    extension = import_module("command_line")
    parser = extension.parser_of(command)

    shown = {name for action in parser._actions if extension.is_documented(action) for name in action.option_strings}

    assert {"fit": "--trainer.max_epochs", "sweep": "--n_trials", "serve": "--timeout"}[command] in shown
    assert "--help" not in shown
    assert not any(name.endswith(".help") for name in shown)


@pytest.mark.parametrize(
    "module", ["", ".classifiers", ".networks", ".data", ".data.augment", ".callbacks", ".training"]
)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    reference = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference/api").glob("*.md"))
    name = f"lightning_cnn{module}"

    for public in import_module(name).__all__:
        assert re.search(rf"^\.\. auto\w+:: {re.escape(name)}\.{public}$", reference, re.MULTILINE), public


def test_every_config_is_in_the_reference() -> None:
    page = (DOCS / "reference/config.md").read_text(encoding="utf-8")
    names = {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in ROOT.glob("configs/**/*.yaml")}

    for name in names - {"default"}:
        assert f"`{name}`" in page or name.startswith("sweeps/"), name


def test_every_environment_variable_is_in_the_reference() -> None:
    page = (DOCS / "reference/commands/index.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("lightning_cnn/**/*.py"))

    own = {"LIGHTNING_CNN_PARENT"}  # set by a process for those that it starts
    assert {name for name in re.findall(r"\bLIGHTNING_CNN_[A-Z_]+\b", code) if f"`{name}`" not in page} == own


def test_every_picture_is_used_small_and_made_by_the_script() -> None:
    script = (ROOT / "scripts/pictures").read_text(encoding="utf-8")
    used = set(re.findall(r"pictures/(\w+)\.png", TEXT))

    assert used == {path.stem for path in (DOCS / "pictures").iterdir()}
    for name in used:
        assert (DOCS / f"pictures/{name}.png").stat().st_size < 100_000
        assert f'"{name}"' in script or f'"{name}.png"' in script, name


@pytest.mark.parametrize("text", blocks("yaml", TEXT))
def test_every_search_space_is_valid(text: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text)

    assert build_space(read_config(tmp_path / "space.yaml"), "space").settings


def test_the_workflow_runs_what_contributors_run() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["tests"]

    assert [step["run"] for step in job["steps"] if "run" in step] == ["scripts/check", "scripts/test", "scripts/docs"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]


def test_the_citation_has_the_version() -> None:
    from lightning_cnn import __version__

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__
