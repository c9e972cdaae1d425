"""The settings of `backbench run` for classification."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backbones.training.later import Later
from backbones.training.settings import (
    EpochSchedule,
    Fraction,
    NonNegative,
    PixelSettings,
    PositiveInt,
    ScaledOptimizer,
    Settings,
    Shares,
    TrainingRecipe,
)


class TrunkSettings(PixelSettings):
    """The backbone that a recipe was written for, and the side of its images in pixels."""

    arch: str
    image_size: PositiveInt


class ClassifierSettings(TrunkSettings):
    """How the backbone becomes a classifier."""

    drop_path: Fraction = 0.0
    pool: Literal["avg", "token"] = "avg"


class FineTuningOptimizer(ScaledOptimizer):
    """AdamW with layer-wise learning-rate decay."""

    layer_decay: Annotated[float | None, Field(gt=0, le=1, description="null: the same rate everywhere")] = None


class ClassificationDataSettings(Settings):
    """How images are read when a model is evaluated."""

    decoder: Annotated[
        Literal["auto", "pillow"],
        Field(
            description="pillow: evaluation images are decoded and resized by Pillow, pixel for pixel as in MAE's "
            "code and torchvision; auto: the fast way, two levels of 255 at most from that"
        ),
        Later("auto"),
    ] = "auto"


class Inference(Settings):
    """How an image becomes the network's input when the trained model is applied to it."""

    crop_ratio: Annotated[
        float | None,
        Field(
            ge=0.25,
            le=1,
            description="share of the resized short side that the central crop keeps; null: 0.875 up to 224 pixels, "
            "1 above them (MAE's code)",
        ),
        Later(None),
    ] = None
    resized: Annotated[
        PositiveInt | None, Field(description="the resized side in pixels, in place of crop_ratio"), Later(None)
    ] = None
    shape: Annotated[
        Literal["short", "square"],
        Field(description="short: the short side is resized; square: both sides, whatever the image's shape"),
        Later("short"),
    ] = "short"
    interpolation: Annotated[Literal["bicubic", "bilinear"], Later("bicubic")] = "bicubic"

    @model_validator(mode="after")
    def _one_size(self) -> "Inference":
        if self.resized and self.crop_ratio:
            raise ValueError(
                f"crop_ratio ({self.crop_ratio:g}) and resized ({self.resized}) both say how large the image becomes. "
                "Give one of them, and null for the other"
            )
        return self

    def require_no_borders(self, size: int) -> None:
        """Raise ValueError if images of `size` pixels a side would be cut out of smaller ones."""
        if self.resized and self.resized < size:
            raise ValueError(
                f"inference.resized ({self.resized}) is smaller than model.image_size ({size}), which is cut out of "
                f"it: black borders would be seen. Give inference.resized at least {size}, or leave it out"
            )


class EvaluationSettings(Settings):
    """What is measured besides the end, and on what."""

    every_epochs: Annotated[PositiveInt | None, Field(description="by default only at the end")] = None
    allow_unreadable: bool = False


class FineTuningAugmentation(Settings):
    """timm's augmentation with the values of MAE's table 9 where a recipe says nothing else."""

    crop_scale: Shares = (0.08, 1.0)
    flip: Fraction = 0.5
    rand_augment: Annotated[str | None, Field(description="timm's notation; null for none")] = "rand-m9-mstd0.5-inc1"
    mixup: NonNegative = 0.8
    cutmix: NonNegative = 1.0
    label_smoothing: Fraction = 0.1
    random_erasing: Fraction = 0.25


class ClassifierRecipe(TrainingRecipe):
    """What trains a classifier has, whatever of it learns."""

    model: TrunkSettings
    schedule: EpochSchedule
    data: ClassificationDataSettings = ClassificationDataSettings()
    inference: Inference = Inference()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _sees_no_borders(self) -> "ClassifierRecipe":
        self.inference.require_no_borders(self.model.image_size)
        return self


class FineTuningRecipe(ClassifierRecipe):
    """What fine-tunes a classifier has."""

    model: ClassifierSettings
    optimizer: FineTuningOptimizer
    augment: FineTuningAugmentation = FineTuningAugmentation()

    @property
    def mixes_images(self) -> bool:
        return bool(self.augment.mixup or self.augment.cutmix)


class ClassificationRecipe(FineTuningRecipe):
    """The settings of `backbench run` for classification."""

    task: Literal["classification"]
