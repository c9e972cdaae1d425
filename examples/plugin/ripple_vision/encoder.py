"""A small convolutional encoder that timm does not have.   B images, C channels, H × W cells"""

from typing import Any

from timm.layers import DropPath
from torch import Tensor, nn

WIDTHS = (32, 64, 96, 128)
STRIDES = (4, 8, 16, 32)


class Unit(nn.Module):
    """Mix each channel over its neighbourhood, then the channels of each cell; (B, C, H, W) stays so."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.over_space = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.over_channels = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.GELU(), nn.Conv2d(2 * width, width, 1))
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mixed: Tensor = x_BCHW + self.drop_path(self.over_channels(self.over_space(self.norm(x_BCHW))))
        return mixed


class RippleNet(nn.Module):
    """Four stages of maps with strides 4, 8, 16 and 32, for images of any size.

    `forward_features` is what backbench needs of every model. `forward_intermediates` and `feature_info` give dense
    tasks all four maps, `group_matcher` says which parameters make a layer, for layer-wise learning rates, and the rest
    is what timm's models have for classification.
    """

    def __init__(self, drop_path: float = 0.0, units: int = 2) -> None:
        super().__init__()
        self.num_features, self.num_classes = WIDTHS[-1], 0
        self.feature_info = [{"num_chs": width, "reduction": s} for width, s in zip(WIDTHS, STRIDES, strict=True)]
        self.stem = nn.Conv2d(3, WIDTHS[0], 4, stride=4)
        stages = []
        for before, width in zip(WIDTHS[:1] + WIDTHS, WIDTHS, strict=False):
            entrance = nn.Identity() if before == width else nn.Conv2d(before, width, 2, stride=2)
            stages.append(nn.Sequential(entrance, *(Unit(width, drop_path) for _ in range(units))))
        self.stages = nn.ModuleList(stages)
        self.head: nn.Module = nn.Identity()

    def forward_features(self, x_B3HW: Tensor) -> Tensor:
        """The last map, (B, 128, H / 32, W / 32)."""
        last: Tensor = self.forward_intermediates(x_B3HW, indices=[3])[0]
        return last

    def forward_intermediates(
        self, x_B3HW: Tensor, indices: list[int], intermediates_only: bool = True
    ) -> list[Tensor]:
        """The maps of the stages of these numbers."""
        x, maps = self.stem(x_B3HW), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [maps[index] for index in indices]

    def forward(self, x_B3HW: Tensor) -> Tensor:
        logits: Tensor = self.head(self.forward_features(x_B3HW).mean((2, 3)))
        return logits

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)"}

    def prune_intermediate_layers(self, indices: list[int], **unneeded: bool) -> list[int]:
        """Nothing follows the last stage that its map could do without."""
        return indices

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
