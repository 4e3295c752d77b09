import logging
import warnings

import pytest

from lightning_cnn.quiet import quieten

RANK_ZERO = "lightning.pytorch.utilities.rank_zero"


@pytest.mark.parametrize(
    "message",
    [
        "The 'train_dataloader' does not have many workers which may be a bottleneck.",
        "`isinstance(treespec, LeafSpec)` is deprecated, use something else",
        "Checkpoint directory /somewhere/checkpoints exists and is not empty.",
        "The number of training batches (3) is smaller than the logging interval Trainer(log_every_n_steps=50).",
        "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need to be provided",
    ],
)
def test_harmless_warnings_are_not_shown(message):
    with pytest.warns(UserWarning, match="The|Check|Be|`"):
        warnings.warn(message, UserWarning, stacklevel=1)

    quieten()

    warnings.warn(message, UserWarning, stacklevel=1)  # an error in these tests, were it not silenced


def test_other_warnings_are():
    quieten()

    with pytest.warns(UserWarning, match="looks like a harmless one"):
        warnings.warn("looks like a harmless one: does not have many workers", UserWarning, stacklevel=1)


def test_tips_are_not_shown_and_other_messages_are(caplog):
    quieten()

    with caplog.at_level(logging.INFO, logger=RANK_ZERO):
        logging.getLogger(RANK_ZERO).info("💡 Tip: buy more")
        logging.getLogger(RANK_ZERO).info("Trainer stopped")

    assert caplog.messages == ["Trainer stopped"]


def test_once_is_enough():
    quieten()
    filters = list(logging.getLogger(RANK_ZERO).filters)

    quieten()

    assert logging.getLogger(RANK_ZERO).filters == filters
