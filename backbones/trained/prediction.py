"""What a trained network says of a single image, to be read and to be looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image


@dataclass(frozen=True)
class Prediction:
    """What was said of one image.

    words:   in a few words
    said:    what JSON can hold of it
    picture: what it looks like
    labels:  the class of every pixel, with a palette, where there is one
    """

    words: str
    said: Mapping[str, Any]
    picture: Image.Image
    labels: Image.Image | None = None


class Predictor(Protocol):
    """A trained network that is shown images."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What its answers cannot be read without, such as the names of classes, as JSON can hold it."""

    @property
    def images(self) -> int:
        """How many it is shown at once."""

    def read(self, path: Path, number: int) -> Any:
        """What the network sees of an image file, as an evaluation would show it. Raises UnreadableImage.

        number: the image's, from 1
        """

    def predict(self, seen: Sequence[Any]) -> list[Prediction]:
        """What it says of each of some that `read` has given."""


def percent(share: float) -> str:
    """A share as it is read: 93 %, 0.4 %."""
    return f"{100 * share:.{0 if share >= 0.0995 or not share else 1}f} %"
