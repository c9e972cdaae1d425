"""How the code bases of the field name their weights, and the way from there to timm's names.

Each step takes the weights and the model that they are meant for, changes what it recognises and leaves the rest
alone. A method (backbones/weights/methods.py) is read by a sequence of them. What no step explains is an error.
"""

import re
import sys
from collections.abc import Callable, Iterable

import torch
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from backbones.errors import InputError
from backbones.weights.conversion import Weights

Step = Callable[[Weights, nn.Module], None]

# Prefixes that a wrapper puts before every name: DataParallel, torch.compile, a training module around the model.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "encoder.")

# What wrappers of modules inside a model put before the names of those: FSDP, activation checkpointing, torch.compile.
_INNER_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
_MOST_WRAPPERS = 4  # of a kind, one in the other

# transformers' ViT, ViTMAE and BEiT: as published, and since version 5 as in memory.
_HUGGINGFACE_NAMES = (
    (r"(?:vit|beit)\.", ""),
    (r"embeddings\.(cls_token|mask_token)", r"\1"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"(?:encoder\.relative|shared)_position_bias\.", "rel_pos_bias."),
    (r"(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+)\.attention\.(?:output\.dense|o_proj)\.", r"\1.attn.proj."),
    (r"(blocks\.\d+)\.attention\.attention\.(query|key|value)\.", r"\1.attn.\2."),
    (r"(blocks\.\d+)\.attention\.q_proj\.", r"\1.attn.query."),
    (r"(blocks\.\d+)\.attention\.k_proj\.", r"\1.attn.key."),
    (r"(blocks\.\d+)\.attention\.v_proj\.", r"\1.attn.value."),
    (r"(blocks\.\d+)\.(?:attention\.attention\.)?relative_position_bias\.", r"\1.attn."),
    (r"(blocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"(blocks\.\d+)\.lambda_([12])", r"\1.gamma_\2"),
    (r"layernorm\.", "norm."),
    (r"pooler\.layernorm\.", "fc_norm."),
)

_MMPRETRAIN_NAMES = (
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"layers\.(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+)\.ln([12])\.", r"\1.norm\2."),
    (r"(blocks\.\d+)\.ffn\.layers\.0\.0\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.ffn\.layers\.1\.", r"\1.mlp.fc2."),
    (r"ln1\.", "norm."),
)


_TORCHVISION_NAMES = re.compile(
    r"features\.1\.0\.(attn\.qkv\.weight|layer_scale)|encoder\.layers\.encoder_layer_0\.self_attention\.in_proj_weight"
)
"""Of torchvision's Swin, ConvNeXt and ViT; its ResNets are named as timm's are."""


def named_by_torchvision(names: Iterable[str]) -> bool:
    """Whether a Swin, ConvNeXt or ViT has these names in torchvision, whose modules are numbered and not named."""
    return any(_TORCHVISION_NAMES.fullmatch(name) for name in names)


def refuse_torchvision(weights: Weights, model: nn.Module) -> None:
    """Raise InputError for weights of torchvision's Swin, ConvNeXt and ViT, unless the model is torchvision's too."""
    if not named_by_torchvision(weights.tensors) or named_by_torchvision(model.state_dict()):
        return
    architecture = (getattr(model, "pretrained_cfg", None) or {}).get("architecture") or "NAME"
    raise InputError(
        "a model of torchvision's own, whose weights timm's models cannot take. Give those of timm's model: "
        f'torch.save(timm.create_model("{architecture}", pretrained=True).state_dict(), FILE). Or register '
        "torchvision's model as a backbone of your own; the README says how."
    )


def strip_wrappers(weights: Weights, model: nn.Module) -> None:
    """Remove prefixes that all names share; of a file with a `backbone.` (DINO, OpenMMLab) take that part.

    What FSDP, activation checkpointing and torch.compile put between the names of modules is removed as well.
    """
    own_names = model.state_dict().keys()
    for wrapper in _INNER_WRAPPERS:
        if not any(wrapper in name for name in own_names):
            for _ in range(_MOST_WRAPPERS):
                weights.rename(rf"(.*?){re.escape(wrapper)}", r"\1")
    prefixes = [prefix for prefix in _WRAPPERS if not any(name.startswith(prefix) for name in own_names)]
    while weights.tensors:
        shared = next((p for p in prefixes if all(name.startswith(p) for name in weights.tensors)), None)
        if shared is None and weights.names(r"backbone\.") and not any(n.startswith("backbone.") for n in own_names):
            weights.drop(weights.names(r"(?!backbone\.)"), "not part of the backbone")
            shared = "backbone."
        if shared is None:
            return
        weights.rename(re.escape(shared), "")


def take_moco_encoder(weights: Weights, model: nn.Module) -> None:
    """Of a MoCo pre-training (facebookresearch/moco, moco-v3), take the encoder that its own evaluation takes.

    Raises InputError if the model is a ViT-S whose attention is not divided into the 12 heads of MoCo v3's ViT-S:
    timm's has 6, and the shapes would not tell.
    """
    wrapper = r"(?:module\.)?"
    for taken, momentum in (("base_encoder", "momentum_encoder"), ("encoder_q", "encoder_k")):
        if weights.names(wrapper + rf"{taken}\."):
            weights.drop(weights.names(wrapper + rf"{momentum}\."), "MoCo's momentum encoder, only for pre-training")
            weights.drop(weights.names(wrapper + r"predictor\."), "MoCo's predictor, only for pre-training")
            weights.drop(
                weights.names(wrapper + r"queue(?:_ptr)?$"), "MoCo's queue of negatives, only for pre-training"
            )
            weights.rename(wrapper + rf"{taken}\.", "")
    keys = [*weights.dropped, *(key for keys in weights.sources.values() for key in keys)]
    heads = getattr(getattr(getattr(model, "blocks", [None])[0], "attn", None), "num_heads", None)
    is_mocos = any(re.match(wrapper + r"base_encoder\.", key) for key in keys)
    if is_mocos and getattr(model, "embed_dim", None) == 384 and heads not in {None, 12}:
        raise InputError(
            f"MoCo v3's ViT-S has 12 attention heads, this model {heads}: the weights would load and mean something "
            "else. Use --backbone mocov3_vit_small=FILE."
        )


def from_huggingface(weights: Weights, model: nn.Module) -> None:
    """Rename from transformers' ViT, ViTMAE and BEiT, and join their separate query, key and value projections."""
    if not weights.names(r"(?:(?:vit|beit)\.)?embeddings\.patch_embeddings\.projection\."):
        return
    for pattern, replacement in _HUGGINGFACE_NAMES:
        weights.rename(pattern, replacement)
    weights.drop(weights.names(r"pooler\.dense\."), "transformers' pooler, part of the head")
    for name in weights.names(r"blocks\.\d+\.attn\.query\.weight"):
        _join_projections(weights, name.removesuffix("query.weight"))


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


def from_mmpretrain(weights: Weights, model: nn.Module) -> None:
    """Rename from mmpretrain's VisionTransformer."""
    if weights.names(r"layers\.\d+\.ln1\.") and weights.names(r"patch_embed\.projection\."):
        for pattern, replacement in _MMPRETRAIN_NAMES:
            weights.rename(pattern, replacement)


def drop_masking(weights: Weights, model: nn.Module) -> None:
    """Leave out what masked image modelling needs only while pre-training: decoder, mask token, token classifier."""
    own_names = model.state_dict().keys()
    weights.drop(
        (name for name in weights.names(r"decoder(?:_\w+)?\.|decoder_pos_embed$") if name not in own_names),
        "the decoder, only for pre-training",
    )
    weights.drop(
        (name for name in weights.names(r"mask_token$") if name not in own_names),
        "stands for hidden patches, only in pre-training",
    )
    weights.drop(weights.names(r"(?:cls_pt_)?lm_head\."), "predicts BEiT's visual tokens, only for pre-training")
    weights.drop(weights.names(r"cls_pt_(?:layers|norm)\."), "of BEiT v2's class token, only for pre-training")


def spread_position_biases(weights: Weights, model: nn.Module) -> None:
    """Give every block its own copy of the relative position biases that BEiT's blocks share while pre-training.

    So does BEiT's own fine-tuning (microsoft/unilm, beit/run_class_finetuning.py).
    """
    index = [name for name in weights.tensors if name.endswith("relative_position_index")]
    weights.drop((n for n in index if n not in model.state_dict()), "computed from the image size")
    shared = "rel_pos_bias.relative_position_bias_table"
    if shared not in weights.tensors or shared in model.state_dict():
        return
    blocks = sorted({int(name.split(".")[1]) for name in weights.names(r"blocks\.\d+\.")})
    for block in blocks:
        name = f"blocks.{block}.attn.relative_position_bias_table"
        weights.make(name, weights.tensors[shared], [shared], "this block's copy of the shared table")
    weights.remove_joined([shared])


def through_timm(weights: Weights, model: nn.Module) -> None:
    """For other architectures than ViT and BEiT, apply timm's own reader of the original authors' files, if it has one.

    Raises InputError if that reader cannot make sense of the file.
    """
    reader = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if reader is None or isinstance(model, VisionTransformer | Beit):
        return
    before = weights.tensors
    try:
        after = reader(dict(before), model)
    except Exception as error:  # timm's readers assume their own architecture and fail anywhere on another
        names = ", ".join(list(before)[:3])
        raise InputError(f"timm's reader for {type(model).__name__} makes no sense of its names ({names}).") from error
    origin = {id(tensor): name for name, tensor in before.items()}
    sources: dict[str, tuple[str, ...]] = {}
    for name, tensor in after.items():
        old_name = origin.get(id(tensor), name)
        sources[name] = weights.sources.get(old_name, ())
        if tensor is not before.get(old_name):
            weights.converted[name] = f"by timm's reader for {type(model).__name__}"
    used = {key for keys in sources.values() for key in keys}
    unused = [key for keys in weights.sources.values() for key in keys if key not in used]
    weights.dropped.update(dict.fromkeys(unused, f"left out or merged by timm's reader for {type(model).__name__}"))
    weights.tensors, weights.sources = dict(after), sources


def drop_heads(weights: Weights, model: nn.Module) -> None:
    """Leave out the classifiers and projectors behind the features, whatever the task they were trained for."""
    own_names = model.state_dict().keys()
    heads = weights.names(r"(?:head|head_dist|fc|classifier|pre_logits)\.")
    weights.drop((name for name in heads if name not in own_names), "the head of the task that it was trained for")


def match_final_norm(weights: Weights, model: nn.Module) -> None:
    """Allow for the two places of a ViT's last norm: over tokens (`norm`) or over the averaged features (`fc_norm`).

    Fine-tuning with average pooling replaces the first by a fresh second one (MAE, BEiT). Where file and model
    disagree, the file's is dropped and the model's initialised: the two see different inputs.
    """
    own_names = model.state_dict().keys()
    reasons = {
        "fc_norm": "normalises the averaged features, part of the fine-tuned head",
        "norm": "normalises the tokens; this model normalises the averaged features instead",
    }
    for theirs, ours in (("fc_norm", "norm"), ("norm", "fc_norm")):
        if f"{theirs}.weight" in weights.tensors and f"{theirs}.weight" not in own_names:
            weights.drop(weights.names(re.escape(theirs) + r"\."), reasons[theirs])
            if f"{ours}.weight" in own_names and f"{ours}.weight" not in weights.tensors:
                fresh = f"the file has {theirs} instead; starts at scale 1, shift 0"
                weights.initialised.update({f"{ours}.weight": fresh, f"{ours}.bias": fresh})
