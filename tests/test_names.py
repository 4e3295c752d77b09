import pytest

from lightning_cnn.names import snake_case


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CNN", "cnn"),
        ("MLP", "mlp"),
        ("DeepCNN", "deep_cnn"),
        ("ShallowCNN", "shallow_cnn"),
        ("SimpleCNN", "simple_cnn"),
        ("LeNet5", "le_net5"),
        ("Net5Wide", "net5_wide"),
    ],
)
def test_class_names_as_files_are_called(name, expected):
    assert snake_case(name) == expected


def test_configs_are_called_like_their_networks(configs):
    from lightning_cnn import networks

    found = {path.stem for path in configs.glob("*mnist/*.yaml")}
    assert found == {snake_case(name) for name in networks.__all__} - {"fast_cnn"} | {
        "fast"
    }  # a recipe for two datasets
