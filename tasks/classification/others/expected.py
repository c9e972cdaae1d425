"""What was published of classifiers that are known by their bytes: their numbers, and how they were evaluated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from backbones.weights.checkpoints import Checkpoint
from backbones.weights.origin import find_known

_FINETUNE = "https://github.com/facebookresearch/mae/blob/main/FINETUNE.md"
_DEIT = "https://github.com/facebookresearch/deit/blob/main/README_deit.md"
_MMPRETRAIN = "https://github.com/open-mmlab/mmpretrain/blob/main/configs/mae/metafile.yml"


@dataclass(frozen=True)
class Published:
    """A file that is known by its bytes.

    code_base: whose it is: "MAE", "DeiT", "mmpretrain", "torchvision"
    arch:      its architecture, by timm's name or torchvision's own
    numbers:   on ImageNet's validation images, by metric
    weights:   of torchvision, the name of its weights: "IMAGENET1K_V1"
    """

    code_base: str
    arch: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    weights: str = ""


def _maes(arch: str, top1: float, top5: float, loss: float) -> Published:
    return Published("MAE", arch, {"top1": top1, "top5": top5, "loss": loss}, _FINETUNE)


# By the name in the list of published files (backbones/weights/weights.yaml), which knows them by their MD5:
# facebookresearch/mae, FINETUNE.md, lines 29-46.
_MAE = {
    "mae_finetuned_vit_base.pth": _maes("vit_base_patch16_224", 83.664, 96.530, 0.731),
    "mae_finetuned_vit_large.pth": _maes("vit_large_patch16_224", 85.952, 97.570, 0.646),
    "mae_finetuned_vit_huge.pth": _maes("vit_huge_patch14_224", 86.928, 98.088, 0.584),
}


def _deits(arch: str, top1: float, top5: float) -> Published:
    return Published("DeiT", arch, {"top1": top1, "top5": top5}, _DEIT)


# By the first digits of their SHA-256, which end their names: facebookresearch/deit, README_deit.md, "Model Zoo";
# mmpretrain, configs/mae/metafile.yml, lines 173-186 and 338-366.
_BY_DIGEST = {
    "a1311bcf": _deits("vit_tiny_patch16_224", 72.2, 91.1),
    "cd65a155": _deits("vit_small_patch16_224", 79.9, 95.0),
    "b5f2ef4d": _deits("vit_base_patch16_224", 81.8, 95.6),
    "8de9b5d1": _deits("vit_base_patch16_224", 82.9, 96.2),
    "b40b3cf7": _deits("deit_tiny_distilled_patch16_224", 74.5, 91.9),
    "649709d9": _deits("deit_small_distilled_patch16_224", 81.2, 95.4),
    "df68dfff": _deits("deit_base_distilled_patch16_224", 83.4, 96.5),
    "d0272ac0": _deits("deit_base_distilled_patch16_384", 85.2, 97.2),
    "cf70aa21": Published("mmpretrain", "vit_base_patch16_224", {"top1": 83.5}, _MMPRETRAIN),
    "0bfc9bfd": Published("mmpretrain", "vit_huge_patch14_224", {"top1": 86.9}, _MMPRETRAIN),
    "95b6a0ce": Published("mmpretrain", "vit_huge_patch14_224", {"top1": 87.3}, _MMPRETRAIN),
}


def find_classifier(checkpoint: Checkpoint) -> Published | None:
    """What was published of this very file; None of one that is not known by its bytes."""
    if found := _BY_DIGEST.get(checkpoint.sha256[:8]) or _of_torchvision().get(checkpoint.sha256[:8]):
        return found
    known = find_known(checkpoint)
    return _MAE.get(known.name) if known else None


@cache
def _of_torchvision() -> Mapping[str, Published]:
    """All classifiers that torchvision knows, by the digits of their SHA-256 in their addresses."""
    from torchvision import models

    found = {}
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            digest = re.search(r"-([0-9a-f]{8})\.pth$", weights.url)
            measured = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
            numbers = (
                {ours: measured[theirs] for ours, theirs in (("top1", "acc@1"), ("top5", "acc@5"))} if measured else {}
            )
            if digest:
                found[digest[1]] = Published("torchvision", name, numbers, weights.meta.get("recipe", ""), weights.name)
    return found
