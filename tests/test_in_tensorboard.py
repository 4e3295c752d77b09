"""What a browser shows of a run in TensorBoard."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from script import load

pytest_plugins = ["browser"]
#: Milliseconds that TensorBoard may take to start and to load its pages.
PATIENCE = 60_000


@pytest.fixture
def tested_run(fit) -> Path:
    drawn = ("--plots.enabled", "true", "--dashboard.enabled", "true")
    run: Path = fit("fashion_mnist/shallow_cnn.yaml", *drawn, "--test", "true")
    return run


@pytest.fixture
def address(tested_run: Path) -> Iterator[str]:
    """The address at which TensorBoard serves the logs of the run."""
    with load("pictures").tensorboard(tested_run.parents[1]) as address:
        yield address


def test_scalars_images_and_hyperparameters_are_there(visit, address, tested_run):
    test = json.loads((tested_run / "test_metrics.json").read_text())
    visits = []

    def see(tab: str, *texts: str):
        visits.append(visit(f"{address}#{tab}", width=1600, height=1200))
        page = visits[-1].page
        page.set_default_timeout(PATIENCE)
        for text in texts:
            page.get_by_text(text).first.wait_for()
        return page

    # Losses, accuracies, and accuracies per class: the number of lines on each chart.
    charts = see("custom_scalars", "training and validation", "validation accuracy per class")
    for matches in ("Matches (2)", "Matches (10)"):
        charts.get_by_text(matches).first.wait_for()

    images_tab = see("images", "training/samples", "training/confusion_matrix", "training/filters", "test/mistakes")
    images = images_tab.locator("tf-image-loader img")
    images.first.wait_for()
    images_tab.wait_for_function("all => all.every(one => one.naturalWidth > 0)", arg=images.element_handles())

    # TensorBoard shows five digits.
    see("hparams", "model.optimizer.lr", "test/acc", f"{test['test/acc']:#.5g}", f"{test['test/loss']:#.5g}")

    assert [visited.errors for visited in visits] == [[], [], []]
    hosts = {request.split("/")[2] for visited in visits for request in visited.requests if request[:4] == "http"}
    assert hosts == {address.split("/")[2]}
