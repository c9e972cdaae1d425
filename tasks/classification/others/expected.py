"""What was published of classifiers that are known by their bytes: their numbers, and how they were evaluated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from backbones.weights.checkpoints import Checkpoint
from backbones.weights.origin import find_known

_FINETUNE = "https://github.com/facebookresearch/mae/blob/main/FINETUNE.md"
_ROBUSTNESS = "https://github.com/facebookresearch/mae/blob/main/README.md"
_DEIT = "https://github.com/facebookresearch/deit/blob/main/README_deit.md"
_MMPRETRAIN = "https://github.com/open-mmlab/mmpretrain/blob/main/configs/mae/metafile.yml"

IMAGENET_DATA = "imagenet1k"
_CORRUPTED = "imagenet-c"
_IN_HALF = "its authors evaluated in float16 (engine_finetune.py, line 115): --set precision=fp16, on a GPU"


@dataclass(frozen=True)
class Published:
    """A file that is known by its bytes.

    code_base: whose it is: "MAE", "DeiT", "mmpretrain", "torchvision"
    arch:      its architecture, by timm's name or torchvision's own
    numbers:   on ImageNet's validation images, by metric
    weights:   of torchvision, the name of its weights: "IMAGENET1K_V1"
    others:    on other data sets, by data set and metric
    remark:    what a record has to note of how the numbers came about
    """

    code_base: str
    arch: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    weights: str = ""
    others: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    remark: str = ""

    def measured(self, dataset: str, *, as_theirs: bool) -> tuple[Mapping[str, float], str]:
        """The numbers on a data set, and where they are published; none where it is not shown images as theirs was.

        Of ImageNet-C it is not known how theirs was: its number is that of the recipe.
        """
        if dataset == IMAGENET_DATA:
            return (self.numbers, self.source) if self.numbers and as_theirs else ({}, "")
        if dataset == _CORRUPTED and dataset in self.others:
            return self.others[dataset], f"{_ROBUSTNESS}, which does not say how images were cropped"
        return (self.others[dataset], _ROBUSTNESS) if dataset in self.others and as_theirs else ({}, "")


def _maes(arch: str, numbers: Mapping[str, float], others: Mapping[str, float]) -> Published:
    """others: the mCE on ImageNet-C, top-1 elsewhere, by data set"""
    by_metric = {name: {"mCE" if name == _CORRUPTED else "top1": number} for name, number in others.items()}
    return Published("MAE", arch, numbers, _FINETUNE, others=by_metric, remark=_IN_HALF)


# By the name in the list of published files (backbones/weights/weights.yaml), which knows them by their MD5:
# facebookresearch/mae, FINETUNE.md, lines 29-46; README.md, lines 80-109, of the same weights on other data.
_MAE = {
    "mae_finetuned_vit_base.pth": _maes(
        "vit_base_patch16_224",
        {"top1": 83.664, "top5": 96.530, "loss": 0.731},
        {"imagenet-c": 51.7, "imagenet-a": 35.9, "imagenet-r": 48.3, "imagenet-sketch": 34.5},
    ),
    "mae_finetuned_vit_large.pth": _maes(
        "vit_large_patch16_224",
        {"top1": 85.952, "top5": 97.570, "loss": 0.646},
        {"imagenet-c": 41.8, "imagenet-a": 57.1, "imagenet-r": 59.9, "imagenet-sketch": 45.3},
    ),
    "mae_finetuned_vit_huge.pth": _maes(
        "vit_huge_patch14_224",
        {"top1": 86.928, "top5": 98.088, "loss": 0.584},
        {"imagenet-c": 33.8, "imagenet-a": 68.2, "imagenet-r": 64.4, "imagenet-sketch": 49.6},
    ),
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
