"""What users should not see: advertisements, and warnings that are known to be harmless here."""

import logging
import warnings

#: Beginnings of messages; each with the reason why nobody has to act on it.
_HARMLESS = (
    # The dataset is in memory: a batch is one indexing operation, which workers would only slow down.
    r"The '\w+' does not have many workers",
    # Lightning's own use of a torch name that is going away.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # Lightning's own use of a jsonargparse name that is going away, and a word on such words.
    r"\s*``instantiate_classes`` was deprecated",
    r"\s*By default only one JsonargparseDeprecationWarning",
    # The size that the model summary estimates is that of the weights, which stay float32.
    "Precision bf16-mixed is not supported by the model summary",
    # Going on with a run is going on in its folder.
    r"Checkpoint directory .* exists and is not empty",
    # Figures of whole epochs are logged however few batches there are.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # The name of a class or a file in letters that the font lacks has boxes in a picture; tables have it right.
    r"Glyph \d+ ",
    # A checkpoint is measured without the callbacks that wrote it.
    "Be aware that when using `ckpt_path`, callbacks used to create",
)


def quieten() -> None:
    """Silence what is listed here and nothing else."""
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message is neither a tip nor what the progress says better: that training reached its last epoch."""
    message = record.getMessage()
    return "Tip:" not in message and not message.startswith("`Trainer.fit` stopped: ")
