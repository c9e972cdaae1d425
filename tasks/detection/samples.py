"""Images and their objects as detectron2's models take them: resized, cropped, flipped, with boxes and masks.

H and W are an image's height and width in pixels.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.data.detection_utils import (
    annotations_to_instances,
    filter_empty_instances,
    transform_instance_annotations,
)
from detectron2.structures import BoxMode
from torch import Tensor
from torch.utils.data import Dataset

from backbones.errors import DataError
from backbones.images.reading import UnreadableImage
from backbones.images.sizes import in_words
from backbones.images.tolerance import first_readable
from backbones.images.upright import UNTURNED, Orientation, read_upright
from backbones.training.randomness import mix
from tasks.datasets.coco.images import CocoImage, CocoImages
from tasks.datasets.coco.layout import CocoSet
from tasks.detection.objects import Objects
from tasks.detection.recipe import LargeScaleJitter


class Records(Sequence[tuple[CocoImage, list[dict[str, Any]]]]):
    """The images that have an object, crowds aside, each with its objects as detectron2 takes them.

    numbers: the images' among all
    """

    def __init__(self, coco: CocoSet) -> None:
        self.images, self.numbers = coco.images, np.flatnonzero(coco.images.objects)
        self.labels = {identity: number for number, identity in enumerate(coco.category_ids)}

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        image = self.images[self.numbers[index]]
        objects = [_translated(each, self.labels) for each in image.annotations if not each["iscrowd"]]
        return replace(image, annotations=()), objects


class TrainingSamples(Dataset[dict[str, Any]]):
    """Images with at least one object, crowds aside, under large-scale jitter: `dataset[(index, epoch)]`.

    A sample's `inputs` are detectron2's: "image", uint8 (3, H, W), no side longer than `image_size`; "instances" with
    boxes, classes and masks; "image_id". What is random depends on (seed, epoch, index) only. An unreadable image, or
    one whose size is not what its annotations are for, is replaced by the next and named under `corrupt`.
    Raises DataError for an image so long that the smallest scale leaves nothing of its width.
    """

    def __init__(self, coco: CocoSet, image_size: int, augment: LargeScaleJitter, seed: int) -> None:
        self.records, self.seed = Records(coco), seed
        _require_thickness(coco.images, self.records.numbers, augment.scale[0] * image_size)
        self.augmentations = T.AugmentationList(
            [
                T.RandomFlip(prob=augment.flip, horizontal=True),
                T.ResizeScale(*augment.scale, target_height=image_size, target_width=image_size),
                T.FixedSizeCrop((image_size, image_size), pad=False),
            ]
        )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        index, epoch = draw
        pixels, image, annotations, corrupt = self._read(index)
        np.random.seed(mix(self.seed, "image", epoch, index) & 0xFFFFFFFF)
        view = T.AugInput(pixels)
        transforms = self.augmentations(view)
        shape = view.image.shape[:2]
        moved = [transform_instance_annotations(dict(one), transforms, shape) for one in annotations]
        inputs = {"image": _channels_first(view.image), "instances": _instances(moved, shape), "image_id": image.id}
        return {"inputs": inputs, "corrupt": corrupt}

    def _read(self, index: int) -> tuple[np.ndarray, CocoImage, list[dict[str, Any]], dict[str, str]]:
        pixels, found, corrupt = first_readable(self.records, index, lambda record: _read_whole(record[0])[0])
        image, annotations = self.records[found]
        if pixels is None:
            return np.zeros((image.height, image.width, 3), np.uint8), image, [], corrupt
        return pixels, image, annotations, corrupt


class EvaluationSamples(Dataset[dict[str, Any]]):
    """Images as large as fits into a longest and a shorter side: `dataset[index]`.

    `inputs` hold "image", uint8 (3, H, W), the original "height" and "width", "image_id", the file's "orientation",
    and whether the image is "readable"; an unreadable one is black, and named under `corrupt`.
    Raises DataError for an image so long that nothing is left of its width.
    """

    def __init__(self, images: CocoImages, longest_side: int, shorter_side: int | None = None) -> None:
        _require_thickness(images, np.arange(len(images)), longest_side)
        self.images = images
        self.resize = T.ResizeShortestEdge(shorter_side or longest_side, max_size=longest_side)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, corrupt = self.images[index], {}
        try:
            pixels, orientation = _read_whole(image)
        except UnreadableImage as error:
            pixels, orientation = np.zeros((image.height, image.width, 3), np.uint8), Orientation(UNTURNED)
            corrupt = {str(error.path): error.why}
        view = T.AugInput(pixels)
        self.resize(view)
        about = {"height": image.height, "width": image.width, "image_id": image.id, "orientation": orientation}
        inputs = {"image": _channels_first(view.image), **about, "readable": not corrupt}
        return {"inputs": inputs, "corrupt": corrupt}


def gather(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: the samples' `inputs` in a list, as detectron2 has it, and their `corrupt` mappings united."""
    corrupt: dict[str, str] = {}
    for sample in samples:
        corrupt |= sample["corrupt"]
    return {"inputs": [sample["inputs"] for sample in samples], "corrupt": corrupt}


def _read_whole(image: CocoImage) -> tuple[np.ndarray, Orientation]:
    """The pixels (H, W, 3), upright, and how they came to be so.

    Raises UnreadableImage also where the size is another than the annotations'.
    """
    read, orientation = read_upright(image.path, (image.height, image.width))
    pixels = read.permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    if (height, width) != (image.height, image.width):
        own, stated = in_words(height, width), in_words(image.height, image.width)
        why = f"it has {own} pixels, its annotations are for {stated}"
        raise UnreadableImage(image.path, why)
    return pixels, orientation


def _require_thickness(images: CocoImages, numbers: np.ndarray, longer_side: float) -> None:
    """Raise DataError for one of these images whose shorter side has no pixel left once the longer has that many."""
    sizes = images.sizes[numbers]
    thin = numbers[longer_side * sizes.min(1) / sizes.max(1) <= 0.5]
    for image in (images[number] for number in thin[:1]):
        raise DataError(
            f"{image.path}: {in_words(image.height, image.width)} pixels. Resized to a longer side of {longer_side:g}, "
            "it has no pixel across. Cut such images to pieces, or leave them out of the annotation file"
        )


def _translated(annotation: dict[str, Any], numbers: dict[int, int]) -> dict[str, Any]:
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):  # detectron2 scales in place, which would cut whole numbers to whole numbers
        segmentation = [np.array(polygon, dtype=np.float64) for polygon in segmentation]
    return {
        "bbox": annotation["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": numbers[annotation["category_id"]],
        "segmentation": segmentation,
    }


def _instances(annotations: list[dict[str, Any]], shape: tuple[int, int]) -> Objects:
    """detectron2's boxes, classes and masks, the boxes drawn anew round what the crop left of the masks."""
    polygons = all(isinstance(annotation["segmentation"], list) for annotation in annotations)
    instances = annotations_to_instances(annotations, shape, mask_format="polygon" if polygons else "bitmask")
    if instances.has("gt_masks"):
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        instances = filter_empty_instances(instances)
    return Objects.of(instances)


def _channels_first(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
