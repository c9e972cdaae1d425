"""Where the training that made weights departed from the literature's, as it stands beside them and in records."""

from collections.abc import Sequence

from backbones.weights.files import LONGEST_TEXT

DEVIATIONS = "pretraining_deviations"
"""What files of weights call it."""

OF_PRETRAINING = "pre-training: "
"""What stands before it in the records of those who took the weights."""


def in_short(deviations: Sequence[str]) -> str:
    """All of them, or how many, as whoever reads the file is told no more of a text; empty where there are none."""
    if not deviations:
        return ""
    told, others = [text.removeprefix(OF_PRETRAINING) for text in deviations], len(deviations) - 1
    words = "; ".join(told), f"{told[0]} and {others} more", f"{len(told)} setting{'s' if others else ''}"
    return next(text for text in words if len(text) <= LONGEST_TEXT)


def stating(deviations: str) -> dict[str, str]:
    """What is to be written beside weights of which `in_short` tells that."""
    return {DEVIATIONS: deviations} if deviations else {}
