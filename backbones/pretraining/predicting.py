"""What a masked autoencoder paints where it sees single images in part."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.images.crops import evaluation_crop
from backbones.images.normalisation import Normalisation
from backbones.images.panels import arrange
from backbones.images.reading import read_image
from backbones.mae.masking import require_sampling
from backbones.mae.model import MaskedAutoencoder
from backbones.mae.reconstructions import paint
from backbones.pretraining.settings import MaskedAutoencoderRecipe, PretrainingRecipe
from backbones.pretraining.steps import build_autoencoder
from backbones.trained.loading import load_trained
from backbones.trained.prediction import Prediction
from backbones.training.machine import device_type
from backbones.weights.checkpoints import Checkpoint

_SHOWN_SIDE = 320
"""Pixels of a panel's side, at least: patches of small images are enlarged to whole multiples, and stay crisp."""


@dataclass(frozen=True)
class _Seen:
    """crop: what the autoencoder is given, uint8 (3, size, size); height, width: of the whole image"""

    crop: Tensor
    height: int
    width: int


class ReconstructionPredictor:
    """Original, masked and painted image, the same patches hidden in every one."""

    images = 1

    def __init__(
        self, model: MaskedAutoencoder, normalisation: Normalisation, image_size: int, mask_ratio: float, seed: int
    ) -> None:
        self.model, self.normalisation, self.image_size = model, normalisation, image_size
        self.mask_ratio = mask_ratio
        self.noise = model.draw_noise(1, generator=torch.Generator().manual_seed(seed)).to(device_type())
        self.about: dict[str, Any] = {"mask_ratio": mask_ratio, "seed": seed}

    def read(self, path: Path, number: int) -> _Seen:
        """The image's centre. Raises UnreadableImage."""
        image = read_image(path)
        return _Seen(evaluation_crop(image, self.image_size).contiguous(), *image.shape[1:])

    def predict(self, seen: Sequence[_Seen]) -> list[Prediction]:
        """What it paints, and how far from the truth."""
        return [self._prediction(each) for each in seen]

    def _prediction(self, seen: _Seen) -> Prediction:
        images = seen.crop[None].to(device_type())
        shown, loss, mask = paint(self.model, images, self.mask_ratio, self.noise, self.normalisation)
        hidden, patches = int(mask.sum()), mask.numel()
        panels = [_enlarge((255 * each).round().byte().permute(1, 2, 0).cpu().numpy()) for each in shown]
        return Prediction(
            words=f"loss {loss.item():.4f} on {hidden} of {patches} patches",
            said={"height": seen.height, "width": seen.width, "loss": loss.item(), "hidden": hidden},
            picture=arrange([panels], ("original", f"{patches - hidden} of {patches} patches seen", "painted")),
        )


def _enlarge(pixels: np.ndarray) -> np.ndarray:
    times = -(-_SHOWN_SIDE // max(pixels.shape[:2])) if max(pixels.shape[:2]) < _SHOWN_SIDE // 2 else 1
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def load_predictor(
    recipe: PretrainingRecipe,
    checkpoint: Checkpoint,
    normalisation: Normalisation,
    *,
    mask_ratio: float | None = None,
    seed: int = 0,
) -> ReconstructionPredictor:
    """The autoencoder in a file; by default at the mask ratio of its training.

    Raises InputError for weights that do not fit, for a mask ratio that cannot be, and for an objective that paints
    nothing.
    """
    if not isinstance(recipe, MaskedAutoencoderRecipe):
        raise InputError(
            f"{checkpoint.name}: {recipe.model.arch} is no masked autoencoder, so it paints nothing. "
            "Fine-tune its encoder with `backbench run`, and predict with that"
        )
    settings = recipe.model
    ratio = settings.mask_ratio if mask_ratio is None else mask_ratio
    model = build_autoencoder(settings)
    require_sampling(settings.mask_sampling, model.patch_embed.grid_size, ratio)
    load_trained(model, checkpoint)
    model.to(device_type()).eval()
    return ReconstructionPredictor(model, normalisation, settings.image_size, ratio, seed)
