"""Google's ViTs in JAX: `.npz` files of google-research/vision_transformer and big_vision.

Linear layers are (in, out) there, convolutions (height, width, in, out), and attention has an axis of heads.
"""

import torch
from torch import Tensor, nn

from backbones.weights.conversion import Weights

_PREFIX = r"(?:opt/target/|params/(?:img/)?)?"
_NAMES = (
    (_PREFIX + r"(?=embedding/|cls$|pos_embedding$|Transformer/|head/|pre_logits/)", ""),
    (r"embedding/", "patch_embed.proj."),
    (r"cls$", "cls_token"),
    (r"(?:Transformer/posembed_input/)?pos_embedding$", "pos_embed"),
    (r"Transformer/encoder_norm/", "norm."),
    (r"Transformer/encoderblock_(\d+)/", r"blocks.\1."),
    (r"(blocks\.\d+)\.LayerNorm_0/", r"\1.norm1."),
    (r"(blocks\.\d+)\.LayerNorm_[12]/", r"\1.norm2."),
    (r"(blocks\.\d+)\.MultiHeadDotProductAttention_\d/out/", r"\1.attn.proj."),
    (r"(blocks\.\d+)\.MultiHeadDotProductAttention_\d/(query|key|value)/", r"\1.attn.\2."),
    (r"(blocks\.\d+)\.MlpBlock_\d/Dense_0/", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.MlpBlock_\d/Dense_1/", r"\1.mlp.fc2."),
    (r"(head|pre_logits)/", r"\1."),
    (r"(.*)\.(?:kernel|scale)$", r"\1.weight"),
)


def from_jax(weights: Weights, model: nn.Module) -> None:
    """Rename from Google's ViT in JAX, and bring the axes of its layers into PyTorch's order."""
    if not weights.names(_PREFIX + r"Transformer/encoderblock_0/LayerNorm_0/") or not weights.names(
        _PREFIX + "embedding/kernel"
    ):
        return
    for pattern, replacement in _NAMES:
        weights.rename(pattern, replacement)
    for name in weights.names(r"blocks\.\d+\.attn\.query\.weight"):
        _join_heads(weights, name.removesuffix("query.weight"))
    for name in weights.names(r"blocks\.\d+\.attn\.proj\.weight"):
        weights.tensors[name] = weights.tensors[name].flatten(0, -2)
    for name in weights.names(r"(?!pos_embed|cls_token)"):
        if name.endswith(".weight") and ".qkv." not in name:
            weights.tensors[name] = _transposed(weights.tensors[name])


def _join_heads(weights: Weights, attention: str) -> None:
    """Stack query, key and value of all heads as timm's `qkv`: (D, heads, D / heads) each in the file."""
    for kind in ("weight", "bias"):
        names = [f"{attention}{part}.{kind}" for part in ("query", "key", "value")]
        parts = [weights.tensors[name] for name in names]
        flat = [part.flatten(1).T if kind == "weight" else part.flatten() for part in parts]
        weights.make(f"{attention}qkv.{kind}", torch.cat(flat), names, "query, key and value joined")
        weights.remove_joined(names)


def _transposed(weight: Tensor) -> Tensor:
    if weight.ndim == 4:
        return weight.permute(3, 2, 0, 1).contiguous()
    return weight.T.contiguous() if weight.ndim == 2 else weight
