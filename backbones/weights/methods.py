"""The methods: how a backbone's weights came about, and how the files of each are read."""

import re
from dataclasses import dataclass

from backbones.images.normalisation import IMAGENET, Normalisation
from backbones.weights.code_bases.huggingface import from_huggingface
from backbones.weights.code_bases.jax import from_jax
from backbones.weights.code_bases.mmpretrain import from_mmpretrain
from backbones.weights.code_bases.own_networks import from_own_network
from backbones.weights.code_bases.timm_readers import through_timm
from backbones.weights.code_bases.torchvision import from_row, from_torchvision
from backbones.weights.naming import (
    Step,
    drop_heads,
    drop_masking,
    match_final_norm,
    spread_position_biases,
    strip_wrappers,
    take_moco_encoder,
)

_OPENING: tuple[Step, ...] = (
    *(strip_wrappers, from_own_network, from_row),
    *(from_torchvision, from_huggingface, from_mmpretrain, from_jax),
)
_CLOSING: tuple[Step, ...] = (through_timm, drop_heads, match_final_norm)


@dataclass(frozen=True)
class Method:
    """A way to weights.

    name:          as the tables print it
    pretrain_data: what the released weights were trained on, as the tables print it
    steps:         what leads from the names in its checkpoint files to the model's, in order; each is a function of
                   (Weights, model)
    normalisation: of the pixels that its code trains with; None where that is not the same for all of its files
    """

    name: str
    pretrain_data: str
    steps: tuple[Step, ...]
    normalisation: Normalisation | None = None


# A file of unstated origin: whatever is recognised.
ANY_NAMING: tuple[Step, ...] = (take_moco_encoder, *_OPENING, drop_masking, spread_position_biases, *_CLOSING)

CLIPS = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""CLIP's own (openai/CLIP, clip/clip.py:85)."""

# Names and data as in the paper's tables (results/reference/paper_tables.csv), but for BEiT: its files for use were
# pre-trained on ImageNet-22K (microsoft/unilm, beit/README.md:28-39). The one of the paper's "IN1K+DALLE" has absolute
# positions (README.md:190) and is a backbone of its own. Under which normalisation BEiT's files were trained depends on
# their data. Where the others' data and normalisation stand:
#   MAE       facebookresearch/mae: main_pretrain.py:127, util/datasets.py:31-32
#   MoCo v3   facebookresearch/moco-v3: main_moco.py:258
#   DeiT      facebookresearch/deit: datasets.py:108
#   BEiT v2   microsoft/unilm: beit2/README.md:26 and timm's `pretrained_cfg`
#   DINO      facebookresearch/dino: README.md:157, main_dino.py:431
#   iBOT      bytedance/ibot: README.md:58 and 209 (of ImageNet-22K: ViT-B and L), main_ibot.py:586
#   DINOv2    facebookresearch/dinov2: MODEL_CARD.md:88, dinov2/data/transforms.py:42-43
#   MSN       facebookresearch/msn: README.md:17, src/data_manager.py:91-93
#   data2vec  facebookresearch/data2vec_vision: beit/README.md:36 and 72 (`--imagenet_default_mean_and_std`); the data
#             are ImageNet-1K (arXiv 2202.03555). Its fine-tuning has Inception's 0.5 unless told otherwise
#             (beit/run_class_finetuning.py:166, datasets.py:181-183); here pre-training's are kept
#   I-JEPA    facebookresearch/ijepa: README.md:54-84 (of ImageNet-22K: ViT-H/14 and ViT-g/16), src/transforms.py:26-27
#   SimMIM    microsoft/SimMIM: README.md:37 and 50, data/data_simmim.py:55
#   CLIP      openai/CLIP: clip/clip.py:85; 400 million pairs of images and texts, "WIT" (arXiv 2103.00020, section 2.2)
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("supervised", "IN1K w/ labels", (*_OPENING, *_CLOSING)),
        Method("MoCo v3", "IN1K", (take_moco_encoder, *_OPENING, *_CLOSING), IMAGENET),
        Method("BEiT", "IN22K+DALLE", (*_OPENING, drop_masking, spread_position_biases, *_CLOSING)),
        Method("MAE", "IN1K", (*_OPENING, drop_masking, *_CLOSING), IMAGENET),
        Method("DINO", "IN1K", ANY_NAMING, IMAGENET),
        Method("iBOT", "IN1K", ANY_NAMING, IMAGENET),
        Method("DINOv2", "LVD-142M", ANY_NAMING, IMAGENET),
        Method("MSN", "IN1K", ANY_NAMING, IMAGENET),
        Method("data2vec", "IN1K", ANY_NAMING, IMAGENET),
        Method("I-JEPA", "IN1K", ANY_NAMING, IMAGENET),
        Method("SimMIM", "IN1K", ANY_NAMING, IMAGENET),
        Method("CLIP", "WIT", ANY_NAMING, CLIPS),
        Method("BEiT v2", "IN1K", ANY_NAMING, IMAGENET),
        Method("DeiT", "IN1K w/ labels", ANY_NAMING, IMAGENET),
        Method("random", "none", ()),
        Method("custom", "unstated", ANY_NAMING),
    )
}


def same_name(one: str, other: str) -> bool:
    """Whether two names differ in case and punctuation at most: "MoCo v3" and "mocov3". "MAE+" and "MAE" are two."""
    return simplified(one) == simplified(other)


def simplified(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[^\w+]|_", "", name).casefold() or name


def spell_method(name: str) -> str:
    """The name of a method as it is known here: "mocov3" becomes "MoCo v3"; other names stay as they are."""
    return next((known for known in METHODS if same_name(known, name)), name)
