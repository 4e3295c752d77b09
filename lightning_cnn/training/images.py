"""The images of a checkpoint's own data, without a trainer: what `export` compares and calibrates with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_cnn.config.flags import read_command_line
from lightning_cnn.config.parser import ConstructorError, refusal
from lightning_cnn.config.request import read_request
from lightning_cnn.data import ImageDataModule
from lightning_cnn.data.base import Part
from lightning_cnn.data.batches import SequentialLoader
from lightning_cnn.errors import UserError
from lightning_cnn.training.fitting import build_data
from lightning_cnn.training.options import schema
from lightning_cnn.training.parsing import SettingsCLI
from lightning_cnn.training.refusals import require_same_images


class EvaluationImages:
    """The test images of a checkpoint's data, and its validation images.

    Args:
        checkpoint: The file.
        content: What `checkpoint.read` returns for it.
        flags: Flags of `test` that choose other data, such as `--data.data_dir`, or name classes of the user's own.

    Attributes:
        title: Name of the dataset.
        is_sample: Whether it is only the small sample that ships with the package.
        part: `test`, or `val` if there are no test images.

    Raises:
        UserError: If a flag is wrong, or the images are not those of the model.
        DataError: If they are not there.
    """

    def __init__(self, checkpoint: Path, content: dict[str, Any], flags: Sequence[str]) -> None:
        line = read_command_line([str(checkpoint), *flags, "--seed_everything", "false"])  # nothing is random
        cli = SettingsCLI(read_request("test", line, schema("test")))
        try:
            self._data: ImageDataModule = build_data(cli.parser, cli.config, checkpoint, content, "test")
        except (ValueError, TypeError, RuntimeError, ConstructorError) as error:
            raise UserError(refusal(error, cli.settings)) from error
        require_same_images(checkpoint, content, self._data)
        self._data.prepare_data()
        self.part: Part = "test" if self._data.has_images("test") else "val"
        self._data.setup("test" if self.part == "test" else "validate")
        self.title = self._data.title
        self.is_sample = bool((self._data.record or {}).get("sample"))

    def evaluated(self) -> SequentialLoader:
        """Batches of all images of `part`, in their order."""
        return self._data.test_dataloader() if self.part == "test" else self._data.val_dataloader()

    def validation(self) -> SequentialLoader:
        """Batches of the validation images, in a fixed order.

        Raises:
            UserError: If there are none.
        """
        self._data.setup("validate")
        if not hasattr(self._data, "val_set"):  # a folder which the model was not trained on has none
            raise UserError(
                f"{self.title} has no validation images of the model, which was trained on other images; name those by "
                "--data.root, or leave --quantize out"
            )
        return self._data.val_dataloader()
