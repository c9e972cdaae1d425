"""Models that are pyramids already, such as Swin, ConvNeXt and ResNet, as the trunk of one.

B images, C channels
"""

from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from backbones.activations import recompute_activations
from backbones.adapters.padding import padded
from backbones.depth import layer_matcher
from backbones.errors import InputError
from backbones.features import sides_to_try, undisturbed
from backbones.images.sizes import in_words

_REDUCTIONS = (4, 8, 16, 32)
_TRIED = ((128, 160), (256, 320))
"""Sizes of which a model takes one at least if it takes several."""


def stage_indices(backbone: nn.Module) -> list[int] | None:
    """Return where a model's `feature_info` has the last map of each stride, 4, 8, 16 and 32; None if it lacks one."""
    infos = getattr(backbone, "feature_info", None) or []
    last = {info["reduction"]: index for index, info in enumerate(infos)}
    return [last[stride] for stride in _REDUCTIONS] if all(stride in last for stride in _REDUCTIONS) else None


class HierarchicalTrunk(nn.Module):
    """The stages of a hierarchical model, without what comes after the last.

    backbone:   a model with `stage_indices`, taken over: do not use it afterwards
    image_size: side in pixels of the largest images, for models that are built for one size (Swin): theirs is set to
                it, with the windows as they are, and smaller images are padded to it

    Raises InputError as `recompute_activations` does, with `activation_checkpointing`, and for a model that takes
    smaller images alone.
    """

    def __init__(self, backbone: Any, image_size: int, activation_checkpointing: bool) -> None:
        super().__init__()
        indices = stage_indices(backbone)
        assert indices is not None
        self.indices = indices
        self.widths = tuple(int(backbone.feature_info[index]["num_chs"]) for index in indices)
        self.layer_matcher = layer_matcher(backbone)
        if callable(getattr(backbone, "prune_intermediate_layers", None)):
            backbone.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)
        if activation_checkpointing:
            recompute_activations(backbone)
        self.backbone: Any = backbone
        self.fixed_size = None
        self.fixed_size = _fit(backbone, image_size) or self._only_size(image_size)

    def _only_size(self, image_size: int) -> int | None:
        """The side of the only images that a model takes which cannot be set to others; None if it takes several."""
        if any(self._takes(*sides) for sides in _TRIED):
            return None
        sides = (side for side in sides_to_try(self.backbone, image_size) if side % _REDUCTIONS[-1] == 0)
        only = next((side for side in sides if self._takes(side, side)), None)
        if only is not None and only < image_size:
            raise InputError(
                f"{type(self.backbone).__name__} takes only images of {in_words(only, only)} pixels, and this recipe's "
                f"have {image_size} (model.image_size). Use --set model.image_size={only}, or build it for that size "
                "in a function of your own."
            )
        return only

    def _takes(self, height: int, width: int) -> bool:
        parameter = next(self.backbone.parameters(), None)
        try:
            with undisturbed(self), torch.no_grad():
                self(torch.zeros(1, 3, height, width, device=None if parameter is None else parameter.device))
        except (Exception, SystemExit):  # a model may do anything at another's size
            return False
        return True

    @property
    def stride(self) -> int:
        """Of the last map, in pixels."""
        return _REDUCTIONS[-1]

    @property
    def layered(self) -> nn.Module:
        """The module that `layer_matcher` knows the parameters of."""
        return self.backbone

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Return the maps of strides 4, 8, 16 and 32, (B, C, rows, columns).

        Images are padded with zeros on the right and at the bottom, to a multiple of 32 or to the size that the model
        is built for. Raises InputError if they are larger than that, or the model's maps are not of these strides.
        """
        images = padded(images_B3HW, _REDUCTIONS[-1], self.fixed_size, type(self.backbone).__name__)
        maps = self.backbone.forward_intermediates(images, indices=self.indices, intermediates_only=True)
        expected = [(images.shape[2] // stride, images.shape[3] // stride) for stride in _REDUCTIONS]
        found = [tuple(stage_map.shape[2:]) for stage_map in maps]
        if found != expected:
            raise InputError(
                f"{type(self.backbone).__name__}: forward_intermediates gave maps of rows and columns {found} for "
                f"an image of {in_words(*images.shape[2:])}; its feature_info promises strides 4, 8, 16 and 32."
            )
        return maps


def _fit(backbone: Any, image_size: int) -> int | None:
    """Set the image size of a model that is built for one, rounded up to a multiple of 32. None if it takes any."""
    set_size = getattr(backbone, "set_input_size", None)
    if set_size is None:
        return None
    size = -(-image_size // _REDUCTIONS[-1]) * _REDUCTIONS[-1]
    options = {}
    if type(backbone) in (SwinTransformer, SwinTransformerV2):  # they would scale their windows with the image
        options["window_size"] = [stage.blocks[0].window_size for stage in backbone.layers]
    set_size(img_size=(size, size), **options)
    return size
