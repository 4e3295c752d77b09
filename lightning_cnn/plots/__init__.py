"""Figures of runs and predictions (`figures`), and the metrics behind them (`evaluation`); nothing here needs torch."""

import logging
import re

#: What matplotlib says, when it is imported, of a home folder that cannot be written to; it then uses a temporary one.
_NO_HOME = re.compile(r"Matplotlib created a temporary|mkdir -p failed for path|.* is not a writable directory$")

logging.getLogger("matplotlib").addFilter(lambda record: not _NO_HOME.match(record.getMessage()))
