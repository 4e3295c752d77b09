"""The short help of `fit`, `validate` and `test`: what is set most often. Imports nothing heavy.

`--help_all` lists every option, from the parser itself, which has to import torch and Lightning.
"""

import argparse
from collections.abc import Sequence

#: What each command does.
DESCRIPTION = {
    "fit": "Train a classifier, or resume a run.",
    "validate": "Evaluate a checkpoint on the validation images.",
    "test": "Evaluate a checkpoint, or the mean of several, on the test images.",
}
#: What its checkpoint is for.
CHECKPOINT = {
    "fit": "Resume from this checkpoint: a file, a run folder (its last), or best, last or previous of the newest run.",
    "validate": "The checkpoint to validate: a file, a run folder (its best), or best, last or previous.",
    "test": "The checkpoint to test: a file, a run folder (its best), or best, last or previous.",
}
#: The flag that lists every option.
HELP_ALL = "--help_all"
_EVALUATION = {
    "data.data_dir": ("DIR", "The folder of the dataset (default: $LIGHTNING_CNN_DATA_DIR, or that of the training)."),
    "data.eval_batch_size": ("N", "Images in a batch of each device."),
    "trainer.accelerator": ("NAME", "cpu, gpu or auto (default: auto)."),
    "trainer.devices": ("N", "The number of devices (default: auto)."),
    "verbose": ("true|false", "Print the metrics (default: true)."),
}
#: The settings of each command that are set most often, with the form of their value and their help.
EVERYDAY: dict[str, dict[str, tuple[str, str]]] = {
    "fit": {
        "model": ("CLASS", "The classifier, for example CNNClassifier; --model.help CLASS lists its arguments."),
        "model.network": ("CLASS", "The network of an ImageClassifier, also your own: my_module.MyNetwork."),
        "model.optimizer.lr": ("LR", "The learning rate."),
        "data": ("CLASS", "The data, for example ImageFolderDataModule; --data.help CLASS lists its arguments."),
        "data.data_dir": ("DIR", "The folder of the datasets (default: $LIGHTNING_CNN_DATA_DIR, or else data)."),
        "data.batch_size": ("N", "Images in a batch of each device."),
        "trainer.max_epochs": ("N", "The number of epochs (default: 5)."),
        "seed_everything": ("SEED", "The seed of everything random (default: 0)."),
        "test": ("true|false", "Test the best weights after training (default: false)."),
    },
    "validate": _EVALUATION,
    "test": {
        **_EVALUATION,
        "overwrite": ("true|false", "Replace the results of an earlier test by those of other weights."),
    },
}
_CONFIG = "A YAML file of settings, or a config of this package, such as mnist/cnn. Flags override it."
_PRINT_CONFIG = "Print all settings that would be used, and exit."
_EXAMPLES = {
    "fit": (
        "fit --config mnist/cnn",
        "fit --config mnist/cnn --model.optimizer.lr 0.002",
        "fit last",
    ),
    "validate": ("validate best",),
    "test": ("test best", "test logs/mnist-cnn/version_0 logs/mnist-cnn/version_1"),
}


def usage(command: str) -> str:
    """Return how a command is called."""
    several = " ..." if command == "test" else ""
    return f"lightning-cnn {command} [CHECKPOINT{several}] [--config FILE] [--NAME VALUE ...]"


def is_asked_for(argv: Sequence[str]) -> bool:
    """Whether a command line asks for the short help: `fit --help`, but not `fit --model.help`.

    Example:
        >>> is_asked_for(["fit", "--help"]), is_asked_for(["fit", "--help_all"]), is_asked_for(["sweep", "--help"])
        (True, False, False)
    """
    return argv[0] in EVERYDAY and not {"-h", "--help"}.isdisjoint(argv) and HELP_ALL not in argv


def short_help(command: str) -> str:
    """Return the everyday options of a command, with examples."""
    examples = "\n".join(f"  lightning-cnn {example}" for example in _EXAMPLES[command])
    parser = argparse.ArgumentParser(
        usage=usage(command),
        description=DESCRIPTION[command],
        epilog=f"examples:\n{examples}\n\n`lightning-cnn {command} {HELP_ALL}` lists all options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT[command])
    everyday = parser.add_argument_group("everyday options")
    everyday.add_argument("-c", "--config", metavar="FILE", help=_CONFIG)
    for name, (metavar, text) in EVERYDAY[command].items():
        everyday.add_argument(f"--{name}", metavar=metavar, help=text)
    others = parser.add_argument_group("other options")
    others.add_argument("--print_config", action="store_true", help=_PRINT_CONFIG)
    others.add_argument("-h", "--help", action="store_true", help="Show this.")
    others.add_argument(HELP_ALL, action="store_true", help="Show all options.")
    return parser.format_help()
