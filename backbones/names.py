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

SIZES: dict[str, Sizes] = {
    "mae": _VIT,
    "supervised": _VIT,
    "mocov3": {
        "vit_base": _VIT["vit_base"],
        "vit_large": _VIT["vit_large"],
        "vit_small": ("vit_small_patch16_224", "ViT-S"),
    },
    "beit": {
        "vit_base": ("beit_base_patch16_224", "ViT-B"),
        "vit_large": ("beit_large_patch16_224", "ViT-L"),
        "vit_base_in1k": ("beit_base_patch16_224", "ViT-B"),
    },
    "random": _VIT,
}
"""By what a method's backbones begin with, the sizes that there are of it: "mae" has "mae_vit_base"."""


def registered_names() -> list[str]:
    """The names of all of them, in the order in which they are registered."""
    return [f"{prefix}_{size}" for prefix, sizes in SIZES.items() for size in sizes]
