"""What a trained segmentor sees in single images.   K classes, H and W pixels"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from backbones.images.normalisation import Normalisation
from backbones.images.panels import arrange
from backbones.images.upright import read_upright
from backbones.trained.loading import load_trained
from backbones.trained.prediction import Prediction, percent
from backbones.training.machine import device_type
from tasks.pictures import resize_labels, show_image, shown_side
from tasks.segmentation.pictures import colours_of, with_legend
from tasks.segmentation.recipe import SegmentationRecipe
from tasks.segmentation.samples import Views, require_thickness
from tasks.segmentation.segmentor import Segmentor
from tasks.segmentation.task import create_segmentor
from tasks.trained import TrainedNetwork

NAMED = 4
AT_ONCE = 1 << 29
"""Numbers, a class's of a pixel each, that are held at once: two gigabytes. Photographs have more."""

_OPACITY = 0.6
"""Of the classes' colours over the image."""


@dataclass(frozen=True)
class _Seen:
    """views: the image at every scale, uint8 (3, h, w); shown: as it is shown, (H', W', 3); height, width: its own"""

    views: list[Tensor]
    shown: np.ndarray
    height: int
    width: int


class SegmentationPredictor:
    """The class of every pixel, and the share of the image that each class covers.

    An image is turned by its EXIF orientation, and the label map is of the image so turned.
    """

    images = 1

    def __init__(self, recipe: SegmentationRecipe, segmentor: Segmentor, classes: Sequence[str]) -> None:
        self.views, self.segmentor, self.classes = Views(recipe.inference), segmentor, classes
        self.palette = colours_of(len(classes))
        self.about: dict[str, Any] = {"classes": list(classes)}

    def read(self, path: Path, number: int) -> _Seen:
        """The image, resized as evaluation does it. Raises UnreadableImage."""
        image = read_upright(path, None)[0]
        pixels = image.permute(1, 2, 0).numpy()
        require_thickness(path, pixels, self.views.shortest_length)
        height, width = pixels.shape[:2]
        return _Seen(self.views.of(pixels), show_image(image, shown_side(height, width)), height, width)

    @torch.no_grad()
    def predict(self, seen: Sequence[_Seen]) -> list[Prediction]:
        """The label map of each image."""
        return [self._prediction(each) for each in seen]

    def _prediction(self, seen: _Seen) -> Prediction:
        views = [view[None].to(device_type()) for view in seen.views]
        size = seen.height, seen.width
        if seen.height * seen.width * len(self.classes) <= AT_ONCE:
            labels = self.segmentor.predict_labels(views, size)[0].cpu().numpy().astype(np.uint8)
        else:
            labels = _labels_by_rows(self.segmentor, views, size, AT_ONCE // len(self.classes))
        pixels = np.bincount(labels.ravel(), minlength=len(self.classes))
        found = [
            {"class": self.classes[number], "number": number, "share": pixels[number] / labels.size}
            for number in np.argsort(-pixels, kind="stable").tolist()
            if pixels[number]
        ]
        return Prediction(
            words=", ".join(f"{each['class']} {percent(each['share'])}" for each in found[:NAMED]),
            said={"height": seen.height, "width": seen.width, "classes": found},
            picture=self._draw(seen.shown, labels, found),
            labels=self._map(labels),
        )

    def _draw(self, shown: np.ndarray, labels: np.ndarray, found: list[dict[str, Any]]) -> Image.Image:
        small = resize_labels(labels, shown.shape[:2])
        over = (_OPACITY * self.palette[small] + (1 - _OPACITY) * shown).round().astype(np.uint8)
        over[_borders(small)] = 255
        entries = [(f"{percent(each['share'])}  {each['class']}", self.palette[each["number"]]) for each in found]
        return with_legend(arrange([[shown, over]], ("image", "classes")), entries)

    def _map(self, labels: np.ndarray) -> Image.Image:
        """The class numbers as they are, in the colours of the picture."""
        image = Image.fromarray(labels)
        image.putpalette(self.palette.tobytes())
        return image


def _labels_by_rows(segmentor: Segmentor, views: list[Tensor], size: tuple[int, int], pixels: int) -> np.ndarray:
    """`Segmentor.predict_labels` of one image, uint8 (H, W), so many pixels at a time.

    Rows are interpolated by PyTorch's formula for bilinear interpolation without aligned corners, then the columns of
    these rows by PyTorch.
    """
    flips = (False, True) if segmentor.test_cfg.flip else (False,)
    seen = [segmentor.logits(view, view.shape[-2:], flip) for view in views for flip in flips]
    (height, width), parts = size, []
    for rows in torch.arange(height, device=seen[0].device).split(max(1, pixels // width)):
        logits = [_interpolate_rows(each, rows, height, width) for each in seen]
        best = logits[0] if len(logits) == 1 else sum(each.softmax(1) for each in logits)
        assert isinstance(best, Tensor)
        parts.append(best.argmax(1)[0].byte().cpu())
    return torch.cat(parts).numpy()


def _interpolate_rows(logits: Tensor, rows: Tensor, height: int, width: int) -> Tensor:
    """Some rows (R,) of what (1, K, h, w) is at another size: (1, K, R, W)."""
    own = logits.shape[2]
    places = ((rows + 0.5) * (own / height) - 0.5).clamp(min=0)
    above = places.long()
    below = (above + 1).clamp(max=own - 1)
    share = (places - above)[:, None]
    taken = logits[:, :, above] * (1 - share) + logits[:, :, below] * share
    return F.interpolate(taken, size=(len(rows), width), mode="bilinear", align_corners=False)


def _borders(labels: np.ndarray) -> np.ndarray:
    """Where the pixel above or to the left has another label, (H, W)."""
    above = np.diff(labels.astype(np.int16), axis=0, prepend=labels[:1])
    beside = np.diff(labels.astype(np.int16), axis=1, prepend=labels[:, :1])
    return (above != 0) | (beside != 0)


def load_predictor(
    recipe: SegmentationRecipe, trained: TrainedNetwork, normalisation: Normalisation
) -> SegmentationPredictor:
    """The segmentor in a file. Raises InputError for weights that do not fit."""
    classes = trained.known.classes
    segmentor, _, _ = create_segmentor(recipe, trained.backbone, None, len(classes), 0, normalisation, empty=True)
    load_trained(segmentor, trained.checkpoint, trained.steps, trained.kind)
    return SegmentationPredictor(recipe, segmentor.to(device_type()).eval(), classes)
