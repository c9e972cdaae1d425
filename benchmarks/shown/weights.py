"""Files of weights as the authors of MAE's four methods released them, in the paper's sizes: random numbers."""

from collections.abc import Callable
from functools import partial

from backbones.registry import find_backbone
from benchmarks.mini.weights import autoencoder, beit, deit, in_timm, moco_v3


def _registered(name: str) -> dict[str, object]:
    """BEiT's file of a registered backbone, built with the options of its entry."""
    return beit(find_backbone(name, with_checkpoint=True).build(None, 0.0))


WRITERS: dict[str, Callable[[], dict[str, object]]] = {
    **{f"supervised_vit_{size}": partial(in_timm, deit, f"vit_{size}_patch16_224") for size in ("base", "large")},
    **{f"mocov3_vit_{size}": partial(in_timm, moco_v3, f"vit_{size}_patch16_224") for size in ("base", "large")},
    **{f"beit_vit_{size}": partial(in_timm, beit, f"beit_{size}_patch16_224") for size in ("base", "large")},
    "beit_vit_base_in1k": partial(_registered, "beit_vit_base_in1k"),
    **{f"mae_vit_{size}": partial(autoencoder, f"mae_vit_{size}_patch16") for size in ("base", "large")},
    "mae_vit_huge": partial(autoencoder, "mae_vit_huge_patch14"),
}
"""By backbone: what makes the content of its file."""
