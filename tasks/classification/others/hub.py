"""Classifiers in the folders of the Hugging Face hub: transformers' ViT, DeiT, BEiT and data2vec, and timm's models."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
from timm.data import resolve_data_config
from torch import nn

from backbones.errors import InputError
from backbones.images.crops import Interpolation
from backbones.images.normalisation import Normalisation
from backbones.weights import hub_files
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.prefixes import looks_of
from tasks.classification.others.classes import named_classes
from tasks.classification.others.classifier import Classifier, Sight, has_a_vits_pooling, require_timm
from tasks.classification.others.naming import bare

_BEIT = ("beit", "data2vec-vision")
_MODELS = ("vit", "deit", *_BEIT)
_ANY = {True: "beit_base_patch16_224", False: "vit_base_patch16_224"}
"""timm's BEiT and ViT, which take any size."""

_RESAMPLING: Mapping[Any, Interpolation] = {2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers, as transformers writes them."""


def described_by(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The hub's config.json beside a file of weights; empty where there is none."""
    return _read(checkpoint.path.with_name(hub_files.MODEL)) or {}


def of_transformers(checkpoint: Checkpoint, config: Mapping[str, Any], backbone: str | None) -> Classifier:
    """A classifier of transformers' by its config.json and preprocessor_config.json.

    Raises InputError for another model, or one that timm has not.
    """
    kind = str(config.get("model_type"))
    where = checkpoint.path.with_name(hub_files.MODEL)
    if kind not in _MODELS:
        raise InputError(
            f"{where}: model_type {kind!r}: of transformers' classifiers {', '.join(_MODELS)} are known here. "
            "Fine-tune it here as a backbone, or take timm's model of it"
        )
    if (act := config.get("hidden_act", "gelu")) != "gelu":
        raise InputError(f"{where}: hidden_act {act!r}, and timm's model has gelu")
    two_heads = any("distillation_classifier" in name for name in checkpoint.state_dict)
    arch = backbone or looks_of(checkpoint).timm_name
    sizes: dict[str, Any] = {}
    if arch is None or not timm.is_model(arch):
        arch, sizes = backbone or _ANY[kind in _BEIT], {} if backbone else _sizes(config, where)
    if two_heads and not backbone:
        arch = arch.replace("vit_", "deit_", 1).replace("patch", "distilled_patch", 1)
    one_head = not two_heads and any(name.endswith("distillation_token") for name in checkpoint.state_dict)
    if one_head:  # timm's distilled model has two; its ViT with a register computes the same
        arch = arch.replace("distilled_", "", 1)
    require_timm(arch)
    pooled = any("fc_norm." in name or "pooler.layernorm." in name for name in checkpoint.state_dict)
    eps = float(config.get("layer_norm_eps", 1e-12))
    options: dict[str, Any] = {"norm_layer": partial(nn.LayerNorm, eps=eps), **sizes}
    options |= {"num_heads": config["num_attention_heads"]} if "num_attention_heads" in config else {}
    options |= {"reg_tokens": 1} if one_head else {}
    if kind in _BEIT:
        options |= beit_options(checkpoint)
    sight, normalisation = _preprocessing(checkpoint)
    labels = config.get("id2label") or {}
    return Classifier(
        f"transformers' {kind} with its classifier",
        arch,
        arch,
        sight,
        normalisation,
        None if two_heads else "avg" if pooled else "token",
        options,
        named_classes([str(labels[key]) for key in sorted(labels, key=int)]),
    )


def _sizes(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """As options of timm's models, for a network of sizes that have no name there. Raises InputError where not told."""
    try:
        width, mlp = int(config["hidden_size"]), int(config["intermediate_size"])
        sizes = {"patch_size": int(config["patch_size"]), "depth": int(config["num_hidden_layers"])}
        return {**sizes, "embed_dim": width, "mlp_ratio": mlp / width}
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise InputError(
            f"{where}: none of timm's models by its looks, and its sizes are not all there: expected hidden_size, "
            "intermediate_size, num_hidden_layers and patch_size, all numbers"
        ) from None


def beit_options(checkpoint: Checkpoint) -> dict[str, Any]:
    """Which of BEiT's parts a file has, as options of timm's model."""
    names = [*checkpoint.state_dict]
    scaled = any(name.endswith(("gamma_1", "lambda_1", "gamma1.weight")) for name in names)
    return {
        "use_abs_pos_emb": any(name.endswith(("pos_embed", "position_embeddings")) for name in names),
        "use_rel_pos_bias": any(name.endswith("relative_position_bias_table") for name in names),
        "init_values": 0.1 if scaled else 0.0,  # None is what timm leaves out: its models' own 0.1
    }


def _preprocessing(checkpoint: Checkpoint) -> tuple[Sight, Normalisation]:
    """What transformers' image processor does, by its description. Raises InputError for what is not done here."""
    path = checkpoint.path.with_name(hub_files.PIXELS)
    told = _read(path)
    if told is None:
        raise InputError(f"{path}: not there, and it says how images are resized and normalised. Download it as well")
    size, crop = told.get("size", 224), told.get("crop_size", told.get("size", 224))
    interpolation = _RESAMPLING.get(told.get("resample", 2))
    factor = float(told.get("rescale_factor", 1 / 255))
    normalisation = Normalisation.of(told.get("image_mean"), told.get("image_std"))
    done = told.get("do_resize", True) and told.get("do_rescale", True) and told.get("do_normalize", True)
    side = _side(size)
    square = not isinstance(size, dict) or "shortest_edge" not in size
    seen = (_side(crop) if told.get("do_center_crop") else side) if square or told.get("do_center_crop") else None
    if (
        not (done and interpolation and normalisation and side and seen and side >= seen)
        or abs(255 * factor - 1) > 1e-6
    ):
        raise InputError(
            f"{path}: not known how to do this here: expected images that are resized to a square, or by their short "
            "side and cropped, bilinear or bicubic (resample 2 or 3), divided by 255 and normalised"
        )
    return Sight(seen, None, side, "square" if square else "short", interpolation), normalisation


def _side(size: Any) -> int | None:
    """In pixels; None where it is no square."""
    if isinstance(size, int):
        return size
    sides = {*size.values()} if isinstance(size, dict) else set()
    return sides.pop() if len(sides) == 1 else None


def _share_or_side(width: int, share: float) -> tuple[float | None, int | None]:
    """How large images become: by the crop's share, or by a side that no share in the recipe gives."""
    return (share, None) if 0.25 <= share <= 1 else (None, int(width / share))


def of_timm(checkpoint: Checkpoint, config: Mapping[str, Any], backbone: str | None) -> Classifier:
    """A model of timm's: by the hub's config.json, or by its name with a tag. Raises InputError for what it has not."""
    arch = str(config.get("architecture") or backbone)
    require_timm(arch)
    named = timm.get_pretrained_cfg(arch)
    known = config.get("pretrained_cfg") or (named.to_dict() if named else {})
    data = resolve_data_config(pretrained_cfg=known, use_test_size=True)
    _, height, width = data["input_size"]
    mode, interpolation = data["crop_mode"], data["interpolation"]
    if height != width or mode not in ("center", "squash") or interpolation not in ("bicubic", "bilinear"):
        raise InputError(
            f"{checkpoint.name}: timm shows {arch} images of {width} × {height} pixels, crop_mode {mode}, "
            f"{interpolation}; known here are squares, center and squash, bicubic and bilinear"
        )
    options = dict(config.get("model_args") or {})
    shape = "square" if mode == "squash" else "short"
    labels = config.get("label_names") or known.get("label_names") or ()
    found = Classifier(
        "timm's models with their own head",
        backbone or arch,
        arch,
        Sight(width, *_share_or_side(width, data["crop_pct"]), shape, interpolation),  # type: ignore[arg-type]
        Normalisation.of(data["mean"], data["std"]),
        None,
        options,
        named_classes([str(label) for label in labels]) if labels else (),
    )
    return _with_pooling(found, checkpoint, config.get("global_pool"))


def _with_pooling(found: Classifier, checkpoint: Checkpoint, stated: object) -> Classifier:
    """With the pooling of the file, where a ViT's is not its architecture's own: as stated, or by its norms."""
    network: Any = found.outline()
    if not has_a_vits_pooling(network):
        return found
    names = {bare(name) for name in checkpoint.state_dict}
    if ("fc_norm.weight" in names) != ("fc_norm.weight" in network.state_dict()):
        return replace(found, pool="avg" if "fc_norm.weight" in names else "token")
    if stated in ("avg", "token") and stated != network.global_pool:
        own = {"fc_norm": False} if "norm.weight" in names and stated == "avg" else {}
        return replace(found, pool=stated, options={**found.options, **own})
    return found


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError:
        return None
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}). Download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a description in braces. Download it again")
    return content
