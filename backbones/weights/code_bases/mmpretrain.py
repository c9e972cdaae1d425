"""mmpretrain's VisionTransformer and BEiT, pre-trained and fine-tuned (mmpretrain/models/backbones)."""

from torch import nn

from backbones.weights.conversion import Weights

_NAMES = (
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"pre_norm\.", "norm_pre."),
    (r"layers\.(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+)\.ln([12])\.", r"\1.norm\2."),
    (r"(blocks\.\d+)\.ffn\.layers\.0\.0\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.ffn\.layers\.1\.", r"\1.mlp.fc2."),
    (r"(blocks\.\d+)\.(?:attn|ffn)\.gamma([12])\.weight", r"\1.ls\2.gamma"),
    (r"ln1\.", "norm."),
    (r"ln2\.", "fc_norm."),
)


def from_mmpretrain(weights: Weights, model: nn.Module) -> None:
    """Rename from mmpretrain's ViTs; where it averages tokens, the norm behind that is its `ln2`."""
    if weights.names(r"layers\.\d+\.ln1\.") and weights.names(r"patch_embed\.projection\."):
        for pattern, replacement in _NAMES:
            weights.rename(pattern, replacement)
