"""Classifiers in the files of their authors: MAE, DeiT, BEiT, MoCo v3, torchvision and mmpretrain."""

from dataclasses import replace

import timm

from backbones.errors import InputError
from backbones.images.normalisation import HALF, IMAGENET
from backbones.names import SIZES
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.prefixes import looks_of
from backbones.weights.recognition import Recognised
from tasks.classification.others.classifier import Classifier, Pool, Sight, require_timm
from tasks.classification.others.expected import Published
from tasks.classification.others.hub import beit_options

_TORCHVISIONS = {
    "swin_tiny_patch4_window7_224": "swin_t",
    "swin_small_patch4_window7_224": "swin_s",
    "swin_base_patch4_window7_224": "swin_b",
    "vit_base_patch16_224": "vit_b_16",
    "vit_base_patch32_224": "vit_b_32",
    "vit_large_patch16_224": "vit_l_16",
    "vit_large_patch32_224": "vit_l_32",
    "vit_huge_patch14_224": "vit_h_14",
}
"""torchvision's names of timm's architectures, where the two differ."""

_MOCO_SMALL_HEADS = 12  # facebookresearch/moco-v3, vits.py, lines 45-48; timm's ViT-S has 6


def of_authors(checkpoint: Checkpoint, known: Published | None, arch: str | None, method: str | None) -> Classifier:
    """What a file is by its bytes, by the method of the declared backbone, or by its names.

    arch: timm's name, as declared; else the one that it looks like

    Raises InputError for one of which none of these tells how it was trained.
    """
    looks = looks_of(checkpoint)
    base = known.code_base if known else ""
    found_arch = arch or _arch_of(known, looks)
    if found_arch is None:
        raise InputError(f"{checkpoint.name}: {looks}. Say which of timm's models it is, with --backbone")
    require_timm(found_arch)
    moco = "MoCo v3" in (looks.likely_method, method)
    if base == "torchvision" or looks.naming == "torchvision":
        return _torchvisions(found_arch, known, looks)
    if not base and _is_resnet(looks) and not arch:
        return _of_unknown_origin(_torchvisions(found_arch, None, looks))
    if looks.family not in ("ViT", "BEiT"):
        raise _unknown(checkpoint, looks)
    side = looks.image_size or 224
    averaged = looks.fine_tuned or any(name.endswith("backbone.ln2.weight") for name in checkpoint.state_dict)
    if base == "mmpretrain" or (looks.naming == "mmpretrain" and looks.family == "ViT"):
        # configs/mae/benchmarks: 224 of 256 pixels, 448 of 512
        return _vit("mmpretrain's fine-tuned MAE", "mae", found_arch, Sight(side, 0.875), averaged)
    if looks.family == "BEiT" and looks.naming != "mmpretrain":
        return _beits(checkpoint, found_arch, side, averaged, method)
    if base == "MAE" or (looks.likely_method == "MAE" and not base) or (method == "MAE" and not moco and not base):
        # facebookresearch/mae, util/datasets.py, lines 53-63
        return _vit("facebookresearch/mae's classifiers", "mae", found_arch, Sight(side), averaged)
    if moco and not base:
        # facebookresearch/moco-v3, main_lincls.py, lines 287-295
        heads = {"num_heads": _MOCO_SMALL_HEADS} if looks.width == 384 else {}
        sight = Sight(side, interpolation="bilinear")
        return _vit("MoCo v3's linear classifiers", "mocov3", found_arch, sight, averaged, **heads)
    if base == "DeiT" or method == "supervised" or found_arch.startswith("deit_"):
        # facebookresearch/deit, main.py, line 174, datasets.py, lines 101-110
        return _deits(found_arch, Sight(side, 0.875), averaged)
    raise _unknown(checkpoint, looks)


def _unknown(checkpoint: Checkpoint, looks: Recognised) -> InputError:
    is_distilled = any(name.endswith("dist_token") for name in checkpoint.state_dict)
    deit = f"deit_{looks.size or 'base'}_distilled_patch16_224" if is_distilled else "deit_base_patch16_224"
    return InputError(
        f"{checkpoint.name}: {looks}. Its names do not tell who trained it, and so neither how it is evaluated. Say so "
        f"with --backbone: {deit} for DeiT's, mae_vit_base, mocov3_vit_base or beit_vit_base "
        "for these methods' own, timm's name with its tag for timm's, such as vit_base_patch16_224.augreg_in1k"
    )


def _arch_of(known: Published | None, looks: Recognised) -> str | None:
    if known is None:
        return looks.timm_name
    return known.arch if timm.is_model(known.arch) else looks.timm_name or known.arch


def _is_resnet(looks: Recognised) -> bool:
    return bool(looks.family and looks.family.startswith("ResNet"))


def _registered(prefix: str, arch: str) -> str:
    """The registry's name of a method's backbone of an architecture, else timm's."""
    sizes = SIZES[prefix].items()
    return next((f"{prefix}_{size}" for size, (timms, _) in sizes if timms == arch), arch)


def _vit(kind: str, prefix: str, arch: str, sight: Sight, averaged: bool, **options: object) -> Classifier:
    pool: Pool = "avg" if averaged else "token"
    method = "MoCo v3" if prefix == "mocov3" else "MAE"
    return Classifier(kind, _registered(prefix, arch), arch, sight, IMAGENET, pool, options, method=method)


def _deits(arch: str, sight: Sight, averaged: bool) -> Classifier:
    pool: Pool | None = None if "distilled" in arch else "avg" if averaged else "token"
    kind = "facebookresearch/deit's classifiers"
    return Classifier(kind, _registered("supervised", arch), arch, sight, IMAGENET, pool, method="supervised")


def _beits(checkpoint: Checkpoint, arch: str, side: int, averaged: bool, method: str | None) -> Classifier:
    """microsoft/unilm, beit/datasets.py, lines 231-246; 0.5 unless the pre-training was on ImageNet-1K alone
    (beit/README.md, line 119), as data2vec's and SimMIM's was, and that of BEiT's own file with absolute positions."""
    sight, options = Sight(side, 0.875 if side < 384 else 1.0), beit_options(checkpoint)
    told = method in ("data2vec", "SimMIM", "BEiT v2")
    normalisation = None if told else IMAGENET if options["use_abs_pos_emb"] else HALF
    pool: Pool = "avg" if averaged else "token"
    kind, name = "microsoft/unilm's fine-tuned BEiT", _registered("beit", arch)
    return Classifier(kind, name, arch, sight, normalisation, pool, options, method="" if method else "BEiT")


def _of_unknown_origin(found: Classifier) -> Classifier:
    """A ResNet: all code bases have torchvision's names, whoever trained it and however it was evaluated."""
    return replace(
        found,
        kind="a ResNet of unknown origin, which sees an image as torchvision's do",
        method="custom",
        remark=f"its names do not tell who trained it, nor how it was evaluated: say so with --backbone, "
        f"{found.arch}.tv_in1k for torchvision's first weights, timm's name with its tag for timm's",
    )


def _torchvisions(arch: str, known: Published | None, looks: Recognised) -> Classifier:
    """With torchvision's own evaluation of these weights, or of the first that it has of the architecture and of the
    size of the file's positions; of no margin where it has none of so large ones."""
    from torchvision import models

    pool: Pool | None = "token" if looks.family == "ViT" else None
    kind, theirs = "torchvision's classifiers", known.arch if known else _TORCHVISIONS.get(arch, arch)
    if theirs not in models.list_models(module=models):  # its training's own, references/classification/train.py
        sight = Sight(looks.image_size or 224, 0.875, interpolation="bilinear")
        return Classifier(kind, arch, arch, sight, IMAGENET, pool, method="supervised")
    kinds = models.get_model_weights(theirs)
    side, weights = looks.image_size, kinds[known.weights] if known and known.weights else None
    if weights is None:
        weights = next((each for each in kinds if side == each.transforms.keywords["crop_size"]), next(iter(kinds)))
    shown = weights.transforms.keywords
    size = side or shown["crop_size"]
    sight = Sight(
        size,
        None,
        max(size, shown.get("resize_size", 256)),
        interpolation=shown["interpolation"].value if "interpolation" in shown else "bilinear",
    )
    method = "SWAG" if known and "SWAG" in known.weights else "supervised"
    return Classifier(kind, arch, arch, sight, IMAGENET, pool, method=method)
