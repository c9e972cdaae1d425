"""The images of a data set with label maps, each with where its label map lies."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backbones.images.packed import Packed, Paths


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and its label map; `name` is its path below the folder of images."""

    name: str
    image: Path
    annotation: Path


class AnnotatedImages(Packed[AnnotatedImage]):
    """Images by number, each made anew when it is asked for.

    paths:       the images
    annotations: the folder of their label maps
    """

    def __init__(self, paths: Paths, annotations: Path) -> None:
        super().__init__(paths.content, paths.ends)
        self.paths, self.annotations = paths, annotations

    def decode(self, item: memoryview) -> AnnotatedImage:
        """Make an image of its bytes."""
        name = os.fsdecode(bytes(item))
        return AnnotatedImage(name, self.paths.root / name, self.annotations / annotation_of(name))


def annotation_of(name: str) -> str:
    """The path of an image's label map below the folder of annotations, from the image's below its own."""
    return str(PurePosixPath(name).with_suffix(".png"))


def pack_images(images: Path, annotations: Path, names: Iterable[str]) -> AnnotatedImages:
    """The images of these `names` below the folder `images`."""
    return AnnotatedImages(Paths.of(images, names), annotations)
