"""What became of a fault that was tried many times."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """The row of a fault in the table.

    Attributes:
        fault: What was done.
        tries: How often.
        lost: One line for each try that did not end as it should: what exactly was done, and what came of it.
    """

    fault: str
    tries: int
    lost: list[str] = field(default_factory=list)

    @property
    def survived(self) -> int:
        """How many tries ended as they should."""
        return self.tries - len(self.lost)
