from lightning_cnn.report.settings import differing, flatten


def test_settings_are_one_under_another():
    settings = {"seed": 0, "model": {"lr": 1e-8, "name": "cnn: 3", "more": {"on": True, "none": None}}, "empty": {}}

    assert list(flatten(settings)) == [
        ("seed", "0"),
        ("model.lr", "1.0e-08"),
        ("model.name", "cnn: 3"),
        ("model.more.on", "true"),
        ("model.more.none", "null"),
        ("empty", "{}"),
    ]


def test_lists_stay_in_one_line():
    long = [{"class_path": "a.B", "init_args": {"words": ["some"] * 40}}]

    ((_, value),) = flatten({"callbacks": long})

    assert value.startswith("[{class_path: a.B, init_args: {words: [some, ")
    assert "\n" not in value


def test_only_what_differs_is_left_with_none_where_it_is_missing():
    configs = [
        {"seed": 0, "same": [1, 2], "model": {"class_path": "CNN", "lr": 0.1}},
        {"seed": 1, "same": [1, 2], "model": {"class_path": "CNN", "momentum": 0.9}},
        {"seed": 0, "same": [1, 2], "model": {"class_path": "CNN", "lr": 0.1}},
    ]

    assert differing(configs) == [
        ("seed", ["0", "1", "0"]),
        ("model.lr", ["0.1", None, "0.1"]),
        ("model.momentum", [None, "0.9", None]),
    ]


def test_equal_settings_do_not_differ():
    assert differing([{"a": {"b": 1}}, {"a": {"b": 1}}]) == []
