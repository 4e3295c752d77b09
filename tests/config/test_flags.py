import pytest

from lightning_cnn.config.flags import Flag, read_command_line
from lightning_cnn.errors import UserError


def test_flags_are_read_in_both_spellings():
    line = read_command_line(["--trainer.max_epochs", "3", "--data.batch_size=32", "--model.std", "-1"])

    assert line.flags == [Flag("trainer.max_epochs", "3"), Flag("data.batch_size", "32"), Flag("model.std", "-1")]
    assert line.value("trainer.max_epochs") == "3"
    assert line.value("trainer.devices") is None


def test_configs_and_the_checkpoint_are_kept_apart():
    line = read_command_line(["-c", "a.yaml", "--config=b.yaml", "best", "--seed_everything", "1"])

    assert (line.configs, line.checkpoint) == (["a.yaml", "b.yaml"], "best")
    assert line.flags == [Flag("seed_everything", "1")]


def test_the_checkpoint_is_a_flag_as_well():
    assert read_command_line(["--ckpt_path", "last"]).checkpoint == "last"
    assert read_command_line(["--ckpt_path=best"]).checkpoint == "best"


@pytest.mark.parametrize("arguments", [["--trainer.callbacks+=Timer"], ["--trainer.callbacks+", "Timer"]])
def test_a_plus_appends(arguments):
    assert read_command_line(arguments).flags == [Flag("trainer.callbacks", "Timer", appends=True)]


@pytest.mark.parametrize(
    ("arguments", "value", "checkpoint"),
    [
        (["--test"], "true", None),
        (["--test", "true"], "true", None),
        (["--test", "false"], "false", None),
        (["--test", "best"], "true", "best"),
        (["--test=false", "best"], "false", "best"),
    ],
)
def test_a_switch_needs_no_value(arguments, value, checkpoint):
    line = read_command_line(arguments)

    assert (line.value("test"), line.checkpoint) == (value, checkpoint)


@pytest.mark.parametrize(
    ("arguments", "is_all", "class_help"),
    [
        (["--help"], True, None),
        (["-h"], True, None),
        (["--help_all", "--config", "mnist/cnn"], True, None),
        (["--config", "mnist/cnn", "--model.help"], False, Flag("model", None)),
        (["--deterministic", "--model.help", "CNNClassifier"], False, Flag("model", "CNNClassifier")),
        (["--model.network.help=CNN", "last"], False, Flag("model.network", "CNN")),
        (["last", "--model.std", "1"], False, None),
    ],
)
def test_help_is_asked_for_beside_other_arguments(arguments, is_all, class_help):
    line = read_command_line(arguments)

    assert (line.help, line.class_help) == (is_all, class_help)


@pytest.mark.parametrize("value", ["", "true", "TRUE", "=yes", "=on", "=1", "=skip_null"])
def test_settings_are_printed_and_nothing_is_trained(value):
    given = [f"--print_config{value}"] if "=" in value else ["--print_config", value] if value else ["--print_config"]

    assert read_command_line(given).prints_config


@pytest.mark.parametrize("arguments", [[], ["--print_config", "false"], ["--print_config=NO"]])
def test_settings_are_not_printed(arguments):
    assert not read_command_line(arguments).prints_config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config"], "--config needs a value: --config FILE"),
        (["--ckpt_path"], "--ckpt_path needs a value: --ckpt_path FILE"),
        (["best", "last"], "'last' is one argument too many: there is already the checkpoint 'best'"),
        (["configs/mnist/cnn.yaml"], "looks like a config; give it with --config configs/mnist/cnn.yaml"),
    ],
)
def test_arguments_that_cannot_be_read_are_refused(arguments, message):
    with pytest.raises(UserError) as caught:
        read_command_line(arguments)

    assert message in str(caught.value)
