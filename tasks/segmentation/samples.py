"""Images and their label maps as the segmentor takes them, through mmsegmentation's transforms.

H and W are an image's height and width in pixels, S is the side of a training crop.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from backbones.images.reading import UnreadableImage
from backbones.images.sizes import in_words
from backbones.images.tolerance import first_readable
from backbones.images.upright import read_upright
from backbones.training.randomness import mix
from tasks.datasets.label_maps.images import AnnotatedImage
from tasks.datasets.label_maps.layout import SegmentationSet, require_size
from tasks.datasets.label_maps.maps import IGNORED
from tasks.segmentation.mmseg_parts import PhotoMetricDistortion, RandomCrop, RandomFlip, RandomResize, Resize
from tasks.segmentation.recipe import Inference, SegmentationAugmentation


class TrainingSamples(Dataset[dict[str, Any]]):
    """Crops for training, as mmsegmentation's pipeline for ADE20K makes them: `dataset[(index, epoch)]`.

    A sample has "images", uint8 (3, S, S), and "labels", uint8 (S, S), both padded on the right and at the bottom to
    the crop's side, of which "heights" and "widths" say how much is image. What is random depends on (seed, epoch,
    index) only. A pair of which one file is unreadable is replaced by the next and named under `corrupt`.
    """

    def __init__(self, dataset: SegmentationSet, side: int, augment: SegmentationAugmentation, seed: int) -> None:
        self.dataset, self.side, self.seed = dataset, side, seed
        self.shortest_length = int(augment.resize[0] * augment.ratio[0])
        self.transforms = [
            RandomResize(scale=augment.resize, ratio_range=augment.ratio, keep_ratio=True, resize_type=Resize),
            RandomCrop(crop_size=(side, side), cat_max_ratio=augment.cat_max_ratio, ignore_index=IGNORED),
            RandomFlip(prob=augment.flip),
            *([PhotoMetricDistortion()] if augment.photometric_distortion else []),
        ]

    def __len__(self) -> int:
        return len(self.dataset.images)

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        index, epoch = draw
        pair, _, corrupt = first_readable(self.dataset.images, index, self._read)
        np.random.seed(mix(self.seed, "image", epoch, index) & 0xFFFFFFFF)
        image, labels = self._crop(*(pair or _nothing(self.side)))
        height, width = labels.shape
        padding = (0, self.side - width, 0, self.side - height)
        return {
            "images": F.pad(image, padding),
            "labels": F.pad(labels, padding, value=IGNORED),
            "heights": height,
            "widths": width,
            "corrupt": corrupt,
        }

    def _read(self, image: AnnotatedImage) -> tuple[np.ndarray, np.ndarray]:
        return _read(self.dataset, image, self.shortest_length)

    def _crop(self, pixels: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pixels (H, W, 3) and labels (H, W) through mmsegmentation's transforms, whose images are BGR."""
        results: dict[str, Any] = {"img": pixels[..., ::-1], "gt_seg_map": labels, "seg_fields": ["gt_seg_map"]}
        for transform in self.transforms:
            results = transform(results)
        return _channels_first(results["img"][..., ::-1]), torch.from_numpy(results["gt_seg_map"].copy())


class Views:
    """An image at every scale of the inference.

    shortest_length: the least that the longer side may become, in pixels
    """

    def __init__(self, inference: Inference) -> None:
        longest, shorter = inference.resize
        sizes = [(int(longest * scale), int(shorter * scale)) for scale in inference.scales]
        self.resizes = [Resize(scale=size, keep_ratio=True) for size in sizes]
        self.shortest_length = min(length for length, _ in sizes)

    def of(self, pixels: np.ndarray) -> list[Tensor]:
        """Each of them uint8 (3, h, w), of pixels (H, W, 3)."""
        return [_channels_first(resize({"img": pixels})["img"]) for resize in self.resizes]


class EvaluationSamples(Dataset[dict[str, Any]]):
    """Whole images at every scale of the inference, with their label maps in full: `dataset[index]`.

    A sample has "views", a list of uint8 (3, h, w); "labels", uint8 (H, W); "numbers", the index; and whether the pair
    is "readable": an unreadable one is black, and named under `corrupt`.
    """

    def __init__(self, dataset: SegmentationSet, inference: Inference) -> None:
        self.dataset, self.views = dataset, Views(inference)

    def __len__(self) -> int:
        return len(self.dataset.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        corrupt = {}
        try:
            image, labels = _read(self.dataset, self.dataset.images[index], self.views.shortest_length)
        except UnreadableImage as error:
            (image, labels), corrupt = _nothing(32), {str(error.path): error.why}
        about = {"labels": torch.from_numpy(labels), "numbers": index, "readable": not corrupt}
        return {"views": self.views.of(image), **about, "corrupt": corrupt}


def _read(dataset: SegmentationSet, image: AnnotatedImage, shortest_length: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (H, W, 3), RGB, and the label map (H, W), of an image whose longer side may become `shortest_length`.

    The image is turned upright; the label map stays as it is stored, as in mmsegmentation.

    Raises UnreadableImage for a file that cannot be read and for an image of which at most half a pixel would be left
    across, and WrongLabels for a label map that is not the image's.
    """
    labels = dataset.labels(image)
    pixels = read_upright(image.image, labels.shape)[0].permute(1, 2, 0).numpy()
    require_size(image, labels, *pixels.shape[:2])
    require_thickness(image.image, pixels, shortest_length)
    return pixels, labels


def require_thickness(path: Path, pixels: np.ndarray, shortest_length: int) -> None:
    """Raise UnreadableImage for pixels (H, W, 3) of which at most half a one would be left across."""
    height, width = pixels.shape[:2]
    if max(height, width) >= 2 * shortest_length * min(height, width):
        raise UnreadableImage(path, f"{in_words(height, width)} pixels are too thin to be resized")


def _nothing(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A black image without any label."""
    return np.zeros((side, side, 3), np.uint8), np.full((side, side), IGNORED, np.uint8)


def _channels_first(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
