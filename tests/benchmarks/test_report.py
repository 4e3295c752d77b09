from benchmarks.report import Table, by, column, pairwise, percent, spread


def test_ratios_are_those_within_each_repeat():
    assert pairwise([8.0, 30.0, 9.0], [2.0, 10.0, 3.0]) == [4.0, 3.0, 3.0]
    # The ratio of the medians, 9 / 3, need not be the median of the ratios.
    assert spread(pairwise([9.0, 30.0, 8.0], [1.0, 10.0, 3.0]), 2, " ×") == "3.00 × (2.67–9.00)"


def test_a_spread_is_median_minimum_and_maximum():
    assert spread([3.0, 1.0, 2.5], 1) == "2.5 (1.0–3.0)"
    assert spread([1.0, 2.0], 2) == "1.50 (1.00–2.00)"
    assert spread([12_345.6], 0, " ×") == "12,346 ×"


def test_fractions_are_mean_and_standard_deviation_in_percent():
    assert percent([0.99, 0.991, 0.992]) == "99.10 ± 0.10 %"
    assert percent([0.9]) == "90.00 %"


def test_measurements_are_grouped_in_their_order():
    measurements = [
        {"system": "b", "run": {"s": 1}},
        {"system": "a", "run": {"s": 2}},
        {"system": "b", "run": {"s": 3}},
    ]

    groups = by(measurements, "system")

    assert list(groups) == ["b", "a"]
    assert column(groups["b"], "run", "s") == [1, 3]


def test_a_table_is_aligned_markdown():
    assert str(Table(["system", "s"], [["CNN", "1.50"], ["a long name", "2"]], "A note.")) == (
        "| system      | s    |\n|-------------|------|\n| CNN         | 1.50 |\n| a long name | 2    |\n\nA note."
    )
