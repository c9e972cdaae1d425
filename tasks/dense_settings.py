"""Settings that the dense tasks share: detection and segmentation train for iterations, on trunks that need memory."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from backbones.training.later import Later
from backbones.training.settings import FixedOptimizer, PositiveInt, Settings
from backbones.weights.patches import PatchResampling

NoWeightDecay = Annotated[
    Literal["norms_and_positions", "detectron2", "one_dimensional", "nothing"],
    Field(
        description="what has no weight decay; norms_and_positions: norms, position embeddings and bias tables; "
        "detectron2: its own list, norms but for its own LayerNorm over channels, and position embeddings; "
        "one_dimensional: parameters of one dimension and biases"
    ),
]


def _long_side_first(sides: tuple[int, int]) -> tuple[int, int]:
    if sides[0] < sides[1]:
        raise ValueError("the longest side comes first, then the shorter side")
    return sides


LongAndShortSide = Annotated[tuple[PositiveInt, PositiveInt], Field(strict=False), AfterValidator(_long_side_first)]
"""Images become as large as fits into such sides, in pixels."""

PatchFilters = Annotated[
    PatchResampling,
    Field(
        description="how filters of patches whose side is no power of two, such as ViT-H's 14 pixels, come to the next "
        "one; pseudo_inverse: an enlarged patch gives what the patch gave; bicubic: as images are enlarged"
    ),
    Later("pseudo_inverse"),
]


class DenseOptimizer(FixedOptimizer):
    """AdamW with layer-wise learning-rate decay."""

    layer_decay: Annotated[float | None, Field(gt=0, le=1, description="null: the same rate everywhere")] = None
    no_weight_decay: NoWeightDecay

    @property
    def decays(self) -> dict[str, Any]:
        """What `backbones.adapters.parameter_groups` needs to know."""
        return self.model_dump(include={"weight_decay", "layer_decay", "no_weight_decay"})


class DenseEvaluation(Settings):
    """What is measured besides the end, and on what."""

    every_iterations: Annotated[PositiveInt | None, Field(description="by default only at the end")] = None
    allow_unreadable: bool = False
