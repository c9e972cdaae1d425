"""What the outputs of others' classifiers are called."""

import re
from collections.abc import Sequence

from timm.data import ImageNetInfo

IMAGENETS = 1000
_SURELY = 0.95
"""Of ImageNet's classes, whose descriptions differ here and there between code bases, the share that agrees."""


def imagenet_classes() -> tuple[str, ...]:
    """ImageNet-1K's WordNet ids in order, as its folders are called and as everybody numbers its classes."""
    return tuple(ImageNetInfo("imagenet-1k").label_names())


def named_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """The names that a file gives its outputs, as the data call them: of ImageNet's in order WordNet ids.

    Empty where they are numbers only, such as transformers' LABEL_0.
    """
    if all(re.fullmatch(r"(?:LABEL_)?\d+", label) for label in labels):
        return ()
    if len(labels) == IMAGENETS:
        known = ImageNetInfo("imagenet-1k").label_descriptions()
        alike = sum(_first_word(one) == _first_word(other) for one, other in zip(labels, known, strict=True))
        if alike >= _SURELY * IMAGENETS:
            return imagenet_classes()
    return tuple(labels)


def _first_word(description: str) -> str:
    return re.sub(r"[\W_]+", "", description.split(",")[0]).casefold()
