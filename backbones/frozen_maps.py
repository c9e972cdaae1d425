"""What a frozen backbone says of the places of an image: maps of its last blocks.   B images, C channels"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.adapters.hierarchical import HierarchicalTrunk, stage_indices
from backbones.adapters.own_forward import OwnTrunk
from backbones.adapters.plain_vit import PlainTrunk, foreign_part
from backbones.errors import InputError


class FrozenMaps(nn.Module):
    """A backbone in evaluation, whose parameters do not train and whose statistics stay as they are.

    A plain ViT (no `foreign_part`) keeps class token and registers through all blocks, attends to the whole image and
    has its own position embeddings interpolated to the patches of each; its maps are the patches of its last blocks,
    all after the backbone's last norm (facebookresearch/dinov2, dinov2/models/vision_transformer.py,
    `get_intermediate_layers`). A hierarchical backbone has its last stage's map, of stride 32, and any other the map
    that its `forward_features` gives, or the last of four: one map alone.

    backbone:   taken over: do not use it afterwards
    layers:     of how many last blocks maps are given
    image_size: side in pixels of the images to expect. Only models that are built for one size do not take larger ones

    Raises InputError for a backbone whose `forward_features` gives no patches or maps, for one that takes no such
    images, and for more `layers` than it has maps of.
    """

    def __init__(self, backbone: nn.Module, layers: int, image_size: int) -> None:
        super().__init__()
        name = type(backbone).__name__
        self.layers = layers
        self.norm: nn.Module = nn.Identity()
        self.trunk: PlainTrunk | HierarchicalTrunk | OwnTrunk
        self.notes: list[str] = []
        foreign = foreign_part(backbone)
        if foreign is None:
            self.norm = getattr(backbone, "norm", self.norm)
            self.trunk = _plain(backbone, layers, image_size)
            width, self.stride = self.trunk.width, self.trunk.stride
        else:
            if layers > 1:
                raise InputError(
                    f'key "features.layers": {layers}: {name} is probed on its last map alone ({foreign}). Use '
                    "--set features.layers=1"
                )
            self.trunk = _of_maps(backbone, image_size)
            width, self.stride = self.trunk.widths[-1], _stride_of_last(self.trunk)
            self.notes = [f"features are the last map of {name}, of stride {self.stride}, before any norm of its head"]
        self.widths = (width,) * layers
        self.requires_grad_(False)
        self.train(False)

    @property
    def largest_image(self) -> int | None:
        """The longest side, in pixels, of the images that it takes; None for any."""
        return self.trunk.fixed_size

    def train(self, mode: bool = True) -> "FrozenMaps":
        """Stay in evaluation, whoever asks."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """The maps of normalised images, (B, C, rows, columns) each, from the earliest block to the last.

        Images whose sides are no multiples of the stride get zeros round them, as DINOv2's `CenterPadding` lays them
        (facebookresearch/dinov2, notebooks/semantic_segmentation.ipynb); those of a model for one size on the right and
        at the bottom, where there are no cells then.
        """
        images = images_B3HW if self.largest_image else centred(images_B3HW, self.stride)
        rows, columns = (-(-side // self.stride) for side in images.shape[2:])
        maps = self.trunk(images)[-self.layers :]
        return [self._normalised(each)[..., :rows, :columns] for each in maps]

    def _normalised(self, map_BCHW: Tensor) -> Tensor:
        return self.norm(map_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def centred(images_B3HW: Tensor, multiple: int) -> Tensor:
    """The images amid zeros, their sides brought to multiples of so many pixels; an odd one more after than before."""
    missing = [-side % multiple for side in images_B3HW.shape[2:]]
    (above, below), (left, right) = ((pixels // 2, pixels - pixels // 2) for pixels in missing)
    return F.pad(images_B3HW, (left, right, above, below))


def _plain(backbone: Any, layers: int, image_size: int) -> PlainTrunk:
    return PlainTrunk(
        backbone,
        image_size=image_size,
        window=None,
        tokens=True,
        position_embeddings="loaded",
        positions=None,
        taps=None,
        last=layers,
        layer_scale=None,
        patch_resampling=None,
        activation_checkpointing=False,
    )


def _of_maps(backbone: nn.Module, image_size: int) -> HierarchicalTrunk | OwnTrunk:
    if stage_indices(backbone) is not None and callable(getattr(backbone, "forward_intermediates", None)):
        return HierarchicalTrunk(backbone, image_size, activation_checkpointing=False)
    return OwnTrunk(backbone, image_size, activation_checkpointing=False, for_pyramid=False)


def _stride_of_last(trunk: HierarchicalTrunk | OwnTrunk) -> int:
    return trunk.form.strides[-1] if isinstance(trunk, OwnTrunk) else trunk.stride
