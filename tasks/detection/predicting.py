"""What a trained detector finds in single images."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.errors import DataError
from backbones.images.normalisation import Normalisation
from backbones.images.panels import arrange
from backbones.images.reading import UnreadableImage
from backbones.images.sizes import in_words
from backbones.images.upright import read_upright, read_upright_size
from backbones.trained.file import Description
from backbones.trained.loading import load_trained
from backbones.trained.prediction import Prediction, percent
from backbones.training.machine import device_type
from tasks.datasets.coco.images import CocoImages
from tasks.detection.detector import DetectionStep
from tasks.detection.metric import coco_results
from tasks.detection.pictures import LEAST_SCORE, draw_objects
from tasks.detection.recipe import DetectionRecipe
from tasks.detection.samples import gather
from tasks.detection.task import create_detector, evaluation_samples
from tasks.pictures import shown_side
from tasks.trained import TrainedNetwork


@dataclass(frozen=True)
class _Seen:
    """number: the image's; sample: what the detector sees; image: the whole, uint8 (3, H, W)"""

    number: int
    sample: dict[str, Any]
    image: Tensor


class DetectionPredictor:
    """The objects that score at least `score`, in COCO's results format, the best first.

    An image is turned by its EXIF orientation; boxes and masks are in the pixels of the image so turned.
    """

    images = 1

    def __init__(self, recipe: DetectionRecipe, step: DetectionStep, categories: dict[int, str], score: float) -> None:
        self.recipe, self.step, self.categories, self.score = recipe, step, categories, score
        listed = [{"id": identity, "name": name} for identity, name in categories.items()]
        self.about: dict[str, Any] = {"score": score, "categories": listed}

    def read(self, path: Path, number: int) -> _Seen:
        """The image, resized as evaluation does it. Raises UnreadableImage."""
        (height, width), _ = read_upright_size(path, None)
        entry = {"id": number, "file_name": path.name, "height": height, "width": width}
        try:
            samples = evaluation_samples(self.recipe, CocoImages.of(path.parent, [(entry, ())]))
        except DataError:
            raise UnreadableImage(path, f"{in_words(height, width)} pixels are too thin to be resized") from None
        sample = samples[0]
        for name, why in sample["corrupt"].items():
            raise UnreadableImage(name, why)
        return _Seen(number, sample, read_upright(path, None)[0])

    @torch.no_grad()
    def predict(self, seen: Sequence[_Seen]) -> list[Prediction]:
        """The objects in each image."""
        outputs = self.step.val_step(gather([each.sample for each in seen]))
        return [self._prediction(*each) for each in zip(seen, outputs, strict=True)]

    def _prediction(self, seen: _Seen, outputs: dict[str, Any]) -> Prediction:
        results = coco_results(outputs, seen.number, list(self.categories))
        ranked = sorted(results, key=lambda each: -each["score"])
        found = [
            each | {"category_name": self.categories[each["category_id"]]}
            for each in ranked
            if each["score"] >= self.score
        ]
        counts = Counter(each["category_name"] for each in found)
        height, width = seen.image.shape[1:]
        title = f"{len(found)} of {len(results)} detections score at least {percent(self.score)}"
        panel = draw_objects(seen.image, found, self.categories, shown_side(height, width))
        return Prediction(
            words=", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing",
            said={"id": seen.number, "height": height, "width": width, "detections": found},
            picture=arrange([[panel]], (title,)),
        )


def load_predictor(
    recipe: DetectionRecipe, trained: TrainedNetwork, normalisation: Normalisation, *, score: float = LEAST_SCORE
) -> DetectionPredictor:
    """The detector in a file. Raises InputError for weights that do not fit."""
    known = trained.known
    names = list(known.classes)
    detector, _, _ = create_detector(recipe, trained.backbone, None, len(names), 0, normalisation, empty=True)
    load_trained(detector, trained.checkpoint, trained.steps, trained.kind)
    numbers = known.class_ids if isinstance(known, Description) else ()
    categories = dict(zip(numbers or range(1, len(names) + 1), names, strict=True))
    return DetectionPredictor(recipe, DetectionStep(detector).to(device_type()).eval(), categories, score)
