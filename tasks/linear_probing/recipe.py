"""The settings of `backbench run` for linear probing."""

from typing import Annotated, Literal

from pydantic import Field

from backbones.training.sections import PositiveInt, Settings
from backbones.training.settings import Fraction, LarsOptimizer, Shares
from tasks.classification.recipe import ClassifierRecipe, TrunkSettings

REFERENCE_BATCH_NORM = 512
"""Images of one of the reference's 32 processes, each of which has a batch norm of its own (facebookresearch/mae,
FINETUNE.md, "Linear Probing": `--batch_size`)."""


class ProbedSettings(TrunkSettings):
    """Which features of the frozen backbone the head sees."""

    pool: Annotated[
        Literal["token", "avg"],
        Field(description="token: the class token, after the backbone's own norm; avg: the mean over patches"),
    ] = "token"


class ProbingAugmentation(Settings):
    """A random resized crop and a flip (facebookresearch/mae, main_linprobe.py, lines 133 and 134)."""

    crop_scale: Shares = (0.08, 1.0)
    crop_tries: Annotated[
        PositiveInt,
        Field(description="draws of a crop until one fits; 1: a single one, cut to the image (util/crop.py)"),
    ] = 1
    flip: Fraction = 0.5


class LinearProbingRecipe(ClassifierRecipe):
    """A linear layer behind batch norm, trained by LARS; the backbone is in evaluation and does not train."""

    task: Literal["linear_probing"]
    model: ProbedSettings
    optimizer: LarsOptimizer
    augment: ProbingAugmentation = ProbingAugmentation()

    @property
    def reference_batch_norm(self) -> int:
        return min(REFERENCE_BATCH_NORM, self.optimizer.batch_size)
