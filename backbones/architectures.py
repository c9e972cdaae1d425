"""Building a timm model as a backbone: without a head, at an image size, with drop path, never downloading."""

from typing import Any

import timm
from timm.layers import to_2tuple
from torch import nn

import backbones.vit_sizes  # noqa: F401  (registers the small sizes in timm)
from backbones.errors import InputError


def build_timm_model(arch: str, image_size: int | None = None, drop_path: float = 0.0, **options: Any) -> nn.Module:
    """Build timm's model of that name with random weights and no classifier.

    image_size reaches the models that are built for one size (ViT, BEiT, Swin); the others take any and ignore it.
    drop_path, in [0, 1), replaces the architecture's own rate (Swin's is 0.1). options go to timm, num_classes for a
    classifier among them.

    Raises InputError if the size does not fit, or drop path is asked of an architecture that has none.
    """
    if not 0.0 <= drop_path < 1.0:
        raise InputError(f"drop path {drop_path}: expected a probability from 0 up to, not including, 1.")
    if image_size is not None and image_size < 1:
        raise InputError(f"image size {image_size}: expected a positive number of pixels.")
    config = timm.get_pretrained_cfg(arch)
    if image_size is not None and config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    try:
        model = _create(arch, drop_path, options)
    except InputError:
        raise
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        size = f" at image size {image_size}" if "img_size" in options else ""
        raise InputError(f"{arch} cannot be built{size}: {error}") from error
    _require_whole_patches(model, arch, image_size if "img_size" in options else None)
    return model


def _create(arch: str, drop_path: float, options: dict[str, Any]) -> nn.Module:
    options = {"num_classes": 0} | options
    try:
        return timm.create_model(arch, pretrained=False, drop_path_rate=drop_path, **options)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        if drop_path > 0:
            raise InputError(f"{arch} has no drop path; set it to 0 (it was {drop_path}).") from error
        return timm.create_model(arch, pretrained=False, **options)


def _require_whole_patches(model: nn.Module, arch: str, image_size: int | None) -> None:
    """Raise InputError if patches would not cover the image: timm would refuse it, or drop the rest, while running."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if image_size is None or patch is None:
        return
    sides = to_2tuple(patch)  # XCiT has one number
    if any(image_size % side for side in sides):
        side = max(sides)
        below, above = image_size // side * side, -(-image_size // side) * side
        raise InputError(
            f"image size {image_size}: not a multiple of {arch}'s patch size {side}. Use {below or above} or {above}."
        )


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model's parameters hold, trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())
