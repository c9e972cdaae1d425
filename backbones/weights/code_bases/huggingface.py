"""transformers' image encoders: plain ViTs of all kinds, BEiT and its like, those of CLIP, SigLIP and AIMv2, DINOv3's.

Names are those of published files and, where they differ, those that models have in memory since version 5.
"""

import re
from collections.abc import Iterable

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
    (r"head\.probe$", "attn_pool.latent"),
    (r"head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"head\.attention\.in_proj_", "attn_pool.in_proj."),
    (r"head\.layernorm\.", "attn_pool.norm."),
    (r"head\.mlp\.", "attn_pool.mlp."),
)

_AIMV2_NAMES = (
    (r"vision_model\.", ""),
    (r"embeddings\.patch_embed\.", "patch_embed.proj."),
    (r"embeddings\.rms_norm\.", "patch_embed.norm."),
    (r"embeddings\.position_embedding\.weight", "pos_embed"),
    (r"encoder\.layers\.(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+)\.rms_norm([12])\.", r"\1.norm\2."),
    (r"(blocks\.\d+)\.attention\.q_proj\.", r"\1.attn.query."),
    (r"(blocks\.\d+)\.attention\.k_proj\.", r"\1.attn.key."),
    (r"(blocks\.\d+)\.attention\.v_proj\.", r"\1.attn.value."),
    (r"(blocks\.\d+)\.attention\.out_proj\.", r"\1.attn.proj."),
    (r"(blocks\.\d+)\.ffn\.gate_proj\.", r"\1.mlp.fc1_g."),
    (r"(blocks\.\d+)\.ffn\.up_proj\.", r"\1.mlp.fc1_x."),
    (r"(blocks\.\d+)\.ffn\.down_proj\.", r"\1.mlp.fc2."),
    (r"rms_norm\.", "norm."),
)

_DINOV3 = r"(?:dinov3_vit\.)?embeddings\.patch_embeddings\.weight$"
_DINOV3_NAMES = (
    (r"dinov3_vit\.", ""),
    (r"embeddings\.(cls_token|mask_token)", r"\1"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"(?:model\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+)\.attention\.q_proj\.", r"\1.attn.query."),
    (r"(blocks\.\d+)\.attention\.k_proj\.", r"\1.attn.key."),
    (r"(blocks\.\d+)\.attention\.v_proj\.", r"\1.attn.value."),
    (r"(blocks\.\d+)\.attention\.o_proj\.", r"\1.attn.proj."),
    (r"(blocks\.\d+)\.layer_scale([12])\.lambda1", r"\1.gamma_\2"),
    (r"(blocks\.\d+)\.mlp\.down_proj\.", r"\1.mlp.fc2."),
)


def from_huggingface(weights: Weights, model: nn.Module) -> None:
    """Rename from transformers' image encoders, and join their separate query, key and value projections."""
    if weights.names(rf"(?:{_MODELS})?embeddings\.patch_embeddings\.projection\."):
        _rename(weights, _VIT_NAMES)
        weights.drop(weights.names(r"pooler\.dense\."), "transformers' pooler, part of the head")
        weights.drop(
            weights.names(r"(?:cls|distillation)_classifier\."), "the head of the task that it was trained for"
        )
        for name in weights.names(r"blocks\.\d+\.mlp\.gate_proj\."):
            _join_gates(weights, name)
    elif weights.names(r"(?:vision_model\.)?embeddings\.(?:class_embedding|patch_embedding\.weight)$"):
        _rename_image_encoder(weights, _CLIP_NAMES)
        _split_pooling(weights, model)
    elif weights.names(r"(?:vision_model\.)?embeddings\.patch_embed\.weight$"):
        weights.drop(weights.names(r"(?:vision_model\.)?head\."), "AIMv2's pooling, which timm's models do without")
        _rename_image_encoder(weights, _AIMV2_NAMES)
    elif named_as_dinov3(weights.tensors):
        _rename_dinov3(weights)
    else:
        return
    for name in weights.names(rf"{_BLOCK}\.attn\.query\.weight"):
        _join_projections(weights, model, name.removesuffix("query.weight"))
    _drop_zero_biases(weights, model)


def named_as_dinov3(names: Iterable[str]) -> bool:
    """Whether transformers' DINOv3 has these names."""
    return any(re.match(_DINOV3, name) for name in names)


def name_decoder(weights: Weights, model: nn.Module) -> None:
    """Name transformers' decoder of ViTMAE as MAE does; its blocks' insides are left to `from_huggingface`."""
    weights.rename(r"decoder\.decoder_(?:encoder\.layer|layers)\.(\d+)\.", r"decoder_blocks.\1.")
    weights.rename(r"decoder\.(mask_token|decoder_)", r"\1")


def _rename(weights: Weights, rules: tuple[tuple[str, str], ...]) -> None:
    for pattern, replacement in rules:
        weights.rename(pattern, replacement)


def _rename_image_encoder(weights: Weights, rules: tuple[tuple[str, str], ...]) -> None:
    """Keep the image encoder, and give its class token and positions timm's axes: (D) and (L, D) there."""
    if weights.names(r"vision_model\."):
        weights.drop(weights.names(r"(?!vision_model\.)"), "CLIP's text encoder or its projections")
    weights.drop(weights.names(r"(?:vision_model\.)?embeddings\.position_ids"), "counts the positions")
    _rename(weights, rules)
    for name, dimensions in (("cls_token", 1), ("pos_embed", 2)):
        tensor = weights.tensors.get(name)
        if tensor is not None and tensor.ndim == dimensions:
            weights.tensors[name] = tensor.reshape((1, 1, -1) if dimensions == 1 else (1, *tensor.shape))


def _split_pooling(weights: Weights, model: nn.Module) -> None:
    """Make timm's query and joint key and value of SigLIP's pooling, which a model that pools otherwise has not."""
    own = model.state_dict()
    if own and not any(name.startswith("attn_pool.") for name in own):
        weights.drop(weights.names(r"attn_pool\."), "SigLIP's pooling, which this model does without")
    for name in weights.names(r"attn_pool\.in_proj\."):
        kind, joined = name.rpartition(".")[2], weights.tensors[name]
        width = joined.shape[0] // 3
        weights.make(f"attn_pool.q.{kind}", joined[:width].contiguous(), [name], "the query's part")
        weights.make(f"attn_pool.kv.{kind}", joined[width:].contiguous(), [name], "key's and value's parts")
        weights.remove_joined([name])


def _rename_dinov3(weights: Weights) -> None:
    """Name DINOv3's ViT as timm's Eva does; where its feed-forward layers have gates, both halves stay apart there."""
    _rename(weights, _DINOV3_NAMES)
    weights.drop(weights.names(r"mask_token$"), "stands for hidden patches, only in pre-training")
    is_gated = bool(weights.names(r"blocks\.\d+\.mlp\.gate_proj\."))
    weights.rename(r"(blocks\.\d+)\.mlp\.gate_proj\.", r"\1.mlp.fc1_g.")
    weights.rename(r"(blocks\.\d+)\.mlp\.up_proj\.", r"\1.mlp.fc1_x." if is_gated else r"\1.mlp.fc1.")


def _drop_zero_biases(weights: Weights, model: nn.Module) -> None:
    """Leave out DINOv3's biases of query and value where they are zero and the model, as timm's, has none."""
    own = model.state_dict()
    if own and weights.names(r"blocks\.0\.gamma_1$") and "blocks.0.gamma_1" in own:
        biases = [name for name in weights.names(r"blocks\.\d+\.attn\.[qv]_bias$") if name not in own]
        weights.drop([name for name in biases if not weights.tensors[name].any()], "zero, and this model has none")


def _join_gates(weights: Weights, gate: str) -> None:
    """Stack the two halves of a SwiGLU's first layer, as DINOv2's own ViT-g has them."""
    names = [gate, gate.replace("gate_proj", "up_proj")]
    joined = torch.cat([weights.tensors[name] for name in names])
    weights.make(gate.replace("gate_proj", "fc1"), joined, names, "gate and value joined")
    weights.remove_joined(names)


def _join_projections(weights: Weights, model: nn.Module, attention: str) -> None:
    """Stack one block's query, key and value as timm's `qkv`; BEiT's two biases (the key has none) stay apart there.

    A model that has a bias for all three gets zeros for the keys', which computes the same.
    """
    parts = ("query", "key", "value")
    for kind in ("weight", "bias"):
        names = [f"{attention}{part}.{kind}" for part in parts]
        if all(name in weights.tensors for name in names):
            joined = torch.cat([weights.tensors[name] for name in names])
            weights.make(f"{attention}qkv.{kind}", joined, names, "query, key and value joined")
            weights.remove_joined(names)
    two = [f"{attention}{part}.bias" for part in ("query", "value")]
    if f"{attention}qkv.bias" in model.state_dict() and all(name in weights.tensors for name in two):
        query, value = (weights.tensors[name] for name in two)
        joined = torch.cat([query, torch.zeros_like(query), value])
        weights.make(f"{attention}qkv.bias", joined, two, "query and value joined, with zeros for the key")
        weights.remove_joined(two)
    weights.rename(re.escape(attention) + r"query\.bias", f"{attention}q_bias")
    weights.rename(re.escape(attention) + r"value\.bias", f"{attention}v_bias")
