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
    options = ("--host", "127.0.0.1", "--port", "0", "--load_fast", "false")
    with load("pictures").server("tensorboard.main", "--logdir", str(tested_run.parents[1]), *options) as address:
        yield address


def test_scalars_images_and_hyperparameters_are_there(visit, address, tested_run):
    test = json.loads((tested_run / "test_metrics.json").read_text())
    visited = visit(f"{address}#custom_scalars", width=1600, height=1200)
    page = visited.page
    page.set_default_timeout(PATIENCE)

    def see(*texts: str) -> None:
        for text in texts:
            page.get_by_text(text).first.wait_for()

    # Losses, accuracies, and accuracies per class: the number of lines on each chart.
    see("training and validation", "validation accuracy per class", "Matches (2)", "Matches (10)")

    page.get_by_role("tab", name="Images").click()
    see("training/samples", "training/confusion_matrix", "training/filters", "test/mistakes")
    images = page.locator("tf-image-loader img")
    images.first.wait_for()
    page.wait_for_function("all => all.every(one => one.naturalWidth > 0)", arg=images.element_handles())

    page.get_by_role("tab", name="HParams").click()
    # TensorBoard shows five digits.
    see("model.optimizer.lr", "test/acc", f"{test['test/acc']:#.5g}", f"{test['test/loss']:#.5g}")

    assert visited.errors == []
    hosts = {request.split("/")[2] for request in visited.requests if request[:4] == "http"}
    assert hosts == {address.split("/")[2]}
