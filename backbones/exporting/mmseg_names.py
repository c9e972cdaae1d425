"""OpenMMLab's names of a plain ViT's tensors: mmsegmentation's MAE and mmpretrain's VisionTransformer."""

from collections.abc import Mapping

from torch import Tensor

_NAMES = (
    ("patch_embed.proj.", "patch_embed.projection."),
    ("blocks.", "layers."),
    ("norm.", "ln1."),
)
_OF_BLOCK = (
    ("norm1.", "ln1."),
    ("norm2.", "ln2."),
    ("attn.attention.", "attn."),
    ("attn.attend.", "attn."),
    ("ls1.gamma", "gamma_1"),
    ("ls2.gamma", "gamma_2"),
    ("mlp.fc1.", "ffn.layers.0.0."),
    ("mlp.fc2.", "ffn.layers.1."),
)


def openmmlab_name(name: str) -> str:
    """The name that OpenMMLab's ViTs have for a tensor of timm's, or of a trunk here."""
    if not name.startswith("blocks."):
        return _renamed(name, _NAMES)
    _, number, inner = name.split(".", 2)
    return f"layers.{number}.{_renamed(inner, _OF_BLOCK)}"


def name_encoder(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All of a plain ViT's tensors."""
    return {openmmlab_name(name): tensor for name, tensor in own.items()}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in rules:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
