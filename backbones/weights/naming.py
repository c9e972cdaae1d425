"""The way from the names in a file of weights to timm's: what all code bases need (each's own names: code_bases/).

Each step takes the weights and the model that they are meant for, changes what it recognises and leaves the rest
alone. A method (backbones/weights/methods.py) is read by a sequence of them. What no step explains is an error.
"""

import re
from collections.abc import Callable

from torch import nn

from backbones.errors import InputError
from backbones.weights.conversion import Weights

Step = Callable[[Weights, nn.Module], None]

# Prefixes that a wrapper puts before every name: DataParallel, torch.compile, a training module around the model.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "encoder.")

# What wrappers of modules inside a model put before the names of those: FSDP, activation checkpointing, torch.compile.
_INNER_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
_MOST_WRAPPERS = 4  # of a kind, one in the other


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


def drop_masking(weights: Weights, model: nn.Module) -> None:
    """Leave out what masked image modelling needs only while pre-training: decoder, mask token, token classifier."""
    own_names = model.state_dict().keys()
    weights.drop(
        (name for name in weights.names(r"decoder(?:_\w+)?\.|decoder_pos_embed$") if name not in own_names),
        "the decoder, only for pre-training",
    )
    weights.drop(weights.names(r"multi_scale_fusion_heads\."), "leads to Hiera's decoder, only for pre-training")
    weights.drop(
        (name for name in weights.names(r"(?:mask_token|masked_embed)$") if name not in own_names),
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


def drop_heads(weights: Weights, model: nn.Module) -> None:
    """Leave out the classifiers and projectors behind the features, whatever the task they were trained for."""
    own_names = model.state_dict().keys()
    counts = [name for name in weights.tensors if name.rpartition(".")[2] in ("total_ops", "total_params")]
    weights.drop((name for name in counts if name not in own_names), "operations and parameters, counted by thop")
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
