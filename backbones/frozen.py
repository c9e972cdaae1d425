"""What a frozen backbone says of an image: pooled features of its last blocks.   B images, T + N tokens, C channels"""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from backbones.contract import has_timms_interface
from backbones.errors import InputError
from backbones.features import Form, examine, pick
from backbones.images.sizes import in_words

BLOCKS = 4
"""Of how many of the last blocks, or stages, features are given."""

TOKEN, MEAN = "token", "avg"


class FrozenBackbone(nn.Module):
    """A backbone in evaluation, whose parameters do not train and whose statistics stay as they are.

    Its features are named: `token1` is the class token of the last block, `token2` of the one before, up to `token4`,
    all after the backbone's last norm; `avg1` is the mean over the patches of the last block, which alone is kept of
    backbones with a class token. Without one there are `avg1` to `avg4`. Of hierarchical backbones `avg1` is what their
    own pooling gives, and the others are means over the maps of earlier stages; those that pool by a class token, as
    CaiT, XCiT and PiT do, have it alone, as `token1`. What is not made as timm's models are has those of its last
    block, or of its four maps.

    backbone:   taken over: do not use it afterwards
    image_size: side of the images in pixels

    Raises InputError for features that cannot be told, and for a module that takes no such images.
    """

    def __init__(self, backbone: nn.Module, image_size: int) -> None:
        super().__init__()
        self.backbone: Any = backbone.requires_grad_(False)
        self._pool: Callable[[Tensor], dict[str, Tensor]]
        if _gives_prefix_tokens(self.backbone):
            self._pool = self._of_tokens
        elif _pools_by_class_token(self.backbone):
            self._pool = self._of_class_token
        elif has_timms_interface(self.backbone) and callable(getattr(self.backbone, "forward_head", None)):
            self._pool = self._of_stages
        else:
            self.form: Form = examine(self.backbone, type(backbone).__name__, image_size)
            side = self.form.fixed_size
            if side and side != image_size:
                raise InputError(
                    f"{type(backbone).__name__}: forward_features takes only images of {in_words(side, side)} pixels, "
                    f"and this recipe's have {image_size}. Use --set model.image_size={side}"
                )
            self._pool = self._of_form
        self.train(False)

    def train(self, mode: bool = True) -> "FrozenBackbone":
        """Stay in evaluation, whoever asks."""
        return super().train(False)

    def forward(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """The features of normalised images by name, (B, C) each."""
        return self._pool(images_B3HW)

    @property
    def kinds(self) -> list[str]:
        """The names of the features that it gives."""
        model = self.backbone
        if self._pool == self._of_tokens:
            places = range(1, self._blocks + 1)
            tokens = [f"{TOKEN}{place}" for place in places]
            return [*tokens, f"{MEAN}1"] if _has_class_token(model) else [f"{MEAN}{place}" for place in places]
        if self._pool == self._of_class_token:
            return [f"{TOKEN}1"]
        if self._pool == self._of_stages:
            return [f"{MEAN}{place}" for place in range(1, self._stages + 1)]
        means = [f"{MEAN}{place}" for place in range(1, len(self.form.strides) + 1)]
        return [*([f"{TOKEN}1"] if self.form.prefix else []), *means]

    @property
    def width(self) -> int:
        """The channels of the last block's features, `token1` and `avg1`."""
        if self._pool == self._of_form:
            return self.form.channels[-1]
        return int(getattr(self.backbone, "head_hidden_size", self.backbone.num_features))

    @property
    def _blocks(self) -> int:
        return min(BLOCKS, len(getattr(self.backbone, "blocks", [None])))

    @property
    def _stages(self) -> int:
        return min(BLOCKS, len(self.backbone.feature_info)) if hasattr(self.backbone, "feature_info") else 1

    def _of_tokens(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        model = self.backbone
        found = model.forward_intermediates(
            images_B3HW,
            indices=self._blocks,
            return_prefix_tokens=True,
            norm=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        blocks = [each if isinstance(each, tuple) else (each, None) for each in reversed(found)]
        mean_BC = self._normalised(blocks[0][0].mean(1))
        if _has_class_token(model):
            tokens = {f"{TOKEN}{place}": prefix[:, 0] for place, (_, prefix) in enumerate(blocks, start=1)}
            return tokens | {f"{MEAN}1": mean_BC}
        means = {f"{MEAN}{place}": patches.mean(1) for place, (patches, _) in enumerate(blocks, start=1)}
        return means | {f"{MEAN}1": mean_BC}

    def _normalised(self, mean_BC: Tensor) -> Tensor:
        """By the norm that comes behind the mean in some ViTs, and is in place of the last one."""
        norm = getattr(self.backbone, "fc_norm", None)
        return mean_BC if norm is None else norm(mean_BC)

    def _of_class_token(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        model = self.backbone
        return {f"{TOKEN}1": model.forward_head(model.forward_features(images_B3HW), pre_logits=True)}

    def _of_stages(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        model = self.backbone
        last, maps = model.forward_intermediates(images_B3HW, indices=self._stages, output_fmt="NCHW")
        means = {f"{MEAN}{place}": each.mean((2, 3)) for place, each in enumerate(reversed(maps), start=1)}
        return means | {f"{MEAN}1": model.forward_head(last, pre_logits=True)}

    def _of_form(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        output, form = self.backbone.forward_features(images_B3HW), self.form
        found = pick(output, type(self.backbone).__name__)
        if form.layout != "tokens":
            over = (2, 3) if form.layout == "channels first" else (1, 2)
            return {f"{MEAN}{place}": each.mean(over) for place, each in enumerate(reversed(found), start=1)}
        (tokens,) = found
        means = {f"{MEAN}1": tokens[:, form.prefix :].mean(1)}
        return means | ({f"{TOKEN}1": tokens[:, 0]} if form.prefix else {})


def _gives_prefix_tokens(model: Any) -> bool:
    """Whether it is made as timm's ViTs are."""
    if not has_timms_interface(model) or not hasattr(model, "num_prefix_tokens"):
        return False
    return "return_prefix_tokens" in inspect.signature(model.forward_intermediates).parameters


def _pools_by_class_token(model: Any) -> bool:
    """As CaiT, XCiT and PiT do; CLIP's ResNets say "token" too, whose attention pooling begins at the mean."""
    if getattr(model, "global_pool", None) != "token" or not callable(getattr(model, "forward_head", None)):
        return False
    has_one = any("cls_token" in name for name, _ in model.named_parameters())
    return has_one and "pre_logits" in inspect.signature(model.forward_head).parameters


def _has_class_token(model: Any) -> bool:
    """Registers come before the patches too, and are none."""
    said = getattr(model, "has_class_token", None)
    return bool(model.num_prefix_tokens) if said is None else bool(said)
