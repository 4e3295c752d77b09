from pathlib import Path

import pytest

from lightning_cnn.benchmark import sections
from lightning_cnn.benchmark.sections import SECTIONS, Options


@pytest.fixture
def options() -> Options:
    return Options(
        repeats=2,
        systems=["CNN", "MLP"],
        data_dir=Path("data"),
        allow_sample=False,
        torchvision_dir=Path("unpacked"),
        reference=True,
        limit_batches=None,
    )


#: What the stand-ins return, besides seconds.
RESULTS = {
    "plain.train": {"train_images": 100, "val_acc": 0.5},
    "fit_system": {"precision": "bf16-mixed", "first_step_seconds": 8.0},
    "pipeline.plain": {"train_images": 100},
    "pipeline.ours": {"train_images": 100},
    "fit_and_test": {"test_acc": 0.99},
    "reference.train": {"target": 0.99, "epochs": [{"test_acc": 0.98}, {"test_acc": 0.991}]},
    "machine.step_rate": {"flops": 4e9, "gflops_per_second": 50.0},
}


@pytest.fixture
def calls(monkeypatch) -> list:
    """What was run, in order; nothing is, and everything takes so many seconds as there were runs before, and one."""
    ran = []

    def run(name, **arguments):
        ran.append((name, arguments))
        if name == "machine.matmul_rates":
            return {"32-true": 100.0, "bf16-mixed": 200.0}
        return {"seconds": float(len(ran)), **RESULTS.get(name, {})}

    monkeypatch.setattr(sections, "call", run)
    monkeypatch.setattr(sections, "fit_system", lambda system, **more: run("fit_system", system=system, **more))
    monkeypatch.setattr(sections, "fit_and_test", lambda config, **more: run("fit_and_test", config=config, **more))
    monkeypatch.setattr(sections, "command", lambda *words, status=0: run(words[0], status=status)["seconds"])
    return ran


def test_contestants_take_turns(options, calls):
    measurements = SECTIONS["systems"].measure(options)

    assert [name for name, _ in calls] == ["plain.train", "fit_system", "bare.train"] * 4
    assert [arguments["system"] for _, arguments in calls] == ["CNN"] * 6 + ["MLP"] * 6
    assert [(run["system"], run["repeat"]) for run in measurements] == [("CNN", 0), ("CNN", 1), ("MLP", 0), ("MLP", 1)]
    assert calls[2][1]["precision"] == "bf16-mixed"  # the bare loop's is the one that fit chose
    assert {arguments["seed"] for _, arguments in calls[:3]} == {0}


def test_the_table_of_systems():
    measurements = [
        {
            "system": "CNN",
            "repeat": repeat,
            "plain": {"seconds": plain, "val_acc": 0.98},
            "ours": {"seconds": ours, "val_acc": acc, "precision": "32-true", "peak_memory_bytes": memory},
            "bare": {"seconds": bare, "val_acc": 0.97},
        }
        for repeat, (plain, ours, bare, acc, memory) in enumerate(
            [(20.0, 10.0, 9.0, 0.98, 2**29), (30.0, 10.0, 10.0, 0.99, 2**30), (20.0, 5.0, 4.0, 0.97, 2**29)]
        )
    ]

    table = SECTIONS["systems"].table(measurements)

    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "system": "CNN",
        "precision": "32-true",
        "plain s": "20.00 (20.00–30.00)",
        "ours s": "10.00 (5.00–10.00)",
        "bare s": "9.00 (4.00–10.00)",
        "plain/ours": "3.00 × (2.00–4.00)",
        "ours/bare": "1.111 × (1.000–1.250)",
        "peak memory of ours": "1,024 MiB",
        "val acc plain": "98.00 ± 0.00 %",
        "val acc ours": "98.00 ± 1.00 %",
        "val acc bare": "97.00 ± 0.00 %",
    }


def test_pipelines_are_images_per_second(options, calls):
    table = SECTIONS["pipeline"].table(SECTIONS["pipeline"].measure(options))

    # 100 images in 1 and 3 s, against 2 and 4 s.
    assert table.rows[0] == ["CNN", "67 (33–100)", "38 (25–50)", "0.6 × (0.5–0.8)"]


def test_time_to_accuracy_is_that_of_all_seeds_and_of_the_example(options, calls):
    table = SECTIONS["accuracy"].table(SECTIONS["accuracy"].measure(options))

    assert [arguments.get("seed") for _, arguments in calls] == [0, 1, 0, 1, None]
    assert table.rows == [
        ["mnist/fast.yaml", "99.0 %", "99.00 ± 0.00 %", "1.5 (1.0–2.0)", ""],
        ["fashion_mnist/fast.yaml", "90.0 %", "99.00 ± 0.00 %", "3.5 (3.0–4.0)", ""],
        ["PyTorch's MNIST example", "99.0 %", "99.10 %", "5.0", "3.8 × (2.5–5.0)"],
    ]


def test_the_example_may_miss_its_target():
    run = {"recipe": "reference", "seconds": None, "target": 0.99, "test_acc": 0.98, "epochs": [{}] * 14}

    table = SECTIONS["accuracy"].table([run])

    assert table.rows == [["PyTorch's MNIST example", "99.0 %", "98.00 %", "not in 14 epochs", ""]]


def test_the_start_has_a_row_for_each_wait(options, calls):
    table = SECTIONS["startup"].table(SECTIONS["startup"].measure(options))

    assert [row[0] for row in table.rows] == ["--version", "--help", "an unknown command", "first training step"]
    assert table.rows[0][1] == "3.00 (1.00–5.00)"
    assert table.rows[3][1] == "8.00 (8.00–8.00)"
    assert calls[3][1]["limit_batches"] == 1


def test_steps_are_compared_with_the_matrix_product_of_their_precision(options, calls):
    table = SECTIONS["machine"].table(SECTIONS["machine"].measure(options))

    assert table.rows[:2] == [
        ["matrix product", "32-true", "", "", "100", "100 %"],
        ["matrix product", "bf16-mixed", "", "", "200", "100 %"],
    ]
    assert table.rows[2] == ["CNN", "bf16-mixed", "4.000", "3000.00", "50", "25 %"]
