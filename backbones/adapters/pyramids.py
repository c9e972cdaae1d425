"""Feature pyramids of strides 4, 8, 16 and 32: a trunk, and what brings its maps to these strides."""

import math
from collections.abc import Callable, Sequence

from timm.layers import LayerNorm2d, lecun_normal_
from torch import Tensor, nn

from backbones.adapters.hierarchical import HierarchicalTrunk
from backbones.adapters.own_forward import OwnTrunk
from backbones.adapters.plain_vit import PlainTrunk
from backbones.contract import frozen_notes

STRIDES = (4, 8, 16, 32)

Norm = Callable[[int], nn.Module]
"""A norm for so many channels."""


Trunk = PlainTrunk | HierarchicalTrunk | OwnTrunk


class Pyramid(nn.Module):
    """Images (B, 3, H, W), normalised, to four maps (B, C, ⌈H / stride⌉, ⌈W / stride⌉), finest first.

    Images of any size will do, up to the one it was built for where a Swin Transformer is the trunk; they are padded
    with zeros on the right and at the bottom.

    trunk:    the backbone; gives four maps, or one where all levels are made from the last
    levels:   what is done to each of them
    channels: of each of the four maps that come out
    """

    strides = STRIDES

    def __init__(self, trunk: Trunk, levels: Sequence[nn.Module], channels: tuple[int, ...]):
        super().__init__()
        self.trunk = trunk
        self.levels = nn.ModuleList(levels)
        self.channels = channels

    @property
    def largest_image(self) -> int | None:
        """The longest side, in pixels, of the images that it takes; None for any."""
        return self.trunk.fixed_size

    @property
    def of_own_forward(self) -> bool:
        """Whether the trunk is a module of another author with its own forward pass."""
        return isinstance(self.trunk, OwnTrunk)

    @property
    def notes(self) -> list[str]:
        """What a reader of numbers that it leads to has to know."""
        own = [self.trunk.note] if isinstance(self.trunk, OwnTrunk) else []
        return [*own, *frozen_notes(self.trunk, "pos_embed" if isinstance(self.trunk, PlainTrunk) else None)]

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Compute the four maps."""
        sizes = [[-(-side // stride) for side in images_B3HW.shape[2:]] for stride in self.strides]
        maps = [level(trunk_map) for level, trunk_map in zip(self.levels, self._sources(images_B3HW), strict=True)]
        return [level_map[..., :height, :width] for level_map, (height, width) in zip(maps, sizes, strict=True)]

    def _sources(self, images_B3HW: Tensor) -> list[Tensor]:
        """Compute the trunk's map for each level."""
        return self.trunk(images_B3HW)


class SimplePyramid(Pyramid):
    """A pyramid in which every level is made from the last map (ViTDet, section 3)."""

    def _sources(self, images_B3HW: Tensor) -> list[Tensor]:
        return self.trunk(images_B3HW)[-1:] * len(self.strides)


def tapped_pyramid(trunk: PlainTrunk, norm: Norm | None = None) -> Pyramid:
    """The `fpn` and `beit` adapters: each of the trunk's maps brought to one stride, as wide as the trunk.

    norm: what is between two transposed convolutions, which are then initialised as PyTorch does (BEiT's segmentation
          code and mae_segmentation, backbone/mae.py:326-355; mmsegmentation's `Feature2Pyramid`). None for GroupNorm,
          and the initialisation of MIMDet's benchmark of Li et al. 2021
    """
    width = trunk.width
    levels = []
    for stride in STRIDES:
        level = _resampling(trunk.stride, stride, [width] * 8, norm or _group_norm)
        if norm is None:
            _initialise_as_mimdet(level)
        levels.append(level)
    return Pyramid(trunk, levels, (width,) * len(STRIDES))


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(32, channels), channels)


def _initialise_as_mimdet(level: nn.Module) -> None:
    for module in level.modules():
        if isinstance(module, nn.ConvTranspose2d):
            lecun_normal_(module.weight)
            nn.init.zeros_(module.get_parameter("bias"))


def simple_pyramid(trunk: PlainTrunk | OwnTrunk, channels: int) -> SimplePyramid:
    """The `simple` adapter: the last map at four strides, each with two convolutions to `channels`.

    Layers and initialisation as in ViTDet's code: channels halve with each doubling of the resolution, norms are over
    channels, and only the transposed convolutions have a bias.
    """
    widths = [trunk.width >> halvings for halvings in range(8)]
    levels: list[nn.Module] = []
    for stride in STRIDES:
        resampling = _resampling(trunk.stride, stride, widths, LayerNorm2d)
        ups = sum(isinstance(module, nn.ConvTranspose2d) for module in resampling)
        levels.append(
            resampling.extend(
                [
                    nn.Conv2d(widths[ups], channels, 1, bias=False),
                    LayerNorm2d(channels),
                    nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                    LayerNorm2d(channels),
                ]
            )
        )
    return SimplePyramid(trunk, levels, (channels,) * len(STRIDES))


def hierarchical_pyramid(trunk: HierarchicalTrunk | OwnTrunk) -> Pyramid:
    """A model's own pyramid, as it is."""
    return Pyramid(trunk, [nn.Identity() for _ in STRIDES], trunk.widths)


def _resampling(own_stride: int, stride: int, widths: Sequence[int], norm: Norm) -> nn.Sequential:
    """Layers that bring a map from its own stride to another, both powers of two.

    Transposed convolutions double the resolution, from widths[0] to widths[1] channels and so on, with a norm and GELU
    between two of them; max-pooling halves it, rounding up.
    """
    layers: list[nn.Module] = []
    for up in range(own_stride.bit_length() - stride.bit_length()):
        if up:
            layers += [norm(widths[up]), nn.GELU()]
        layers.append(nn.ConvTranspose2d(widths[up], widths[up + 1], 2, 2))
    for _ in range(stride.bit_length() - own_stride.bit_length()):
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers)
