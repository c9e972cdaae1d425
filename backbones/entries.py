"""What is known of a backbone before it is built, and the published ones by their names."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from torch import nn

from backbones.architectures import build_timm_model
from backbones.images.normalisation import Normalisation
from backbones.names import SIZES
from backbones.weights.methods import ANY_NAMING, METHODS
from backbones.weights.naming import Step

Build = Callable[[int | None, float], nn.Module]


@dataclass(frozen=True)
class BackboneEntry:
    """What is known of a backbone before it is built.

    name:             as on the command line, "mae_vit_base"
    method:           as the tables print it, "MAE"
    pretrain_data:    as the tables print it, "IN1K"
    model:            the tables' column, "ViT-B"
    arch:             timm's name, "vit_base_patch16_224", or the name itself for code from elsewhere
    build:            (image_size, drop_path) -> the model without a head, its weights random unless they come with it
    steps:            how checkpoints of the method are read
    needs_checkpoint: None if either will do
    normalisation:    as its author states it; None where `normalisation_of` has to know
    settings:         by task, those of its recipe that the model cannot do without, by key
    registered_by:    the module of the plug-in that registered it, "" where it is none's
    """

    name: str
    method: str
    pretrain_data: str
    model: str
    arch: str
    build: Build
    steps: tuple[Step, ...] = ANY_NAMING
    needs_checkpoint: bool | None = True
    normalisation: Normalisation | None = None
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict, hash=False)
    registered_by: str = ""


@cache
def timm_build(arch: str, **options: Hashable) -> Build:
    """Return one and the same function for one architecture: whoever caches what it builds, builds it once."""

    def build(image_size: int | None, drop_path: float) -> nn.Module:
        return build_timm_model(arch, image_size, drop_path, **options)

    return build


_METHODS = {
    "mae": "MAE",
    "supervised": "supervised",
    "mocov3": "MoCo v3",
    "beit": "BEiT",
    "dino": "DINO",
    "ibot": "iBOT",
    "dinov2": "DINOv2",
    "msn": "MSN",
    "data2vec": "data2vec",
    "ijepa": "I-JEPA",
    "simmim": "SimMIM",
    "clip": "CLIP",
    "random": "random",
}
"""By what a backbone's name begins with, its method."""

_DATA = {
    "beit_vit_base_in1k": "IN1K+DALLE",
    "ibot_vit_base_in22k": "IN22K",
    "ibot_vit_large_in22k": "IN22K",
    "ijepa_vit_huge_in22k": "IN22K",
    "ijepa_vit_giant_in22k": "IN22K",
}
"""Of backbones whose weights were trained on other data than most of their method's."""

# BEiT's pre-trained files have the norm over tokens, which timm's BEiT has with this pooling only; so have those of
# data2vec and SimMIM, whose ViTs are BEiT's (facebookresearch/data2vec_vision, beit/modeling_cyclical.py;
# microsoft/SimMIM, models/vision_transformer.py and configs/vit_base__800ep).
_NORM_OVER_TOKENS: dict[str, Hashable] = {"global_pool": "token"}

_OPTIONS: dict[str, dict[str, Hashable]] = {
    # MoCo v3's ViT-S has 12 heads, timm's 6 (facebookresearch/moco-v3, vits.py).
    "mocov3_vit_small": {"num_heads": 12},
    # The authors' file of ImageNet-1K has position embeddings, no relative positions and no layer scale
    # (microsoft/unilm, beit/README.md:190).
    "beit_vit_base_in1k": {
        **_NORM_OVER_TOKENS,
        "use_abs_pos_emb": True,
        "use_rel_pos_bias": False,
        "init_values": 0.0,
    },
    **dict.fromkeys(("beit", "data2vec", "simmim"), _NORM_OVER_TOKENS),
}
"""timm's, of a backbone or of all whose names begin so."""


def published_entries() -> Iterator[BackboneEntry]:
    """The backbones of the methods that are known here, in every size of which there are published weights."""
    for prefix, sizes in SIZES.items():
        method = METHODS[_METHODS[prefix]]
        for size, (arch, model) in sizes.items():
            name = f"{prefix}_{size}"
            build = timm_build(arch, **_OPTIONS.get(name, _OPTIONS.get(prefix, {})))
            data = _DATA.get(name, method.pretrain_data)
            yield BackboneEntry(name, method.name, data, model, arch, build, method.steps, method.name != "random")
