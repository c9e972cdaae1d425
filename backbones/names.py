"""The names of the published backbones, in sizes; to be had without torch, for whoever needs no more than that."""

Sizes = dict[str, tuple[str, str]]
"""By a size's name, timm's architecture and the column of the tables."""

_VIT: Sizes = {
    "vit_mini": ("vit_mini_patch8_48", "ViT-mini"),
    "vit_tiny": ("vit_tiny_patch16_224", "ViT-Ti"),
    "vit_base": ("vit_base_patch16_224", "ViT-B"),
    "vit_large": ("vit_large_patch16_224", "ViT-L"),
    "vit_huge": ("vit_huge_patch14_224", "ViT-H"),
}

_SMALL = ("vit_small_patch16_224", "ViT-S")

_BEIT: Sizes = {
    "vit_base": ("beit_base_patch16_224", "ViT-B"),
    "vit_large": ("beit_large_patch16_224", "ViT-L"),
}

SIZES: dict[str, Sizes] = {
    "mae": _VIT,
    "supervised": _VIT,
    "mocov3": {
        "vit_base": _VIT["vit_base"],
        "vit_large": _VIT["vit_large"],
        "vit_small": _SMALL,
    },
    "beit": {**_BEIT, "vit_base_in1k": _BEIT["vit_base"]},
    "dino": {
        "vit_small": _SMALL,
        "vit_base": _VIT["vit_base"],
        "vit_small_patch8": ("vit_small_patch8_224", "ViT-S/8"),
        "vit_base_patch8": ("vit_base_patch8_224", "ViT-B/8"),
    },
    "ibot": {
        "vit_small": _SMALL,
        "vit_base": _VIT["vit_base"],
        "vit_large": _VIT["vit_large"],
        "vit_base_in22k": _VIT["vit_base"],
        "vit_large_in22k": _VIT["vit_large"],
    },
    "dinov2": {
        f"vit_{size}{registers and '_reg'}": (f"vit_{size}_patch14{registers}_dinov2", column + (registers and " reg"))
        for registers in ("", "_reg4")
        for size, column in {"small": "ViT-S/14", "base": "ViT-B/14", "large": "ViT-L/14", "giant": "ViT-g/14"}.items()
    },
    "msn": {"vit_small": _SMALL, "vit_base": _VIT["vit_base"], "vit_large": _VIT["vit_large"]},
    "data2vec": {"vit_base": _BEIT["vit_base"], "vit_large": _BEIT["vit_large"]},
    "ijepa": {
        "vit_huge": ("vit_huge_patch14_gap_224", "ViT-H"),
        "vit_huge_patch16": ("vit_huge_patch16_gap_448", "ViT-H/16"),
        "vit_huge_in22k": ("vit_huge_patch14_gap_224", "ViT-H"),
        "vit_giant_in22k": ("vit_giant_patch16_gap_224", "ViT-g/16"),
    },
    "simmim": {"vit_base": _BEIT["vit_base"]},
    "clip": {
        "vit_base": ("vit_base_patch16_clip_quickgelu_224", "ViT-B"),
        "vit_base_patch32": ("vit_base_patch32_clip_quickgelu_224", "ViT-B/32"),
        "vit_large": ("vit_large_patch14_clip_quickgelu_224", "ViT-L/14"),
        "vit_large_336": ("vit_large_patch14_clip_quickgelu_336", "ViT-L/14"),
    },
    "random": _VIT,
}
"""By what a method's backbones begin with, the sizes that there are of it: "mae" has "mae_vit_base"."""


def registered_names() -> list[str]:
    """The names of all of them, in the order in which they are registered."""
    return [f"{prefix}_{size}" for prefix, sizes in SIZES.items() for size in sizes]
