"""transformers' image encoders: plain ViTs of all kinds, BEiT and its like, and CLIP's.

Names are those of published files and, where they differ, those that models have in memory since version 5.
"""

import re

import torch
from torch import nn

from backbones.weights.conversion import Weights

_MODELS = r"(?:vit|deit|beit|data2vec_vision|dinov2(?:_with_registers)?|ijepa)\."

_BLOCK = r"((?:decoder_)?blocks\.\d+)"

# ViT, DeiT, ViTMAE, ViTMSN, I-JEPA, DINOv2 with and without registers, BEiT, data2vec-vision.
_VIT_NAMES = (
    (_MODELS, ""),
    (r"embeddings\.(cls_token|mask_token|register_tokens)", r"\1"),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"(?:encoder\.relative|shared)_position_bias\.", "rel_pos_bias."),
    (r"(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (rf"{_BLOCK}\.attention\.(?:output\.dense|o_proj)\.", r"\1.attn.proj."),
    (rf"{_BLOCK}\.attention\.attention\.(query|key|value)\.", r"\1.attn.\2."),
    (rf"{_BLOCK}\.attention\.q_proj\.", r"\1.attn.query."),
    (rf"{_BLOCK}\.attention\.k_proj\.", r"\1.attn.key."),
    (rf"{_BLOCK}\.attention\.v_proj\.", r"\1.attn.value."),
    (rf"{_BLOCK}\.(?:attention\.attention\.)?relative_position_bias\.", r"\1.attn."),
    (rf"{_BLOCK}\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (rf"{_BLOCK}\.output\.dense\.", r"\1.mlp.fc2."),
    (rf"{_BLOCK}\.mlp\.weights_in\.", r"\1.mlp.fc1."),
    (rf"{_BLOCK}\.mlp\.(?:weights_out|down_proj)\.", r"\1.mlp.fc2."),
    (rf"{_BLOCK}\.layernorm_before\.", r"\1.norm1."),
    (rf"{_BLOCK}\.layernorm_after\.", r"\1.norm2."),
    (rf"{_BLOCK}\.lambda_([12])", r"\1.gamma_\2"),
    (rf"{_BLOCK}\.layer_scale([12])\.lambda1", r"\1.ls\2.gamma"),
    (r"layernorm\.", "norm."),
    (r"pooler\.layernorm\.", "fc_norm."),
)

_CLIP_NAMES = (
    (r"vision_model\.", ""),
    (r"embeddings\.class_embedding", "cls_token"),
    (r"embeddings\.position_embedding\.weight", "pos_embed"),
    (r"embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"(?:encoder\.)?layers\.(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+)\.layer_norm([12])\.", r"\1.norm\2."),
    (r"(blocks\.\d+)\.self_attn\.q_proj\.", r"\1.attn.query."),
    (r"(blocks\.\d+)\.self_attn\.k_proj\.", r"\1.attn.key."),
    (r"(blocks\.\d+)\.self_attn\.v_proj\.", r"\1.attn.value."),
    (r"(blocks\.\d+)\.self_attn\.out_proj\.", r"\1.attn.proj."),
    (r"pre_layrnorm\.", "norm_pre."),
    (r"post_layernorm\.", "norm."),
)


def from_huggingface(weights: Weights, model: nn.Module) -> None:
    """Rename from transformers' ViTs, BEiTs and CLIP, and join their separate query, key and value projections."""
    if weights.names(rf"(?:{_MODELS})?embeddings\.patch_embeddings\.projection\."):
        _rename(weights, _VIT_NAMES)
        weights.drop(weights.names(r"pooler\.dense\."), "transformers' pooler, part of the head")
        weights.drop(
            weights.names(r"(?:cls|distillation)_classifier\."), "the head of the task that it was trained for"
        )
        for name in weights.names(r"blocks\.\d+\.mlp\.gate_proj\."):
            _join_gates(weights, name)
    elif weights.names(r"(?:vision_model\.)?embeddings\.class_embedding$"):
        _rename_clip(weights)
    else:
        return
    for name in weights.names(rf"{_BLOCK}\.attn\.query\.weight"):
        _join_projections(weights, name.removesuffix("query.weight"))


def name_decoder(weights: Weights, model: nn.Module) -> None:
    """Name transformers' decoder of ViTMAE as MAE does; its blocks' insides are left to `from_huggingface`."""
    weights.rename(r"decoder\.decoder_(?:encoder\.layer|layers)\.(\d+)\.", r"decoder_blocks.\1.")
    weights.rename(r"decoder\.(mask_token|decoder_)", r"\1")


def _rename(weights: Weights, rules: tuple[tuple[str, str], ...]) -> None:
    for pattern, replacement in rules:
        weights.rename(pattern, replacement)


def _rename_clip(weights: Weights) -> None:
    """Keep CLIP's image encoder, and give its class token and positions timm's axes: (D) and (L, D) there."""
    if weights.names(r"vision_model\."):
        weights.drop(weights.names(r"(?!vision_model\.)"), "CLIP's text encoder or its projections")
    weights.drop(weights.names(r"(?:vision_model\.)?embeddings\.position_ids"), "counts the positions")
    _rename(weights, _CLIP_NAMES)
    for name, dimensions in (("cls_token", 1), ("pos_embed", 2)):
        tensor = weights.tensors.get(name)
        if tensor is not None and tensor.ndim == dimensions:
            weights.tensors[name] = tensor.reshape((1, 1, -1) if dimensions == 1 else (1, *tensor.shape))


def _join_gates(weights: Weights, gate: str) -> None:
    """Stack the two halves of a SwiGLU's first layer, as DINOv2's own ViT-g has them."""
    names = [gate, gate.replace("gate_proj", "up_proj")]
    joined = torch.cat([weights.tensors[name] for name in names])
    weights.make(gate.replace("gate_proj", "fc1"), joined, names, "gate and value joined")
    weights.remove_joined(names)


def _join_projections(weights: Weights, attention: str) -> None:
    """Stack one block's query, key and value as timm's `qkv`; BEiT's two biases (the key has none) stay apart there."""
    parts = ("query", "key", "value")
    for kind in ("weight", "bias"):
        names = [f"{attention}{part}.{kind}" for part in parts]
        if all(name in weights.tensors for name in names):
            joined = torch.cat([weights.tensors[name] for name in names])
            weights.make(f"{attention}qkv.{kind}", joined, names, "query, key and value joined")
            weights.remove_joined(names)
    weights.rename(re.escape(attention) + r"query\.bias", f"{attention}q_bias")
    weights.rename(re.escape(attention) + r"value\.bias", f"{attention}v_bias")
