"""Pictures as people take them, of official test images.

Digits are light on black, 28×28, as in MNIST, and clothes as in Fashion-MNIST; handwriting is 8×8, as in optdigits.
"""

from pictures import clothes, papers, photographs  # noqa: F401  # which add their kinds
from pictures.kind import CLOTHES, DIGITS, HANDWRITING, KINDS, Kind

__all__ = ["CLOTHES", "DIGITS", "HANDWRITING", "KINDS", "Kind"]
