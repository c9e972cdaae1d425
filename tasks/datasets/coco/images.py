"""The images of a data set in COCO's format with their annotations, gigabytes of objects, packed into arrays."""

import marshal
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backbones.images.packed import Packed, pack


@dataclass(frozen=True)
class CocoImage:
    """One image and what is to be seen in it.

    Attributes:
        id: its number in the annotation file.
        name: its path below the folder of images, as in the file.
        path: where it lies.
        height, width: in pixels, as the file has them.
        annotations: each a dict with `id`, `bbox` (left, top, width, height in pixels), `category_id` (as in the
            file), `iscrowd` (0 or 1), `segmentation` (a list of polygons, or run lengths in compressed form,
            `{"size", "counts"}` with counts as str; None where the file has none) and, if the file has it, `area`.
    """

    id: int
    name: str
    path: Path
    height: int
    width: int
    annotations: tuple[dict[str, Any], ...]


class CocoImages(Packed[CocoImage]):
    """Images by number, each made anew when it is asked for; numbers are as the file has them, whole or not.

    folder:  what the images' names are below
    sizes:   int64 (N, 2), the height and width of each
    objects: int64 (N), how many annotations of each are no crowd
    """

    def __init__(self, folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(arrays["content"], arrays["ends"])
        self.folder, self.sizes, self.objects = os.fspath(folder), arrays["sizes"], arrays["objects"]

    @classmethod
    def of(cls, folder: Path, entries: Iterable[tuple[dict[str, Any], tuple[dict[str, Any], ...]]]) -> "CocoImages":
        """Pack the file's `entries` of images, each with its annotations."""
        sizes, objects = [], []

        def packed() -> Iterable[bytes]:
            for entry, annotations in entries:
                sizes.append((entry["height"], entry["width"]))
                objects.append(sum(not annotation["iscrowd"] for annotation in annotations))
                about = (entry["id"], entry["file_name"], entry["height"], entry["width"])
                yield marshal.dumps((*about, annotations))

        content, ends = pack(packed())
        numbers = {"sizes": np.array(sizes, np.int64).reshape(-1, 2), "objects": np.array(objects, np.int64)}
        return cls(folder, {"content": content, "ends": ends, **numbers})

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it but the folder."""
        return {"content": self.content, "ends": self.ends, "sizes": self.sizes, "objects": self.objects}

    def decode(self, item: memoryview) -> CocoImage:
        """Make an image of its bytes."""
        identity, name, height, width, annotations = marshal.loads(item)
        return CocoImage(identity, name, Path(self.folder, name), height, width, annotations)
