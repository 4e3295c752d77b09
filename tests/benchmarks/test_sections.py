from dataclasses import replace
from inspect import signature

import pytest

from benchmarks import runs, sections
from benchmarks.sections import SECTIONS

#: What the replaced functions return, besides seconds.
RESULTS = {
    "plain.train": {"train_images": 100, "val_acc": 0.5},
    "fit_system": {"precision": "bf16-mixed", "first_step_seconds": 8.0},
    "plain.read_images": {"train_images": 100},
    "bare.read_images": {"train_images": 100},
    "fit_and_test": {"test_acc": 0.99, "cpu_seconds": 1.5},
    "reference.train": {"target": 0.99, "epochs": [{"test_acc": 0.98}, {"test_acc": 0.991}]},
    "fit_steps": {"precision": "bf16-mixed", "step_seconds": 0.01},
    "machine.step_rate": {"flops": 4e9, "gflops_per_second": 50.0},
}


@pytest.fixture
def calls(monkeypatch) -> list:
    """The calls in their order, in place of all processes; the nth call takes n seconds."""
    ran = []

    def run(name, **arguments):
        ran.append((name, arguments))
        if name == "machine.describe":
            return {"gpus": 2}
        if name == "operators.of_step":
            return [
                {"name": "convolution", "seconds": 1.5, "bytes": 3e9, "flops": 6e9},
                {"name": "copy_", "seconds": 0.25, "bytes": 1e9, "flops": 0},
                {"name": "view", "seconds": 0.01, "bytes": 1e9, "flops": 0},
            ]
        if name == "machine.matmul_rates":
            return {"32-true": 100.0, "bf16-mixed": 200.0}
        return {"seconds": float(len(ran)), **RESULTS.get(name, {})}

    monkeypatch.setattr(sections, "call", run)
    for name in ("fit_system", "fit_and_test", "fit_steps"):
        function = getattr(runs, name)

        def fit(*arguments, function=function):
            return run(function.__name__, **signature(function).bind(*arguments).arguments)

        monkeypatch.setattr(sections, name, fit)
    monkeypatch.setattr(sections, "command", lambda argument, status=0: run(argument, status=status)["seconds"])
    return ran


def test_the_loops_alternate(options, calls):
    measurements = SECTIONS["systems"].measure(options)

    assert [name for name, _ in calls] == ["plain.train", "fit_system", "bare.train"] * 4
    assert [arguments["system"] for _, arguments in calls] == ["CNN"] * 6 + ["MLP"] * 6
    assert [(run["system"], run["repeat"]) for run in measurements] == [("CNN", 0), ("CNN", 1), ("MLP", 0), ("MLP", 1)]
    assert calls[2][1]["precision"] == "bf16-mixed"  # chosen by fit
    assert {arguments["seed"] for _, arguments in calls[:3]} == {0}


def test_the_table_of_systems():
    measurements = [
        {
            "system": "CNN",
            "repeat": repeat,
            "plain": {"seconds": plain, "val_acc": 0.98},
            "fit": {"seconds": fit, "val_acc": acc, "precision": "32-true", "peak_memory_bytes": memory},
            "bare": {"seconds": bare, "val_acc": 0.97},
        }
        for repeat, (plain, fit, bare, acc, memory) in enumerate(
            [(20.0, 10.0, 9.0, 0.98, 2**29), (30.0, 10.0, 10.0, 0.99, 2**30), (20.0, 5.0, 4.0, 0.97, 2**29)]
        )
    ]

    table = SECTIONS["systems"].table(measurements)

    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "system": "CNN",
        "precision": "32-true",
        "plain s": "20.00 (20.00–30.00)",
        "fit s": "10.00 (5.00–10.00)",
        "bare s": "9.00 (4.00–10.00)",
        "plain/fit": "3.00 × (2.00–4.00)",
        "fit/bare": "1.111 × (1.000–1.250)",
        "peak memory of fit": "1,024 MiB",
        "val acc plain": "98.00 ± 0.00 %",
        "val acc fit": "98.00 ± 1.00 %",
        "val acc bare": "97.00 ± 0.00 %",
    }


def test_input_pipelines_are_compared_in_images_per_second(options, calls):
    table = SECTIONS["pipeline"].table(SECTIONS["pipeline"].measure(options))

    # 100 images in 1 and 3 s, against 2 and 4 s.
    assert table.rows[0] == ["CNN", "67 (33–100)", "38 (25–50)", "0.6 × (0.5–0.8)"]


def test_time_to_accuracy_has_all_seeds_and_the_example(options, calls):
    table = SECTIONS["accuracy"].table(SECTIONS["accuracy"].measure(options))

    recipes = [(arguments.get("config"), arguments.get("epochs"), arguments.get("seed")) for _, arguments in calls]
    assert recipes == [
        *(("mnist/fast.yaml", None, seed) for seed in (0, 1)),
        *(("mnist/small.yaml", 3, seed) for seed in (0, 1)),
        *(("mnist/small.yaml", 6, seed) for seed in (0, 1)),
        *(("fashion_mnist/fast.yaml", None, seed) for seed in (0, 1)),
        *(("fashion_mnist/tiny.yaml", 6, seed) for seed in (0, 1)),
        (None, None, None),
    ]
    assert table.rows == [
        ["mnist/fast.yaml", "99.0 %", "2 of 2", "99.00 ± 0.00 %", "1.5 (1.0–2.0)", "1.5 (1.5–1.5)", ""],
        ["mnist/small.yaml, 3 epochs", "99.4 %", "0 of 2", "99.00 ± 0.00 %", "3.5 (3.0–4.0)", "1.5 (1.5–1.5)", ""],
        ["mnist/small.yaml, 6 epochs", "99.5 %", "0 of 2", "99.00 ± 0.00 %", "5.5 (5.0–6.0)", "1.5 (1.5–1.5)", ""],
        ["fashion_mnist/fast.yaml", "90.0 %", "2 of 2", "99.00 ± 0.00 %", "7.5 (7.0–8.0)", "1.5 (1.5–1.5)", ""],
        [
            "fashion_mnist/tiny.yaml, 6 epochs",
            "92.0 %",
            "2 of 2",
            "99.00 ± 0.00 %",
            "9.5 (9.0–10.0)",
            "1.5 (1.5–1.5)",
            "",
        ],
        ["PyTorch's MNIST example", "99.0 %", "1 of 1", "99.10 %", "11.0", "", "8.2 × (5.5–11.0)"],
    ]


def test_the_example_may_miss_its_target():
    run = {"recipe": "reference", "seconds": None, "target": 0.99, "test_acc": 0.98, "epochs": [{}] * 14}

    table = SECTIONS["accuracy"].table([run])

    assert table.rows == [["PyTorch's MNIST example", "99.0 %", "0 of 1", "98.00 %", "not in 14 epochs", "", ""]]


def test_startup_has_a_row_for_each_command(options, calls):
    table = SECTIONS["startup"].table(SECTIONS["startup"].measure(options))

    assert [row[0] for row in table.rows] == ["--version", "--help", "an unknown command", "first training step"]
    assert table.rows[0][1] == "3.00 (1.00–5.00)"
    assert table.rows[3][1] == "8.00 (8.00–8.00)"
    assert calls[3][1]["options"].limit_batches == 1


def test_steps_are_compared_with_the_matrix_product_of_their_precision(options, calls):
    table = SECTIONS["machine"].table(SECTIONS["machine"].measure(options))

    assert table.rows[:2] == [
        ["matrix product", "32-true", "", "", "100", "100 %"],
        ["matrix product", "bf16-mixed", "", "", "200", "100 %"],
    ]
    assert table.rows[2] == ["CNN", "bf16-mixed", "4.000", "3000.00", "50", "25 %"]


def test_the_operators_that_take_long_have_rows(options, calls):
    table = SECTIONS["operators"].table(SECTIONS["operators"].measure(replace(options, systems=["CNN"])))

    assert table.rows == [  # the step takes 1.76 s
        ["CNN", "bf16-mixed", "convolution", "1500.00", "85 %", "3000.0", "2", "6.000", "4"],
        ["CNN", "bf16-mixed", "copy_", "250.00", "14 %", "1000.0", "4", "", ""],
        ["CNN", "bf16-mixed", "all others", "10.00", "1 %", "", "", "", ""],
    ]
    assert calls[1] == ("operators.of_step", {"system": "CNN", "precision": "bf16-mixed", "repeats": sections.STEPS})


def test_one_process_and_several_alternate_in_one_precision(options, calls):
    measurements = SECTIONS["scale"].measure(replace(options, systems=["CNN"], limit_batches=3))

    del calls[0]  # how many GPUs there are
    assert [(a["system"], a["processes"], a["batch_size"], a["precision"]) for _, a in calls[:5]] == [
        ("CNN", 1, 64, "auto"),
        *[("CNN", n, size, "bf16-mixed") for n, size in [(2, 32), (2, 64), (4, 16), (4, 64)]],
    ]
    assert [arguments["seed"] for _, arguments in calls] == [0] * 5 + [1] * 5
    assert {(arguments["options"].limit_batches, arguments["accelerator"]) for _, arguments in calls} == {(3, "cpu")}
    assert [(run["processes"], run["repeat"]) for run in measurements] == [(2, 0), (4, 0), (2, 1), (4, 1)]


def test_processes_run_on_gpus_if_each_can_have_one(options, calls):
    SECTIONS["scale"].measure(replace(options, processes=[2]))

    assert {arguments["accelerator"] for name, arguments in calls if name == "fit_steps"} == {"gpu"}


def test_the_table_of_scale():
    def steps(seconds, threads):
        sent = {"allreduce_": 4_024, "broadcast_": 8}
        record = {"step_seconds": seconds, "precision": "32-true", "parameters": 1_000}
        return record | {"threads": threads, "sent": sent if threads == 1 else {}}

    measurements = [
        {
            "system": "CNN",
            "processes": 2,
            "on": "cpu",
            "one": steps(one, 2),
            "shared": steps(shared, 1),
            "each": steps(each, 1),
        }
        for one, shared, each in [(0.010, 0.008, 0.016), (0.020, 0.010, 0.020), (0.010, 0.010, 0.010)]
    ]

    table = SECTIONS["scale"].table(measurements)

    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "system": "CNN",
        "precision": "32-true on CPU",
        "processes × threads": "2 × 1, against 1 × 2",
        "one: ms/step": "10.00 (10.00–20.00)",
        "64 images shared: ms/step": "10.00 (8.00–10.00)",
        "64 images each: ms/step": "16.00 (10.00–20.00)",
        "shared: times as fast": "1.25 × (1.00–2.00)",
        "each: times the images/s": "2.00 × (1.25–2.00)",
        "all-reduced bytes/step": "4,024",
        "of gradients": "4,000",
    }
