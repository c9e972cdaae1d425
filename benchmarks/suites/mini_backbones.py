"""The backbones of the suites on generated data: the paper's methods in the sizes mini-B, mini-L and mini-H.

A plug-in, as anyone's: suites name this file under `plugins:`, commands take it as `--plugin FILE`. Their weights are
the stand-ins of `backbench data mini`, or what a pre-training on the generated images made.
"""

from backbones import register_backbone
from backbones.entries import timm_build

COLUMNS = {"base": "mini-B", "large": "mini-L", "huge": "mini-H"}
VITS = {
    "base": "vit_mini_base_patch8_48",
    "large": "vit_mini_large_patch8_48",
    "huge": "vit_mini_huge_patch6_48",
}
BEITS = {"base": "beit_mini_base_patch8_48", "large": "beit_mini_large_patch8_48"}

ARCHITECTURES = {
    "mae": ("MAE", VITS),
    "supervised": ("supervised", {size: VITS[size] for size in BEITS}),
    "mocov3": ("MoCo v3", {size: VITS[size] for size in BEITS}),
    "beit": ("BEiT", BEITS),
    "dino": ("DINO", {size: VITS[size] for size in BEITS}),
    "random": ("random", VITS),
}
"""By what the names of a method's backbones begin with: the method, and of each size timm's architecture."""

PRETRAIN_DATA = {"random": "none"}
"""As the tables print it; "stand-in" of the others, whose weights are random numbers in their authors' files."""


def _register() -> None:
    for prefix, (method, architectures) in ARCHITECTURES.items():
        # BEiT's pre-trained files have the norm over tokens, which timm's BEiT has with this pooling only.
        options = {"global_pool": "token"} if prefix == "beit" else {}
        for size, arch in architectures.items():
            registered = register_backbone(
                f"{prefix}_vit_mini_{size}",
                method=method,
                model=COLUMNS[size],
                pretrain_data=PRETRAIN_DATA.get(prefix, "stand-in"),
                arch=arch,
                needs_checkpoint=prefix != "random",
            )
            registered(timm_build(arch, **options))


_register()
