"""What a plain ViT is whose weights mean the same in other libraries, and its sizes."""

from dataclasses import dataclass
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from backbones.contract import changed_by_others
from backbones.errors import InputError

_OF_BLOCK = (
    *("norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias"),
    *("norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"),
)
_OUTSIDE = ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias")
_NORMS, _HEAD = ("norm.", "fc_norm."), "head."
_OF_PRETRAINING = ("decoder_", "mask_token")


@dataclass(frozen=True)
class PlainViT:
    """The sizes of a ViT with a class token, position embeddings for it and the patches, biases, LayerNorm and GELU.

    image_size: height and width in pixels that the position embeddings are made for
    patch:      side in pixels
    mlp:        width of the hidden layer of each block's MLP
    epsilon:    of all norms
    averaged:   whether the head sees the mean of the patches, normalised by `fc_norm`, and not the class token
    classes:    how many outputs the head has; 0 without one
    """

    image_size: tuple[int, int]
    patch: int
    width: int
    depth: int
    heads: int
    mlp: int
    epsilon: float
    averaged: bool
    classes: int

    @property
    def side(self) -> int | tuple[int, int]:
        """The image size, as one number where it is square."""
        height, width = self.image_size
        return height if height == width else (height, width)


def plain_vit(model: Any) -> PlainViT:
    """The sizes of a ViT, encoder or classifier, that is as the original is.

    Raises InputError, with what keeps it from that, for any other model: a sentence that goes on from its name.
    """
    if why := _why_not(model):
        raise InputError(why)
    height, width = model.patch_embed.img_size
    block: Any = model.blocks[0]
    names = model.state_dict().keys()
    head = model.head
    return PlainViT(
        image_size=(height, width),
        patch=model.patch_embed.patch_size[0],
        width=model.patch_embed.proj.out_channels,
        depth=len(model.blocks),
        heads=block.attn.num_heads,
        mlp=block.mlp.fc1.out_features,
        epsilon=block.norm1.eps,
        averaged="fc_norm.weight" in names,
        classes=head.out_features if isinstance(head, nn.Linear) else 0,
    )


def _why_not(model: Any) -> str | None:
    if not isinstance(model, VisionTransformer):
        return f"{type(model).__name__} is no plain ViT"
    return _changed(model)


def _changed(model: Any) -> str | None:
    """What a timm's ViT has otherwise than the original."""
    if changed := changed_by_others(model):
        return f"it has its own {changed}"
    names = {name for name in model.state_dict() if not name.startswith(_OF_PRETRAINING)}
    expected = {*_OUTSIDE, *(f"blocks.{number}.{name}" for number in range(len(model.blocks)) for name in _OF_BLOCK)}
    others = sorted(name for name in names - expected if not name.startswith((*_NORMS, _HEAD)))
    if missing := sorted(expected - names):
        return f"it has no {missing[0]}"
    if others:
        return f"it has {others[0]}, which the original ViT has not"
    patches = model.patch_embed.num_patches
    if model.pos_embed.shape[1] != patches + 1:
        return "its class token has no position embedding"
    if len({*model.patch_embed.patch_size}) > 1:
        return "its patches are not square"
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    if len({norm.eps for norm in norms}) > 1:
        return "its norms have several epsilons"
    activations = {type(block.mlp.act) for block in model.blocks}
    if activations != {nn.GELU} or any(block.mlp.act.approximate != "none" for block in model.blocks):
        return "its activation is not the exact GELU"
    return None
