"""A linear layer behind a frozen backbone.   B images, C channels, K classes"""

from typing import Literal

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.frozen import FrozenBackbone

EPS = 1e-6
"""Of the batch norm, whose momentum is PyTorch's 0.1 (facebookresearch/mae, main_linprobe.py, line 222)."""

HEAD_STD = 0.01
"""Standard deviation of the head's first weights (facebookresearch/mae, main_linprobe.py, line 218)."""


class LinearProbe(nn.Module):
    """Features of a frozen backbone, batch norm without weights, and a linear layer, which alone trains.

    Nothing random stands between backbone and head. The backbone is in evaluation always, and of it no gradients are
    computed. Batch norm and features are in single precision.

    backbone:   taken over: do not use it afterwards
    pool:       "token" for the class token, "avg" for the mean over patches or cells, as `FrozenBackbone` has them
    image_size: side of the images in pixels

    Raises InputError for a backbone without such features.
    """

    def __init__(self, backbone: nn.Module, classes: int, pool: Literal["token", "avg"], image_size: int) -> None:
        super().__init__()
        name = type(backbone).__name__
        self.trunk = FrozenBackbone(backbone, image_size)
        self.kind = f"{pool}1"
        if self.kind not in self.trunk.kinds:
            if pool == "token":
                why, fit = f" needs a backbone with a class token, and {name} has none", "avg"
            else:
                why, fit = f", and of {name} the class token alone is taken, by which it pools", "token"
            raise InputError(f'key "model.pool": "{pool}"{why}. Use --set model.pool={fit}')
        self.norm = nn.BatchNorm1d(self.trunk.width, eps=EPS, affine=False)
        self.head = nn.Linear(self.trunk.width, classes)
        trunc_normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Logits of normalised images, (B, K)."""
        with torch.no_grad():
            features_BC = self.trunk(images_B3HW)[self.kind].float()
        logits_BK: Tensor = self.head(self.norm(features_BC))
        return logits_BK
