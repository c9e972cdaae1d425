"""A module of another author as the trunk of a pyramid: its own forward pass, attention over the whole image included.

B images, C channels
"""

from typing import Any

from torch import Tensor, nn

from backbones.activations import recompute_activations
from backbones.adapters.padding import padded
from backbones.depth import layer_matcher
from backbones.errors import InputError
from backbones.features import Form, examine
from backbones.images.sizes import in_words

_LARGEST_STRIDE = 32


def _require_power_of_two(stride: int, name: str) -> None:
    if stride & (stride - 1) or stride > _LARGEST_STRIDE:
        raise InputError(
            f"{name}: forward_features gives a map of stride {stride}, and pyramids are made from powers of two up to "
            f"{_LARGEST_STRIDE}. Build it with patches of 8, 16 or 32 pixels, or enlarge the images in "
            "forward_features."
        )


class OwnTrunk(nn.Module):
    """Whatever `forward_features` gives, as one map or four.

    backbone:    a module as `backbones.contract` has it, taken over: do not use it afterwards
    image_size:  side in pixels of the images to expect. A model with `set_input_size` becomes one for it; images are
                 padded to the size of a model that takes one alone
    for_pyramid: whether other maps are to be made from its maps

    Raises InputError as `examine` and, with `activation_checkpointing`, `recompute_activations` do; `for_pyramid` for a
    stride that is no power of two; and for a model that takes only smaller images.
    """

    def __init__(
        self, backbone: Any, image_size: int, activation_checkpointing: bool, for_pyramid: bool = True
    ) -> None:
        super().__init__()
        name = type(backbone).__name__
        self.form: Form = examine(backbone, name)
        if for_pyramid:
            _require_power_of_two(self.form.strides[0], name)
        step = _LARGEST_STRIDE if for_pyramid else self.form.strides[-1]
        whole = -(-image_size // step) * step
        if callable(getattr(backbone, "set_input_size", None)):
            backbone.set_input_size(img_size=(whole, whole))
            self.form = examine(backbone, name)
        if self.form.fixed_size not in (None, whole):
            self.form = examine(backbone, name, whole)
        self.fixed_size = self.form.fixed_size
        if self.fixed_size and self.fixed_size < image_size:
            raise InputError(
                f"{name}: forward_features takes only images of {in_words(self.fixed_size, self.fixed_size)} pixels, "
                f"and this recipe's have {image_size} (model.image_size). Let it take several sizes, by interpolating "
                "its position embeddings, or give it set_input_size(img_size=(side, side)), or use "
                f"--set model.image_size={self.fixed_size}"
            )
        self.layer_matcher = layer_matcher(backbone)
        if activation_checkpointing:
            recompute_activations(backbone)
        self.backbone: Any = backbone

    @property
    def layered(self) -> nn.Module:
        """The module that `layer_matcher` knows the parameters of."""
        return self.backbone

    @property
    def stride(self) -> int:
        """Of the map, or the finest one."""
        return self.form.strides[0]

    @property
    def width(self) -> int:
        """C of the map, or of the finest one."""
        return self.form.channels[0]

    @property
    def widths(self) -> tuple[int, ...]:
        """C of all maps."""
        return self.form.channels

    @property
    def note(self) -> str:
        """What a reader of the numbers has to know."""
        return (
            f"the pyramid is made from {type(self.backbone).__name__}.forward_features ({self.form}) of whole images, "
            "without windows or relative positions but its own"
        )

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Return the maps, (B, C, rows, columns).

        Images are padded with zeros on the right and at the bottom, to whole cells or to the size that the model takes.
        Raises InputError if they are larger than that.
        """
        images = padded(images_B3HW, self.form.strides[-1], self.fixed_size, type(self.backbone).__name__)
        return self.form.maps(self.backbone.forward_features(images), *images.shape[2:])
