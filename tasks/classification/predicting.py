"""What a trained classifier takes single images for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from timm.data import ImageNetInfo
from torch import Tensor

from backbones.images.normalisation import Normalisation
from backbones.images.panels import FONT, HEADER, MARGIN, shorten
from backbones.images.reading import UnreadableImage, read_image
from backbones.trained.loading import load_trained
from backbones.trained.prediction import Prediction, percent
from backbones.training.machine import device_type
from tasks.classification.classifier import ClassificationStep
from tasks.classification.recipe import ClassificationRecipe
from tasks.classification.task import create_classifier, evaluation_images
from tasks.pictures import show_image
from tasks.trained import TrainedNetwork

BARS = 12
"""The most that are drawn; the JSON has all that are asked for."""

WORDNET_ID = re.compile(r"n\d{8}")

NAMED = 3
_WIDTH, _HEIGHT, _THICKNESS = 340, 40, 10
"""Of a class's name with its bar below it, and of the bar, in pixels."""

_SEEN = 224
"""Pixels of the side in which the network's input is shown."""

_FIRST, _OTHERS, _EMPTY = (67, 99, 216), (160, 178, 236), (232, 234, 240)


@dataclass(frozen=True)
class _Seen:
    """crop: what the network sees, uint8 (3, size, size); shown: the whole image (H, W, 3); height, width: its own"""

    crop: Tensor
    shown: np.ndarray
    height: int
    width: int


class ClassificationPredictor:
    """The `top` likeliest classes of each image, with their probabilities."""

    images = 16

    def __init__(self, recipe: ClassificationRecipe, step: ClassificationStep, classes: list[str], top: int) -> None:
        self.recipe, self.step, self.classes, self.top = recipe, step, classes, min(top, len(classes))
        self.names = words_of(classes)
        self.about: dict[str, Any] = {"top": self.top, "of": len(classes)}

    def _named(self, number: int) -> dict[str, str]:
        """What people call a class, where it is called otherwise."""
        name = self.names.get(self.classes[number])
        return {"name": name} if name else {}

    def read(self, path: Path, number: int) -> _Seen:
        """The central crop, as evaluation makes it. Raises UnreadableImage."""
        sample = evaluation_images(self.recipe, [path], [0])[0]
        for name, why in sample["corrupt"].items():
            raise UnreadableImage(name, why)
        image = read_image(path)
        return _Seen(sample["images"], show_image(image), *image.shape[1:])

    @torch.no_grad()
    def predict(self, seen: Sequence[_Seen]) -> list[Prediction]:
        """Each image's classes, the likeliest first."""
        images = torch.stack([each.crop for each in seen]).to(device_type())
        best = self.step.logits(images).softmax(1).topk(self.top, dim=1)
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [self._prediction(each, *row) for each, row in zip(seen, rows, strict=True)]

    def _prediction(self, seen: _Seen, numbers: list[int], probabilities: list[float]) -> Prediction:
        found = [
            {"class": self.classes[number], **self._named(number), "number": number, "probability": probability}
            for number, probability in zip(numbers, probabilities, strict=True)
        ]
        names = [self.names.get(self.classes[number], self.classes[number]) for number in numbers]
        bars = [*zip(names, probabilities, strict=True)]
        words = ", ".join(f"{name} {percent(probability)}" for name, probability in bars[:NAMED])
        said = {"height": seen.height, "width": seen.width, "classes": found}
        return Prediction(words, said, draw_classes(seen.shown, bars[:BARS], show_image(seen.crop, _SEEN)))


def words_of(classes: Sequence[str]) -> dict[str, str]:
    """What classes mean that are called by WordNet's ids, as ImageNet's are: "n01440764" is "tench, Tinca tinca"."""
    if not all(WORDNET_ID.fullmatch(each) for each in classes):
        return {}
    info = ImageNetInfo("imagenet-22k")
    known = {*info.label_names()} & {*classes}
    return {each: info.label_name_to_description(each) for each in classes if each in known}


def draw_classes(image: np.ndarray, classes: Sequence[tuple[str, float]], seen: np.ndarray) -> Image.Image:
    """An image, uint8 (H, W, 3), and beside it bars for the probabilities of classes.

    Below the bars, where there is room, what the network has seen of it, uint8 (h, w, 3).
    """
    height, width = image.shape[:2]
    size = (width + _WIDTH + 4 * MARGIN, max(height, len(classes) * _HEIGHT) + 2 * MARGIN)
    picture = Image.new("RGB", size, "white")
    picture.paste(Image.fromarray(image), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(picture)
    left = width + 3 * MARGIN
    right = left + _WIDTH
    for index, (name, probability) in enumerate(classes):
        top = MARGIN + index * _HEIGHT
        share = percent(probability)
        room = _WIDTH - FONT.getlength(share) - 2 * MARGIN
        draw.text((left, top), shorten(name, room), fill="black", font=FONT)
        draw.text((right, top), share, fill="black", font=FONT, anchor="ra")
        bar = top + 20
        draw.rectangle((left, bar, right - 1, bar + _THICKNESS - 1), fill=_EMPTY)
        if length := round(_WIDTH * probability):
            colour = _OTHERS if index else _FIRST
            draw.rectangle((left, bar, left + length - 1, bar + _THICKNESS - 1), fill=colour)
    top = picture.height - MARGIN - seen.shape[0]
    if top >= MARGIN + len(classes) * _HEIGHT + HEADER:
        draw.text((left, top - HEADER + 4), "seen by the network", fill="black", font=FONT)
        picture.paste(Image.fromarray(seen), (left, top))
    return picture


def load_predictor(
    recipe: ClassificationRecipe, trained: TrainedNetwork, normalisation: Normalisation, *, top: int = 5
) -> ClassificationPredictor:
    """The classifier in a file. Raises InputError for weights that do not fit."""
    classes = list(trained.known.classes)
    step, _, _ = create_classifier(recipe, trained.backbone, None, len(classes), 0, normalisation, empty=True)
    load_trained(step.network, trained.checkpoint, trained.steps, trained.kind)
    return ClassificationPredictor(recipe, step.to(device_type()).eval(), classes, top)
