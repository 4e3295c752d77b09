"""The parser: jsonargparse's, with strict YAML and errors as exceptions."""

from enum import Enum
from typing import NoReturn

import torch
import yaml
from jsonargparse import set_loader, set_parsing_settings
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningArgumentParser

from lightning_cnn.config.yaml import load
from lightning_cnn.errors import UserError

# Configs are files of this machine, and what runs commands or opens files of its own is no class of a run.
set_parsing_settings(config_read_mode_fsspec_enabled=False, import_path_denylist=[])
set_loader("yaml", load, (yaml.YAMLError,))
# Some of Lightning's callbacks have devices among their arguments, some defaults are enumerations; configs have names.
register_type(torch.device, str, torch.device)
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


class SettingsParser(LightningArgumentParser):
    """Raises `UserError` instead of printing the usage and leaving."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the report as it is; who has given the settings explains it."""
        if not self.exit_on_error:  # a parser inside another's
            super().error(message, ex)
        raise UserError(message) from ex
