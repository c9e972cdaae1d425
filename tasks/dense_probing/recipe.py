"""The settings of `backbench run` for dense probing."""

from typing import Annotated, Literal

from pydantic import Field

from backbones.training.settings import FixedOptimizer, Settings
from tasks.segmentation.recipe import LabelMapRecipe


class PatchFeatureSettings(Settings):
    """Which features of a patch are taken: the outputs of the last blocks, side by side, after the last norm."""

    layers: Annotated[
        Literal[1, 4], Field(description="of how many last blocks; only a plain ViT has more than its last map")
    ] = 1


class DenseProbingRecipe(LabelMapRecipe):
    """A batch norm and a linear layer on the patches of a frozen backbone, for a label of every pixel."""

    task: Literal["dense_probing"]
    features: PatchFeatureSettings = PatchFeatureSettings()
    optimizer: FixedOptimizer
