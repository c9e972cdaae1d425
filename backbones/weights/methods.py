"""The methods: how a backbone's weights came about, and how the files of each are read."""

from dataclasses import dataclass

from backbones.weights.naming import (
    Step,
    drop_heads,
    drop_masking,
    from_huggingface,
    from_mmpretrain,
    match_final_norm,
    spread_position_biases,
    strip_wrappers,
    take_moco_encoder,
    through_timm,
)

_OPENING: tuple[Step, ...] = (strip_wrappers, from_huggingface, from_mmpretrain)
_CLOSING: tuple[Step, ...] = (through_timm, drop_heads, match_final_norm)


@dataclass(frozen=True)
class Method:
    """A way to weights.

    name:          as the tables print it
    pretrain_data: what the weights were trained on, as the tables print it
    steps:         what leads from the names in its checkpoint files to timm's, in order; each is a function of
                   (Weights, model)
    """

    name: str
    pretrain_data: str
    steps: tuple[Step, ...]


# A file of unstated origin: whatever is recognised.
ANY_NAMING: tuple[Step, ...] = (take_moco_encoder, *_OPENING, drop_masking, spread_position_biases, *_CLOSING)

# Names and data as in the paper's tables (results/reference/paper_tables.csv), but for BEiT: its public files were
# pre-trained on ImageNet-22K (microsoft/unilm, beit/README.md), the paper's "IN1K+DALLE" was not released.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("supervised", "IN1K w/ labels", (*_OPENING, *_CLOSING)),
        Method("MoCo v3", "IN1K", (take_moco_encoder, *_OPENING, *_CLOSING)),
        Method("BEiT", "IN22K+DALLE", (*_OPENING, drop_masking, spread_position_biases, *_CLOSING)),
        Method("MAE", "IN1K", (*_OPENING, drop_masking, *_CLOSING)),
        Method("random", "none", ()),
        Method("custom", "unstated", ANY_NAMING),
    )
}
