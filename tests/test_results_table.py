import pytest
from checkout import ROOT
from script import load

from lightning_cnn.errors import UserError
from lightning_cnn.sweep.records import Records

ROW = {
    "val/acc": "0.9", "epochs": "2", "seconds": "10.0", "parameters": "1234", "processor": "AMD EPYC", "cores": "2",
    "device": "cpu", "processes": "1", "threads": "1", "precision": "32-true", "python": "3.11.7", "torch": "2.15.0",
    "lightning": "2.6.6",
}  # fmt: skip


@pytest.fixture(scope="module")
def script():
    return load("results")


@pytest.fixture
def results(tmp_path):
    """A folder with records of two configs, one of them on two machines, and a README without a table."""
    folder = tmp_path / "results"
    cnn = {seed: ROW | {"test/acc": str(0.99 + seed / 1000)} for seed in (0, 1, 2)}
    cnn |= {4: {**ROW, "test/acc": "0.991", "seconds": "", "device": "NVIDIA H200", "threads": "16"}, 5: ROW}
    cnn[5] = {name: value for name, value in ROW.items() if name != "val/acc"}  # diverged
    Records(folder / "mnist/cnn.csv", "mnist/cnn", "0123").add(cnn)
    Records(folder / "mnist/mlp.csv", "mnist/mlp", "4567").add({0: ROW | {"test/acc": "0.98"}})
    (tmp_path / "README.md").write_text("# Title\n{}{}rest\n".format(*load("results").MARKERS))
    return folder


def test_the_table(script, results):
    lines = script.table(results).splitlines()

    assert lines[3:5] == [
        "| `mnist/cnn` | 1,234 | 2 | 99.10 ± 0.08 % | 98.97–99.23 % | 0–2, 4–5, 1 of them diverged | 10 |",
        "| `mnist/mlp` | 1,234 | 2 | 98.00 % |  | 0 | 10 |",
    ]
    machine = "Python 3.11.7, torch 2.15.0, lightning 2.6.6"
    first = lines.index(f"- NVIDIA H200, 16 threads, 32-true, {machine}: `mnist/cnn` 4")
    assert lines[first + 1] == f"- AMD EPYC, 2 cores, 1 thread, 32-true, {machine}: all others"
    assert "lightning-cnn sweep --config configs/mnist/cnn.yaml --seeds 6 --test true --results measured" in lines


def test_the_readme_is_written_once_and_then_agrees(script, results, capsys):
    readme = results.parent / "README.md"
    arguments = ["--results", str(results), "--readme", str(readme)]

    assert script.main([*arguments, "--check"]) == 1
    assert capsys.readouterr().err == f"{readme} does not agree with {results}; run scripts/results\n"
    assert script.main(arguments) == 0
    assert script.main([*arguments, "--check"]) == 0
    text = readme.read_text()
    assert text.startswith("# Title\n<!-- ") and text.endswith("rest\n")
    assert script.main(arguments) == 0 and readme.read_text() == text


def test_a_readme_without_markers_is_one_line(script, results, capsys):
    (results.parent / "README.md").write_text("# Title\n")

    assert script.main(["--results", str(results), "--readme", str(results.parent / "README.md")]) == 2
    assert capsys.readouterr().err.startswith("scripts/results: error: the README must have one line <!-- results")
    with pytest.raises(UserError):
        script.with_table("".join(reversed(script.MARKERS)), "")


def test_the_readme_agrees_with_the_records(script, monkeypatch):
    monkeypatch.chdir(ROOT)

    assert script.main(["--check"]) == 0
