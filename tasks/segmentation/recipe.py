"""The settings of `backbench run` for semantic segmentation."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from backbones.training.later import Later
from backbones.training.settings import (
    Fraction,
    IterationSchedule,
    PixelSettings,
    PositiveInt,
    Settings,
    Share,
    TrainingRecipe,
    ascending,
)
from tasks.datasets.label_maps.layout import SegmentationDataSettings
from tasks.dense_settings import DenseEvaluation, DenseOptimizer, LongAndShortSide, NoWeightDecay, PatchFilters

Block = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(gt=0, le=10)]


Resize = Annotated[
    LongAndShortSide, Field(description="images become as large as fits: longest side, shorter side, in pixels")
]


def _require_pixels(resize: tuple[int, int], factor: float) -> None:
    if int(resize[1] * factor) < 1:
        raise ValueError(f"{factor} times resize {list(resize)} is less than a pixel")


class CroppedSettings(PixelSettings):
    """What sees square crops of training images, and square windows of whole ones."""

    image_size: Annotated[PositiveInt, Field(description="side of training crops and of sliding windows, in pixels")]


class SegmentorSettings(CroppedSettings):
    """The backbone that a recipe was written for, and the UPerNet round it.

    What cannot be set is as in mmsegmentation's UPerNet: pooling to 1, 2, 3 and 6 cells, an auxiliary head of one
    convolution on the third map, with a loss of weight 0.4.
    """

    arch: str
    adapter: Annotated[
        Literal["fpn", "beit", "simple"],
        Field(
            description="how a plain ViT becomes a pyramid; beit: as in BEiT's segmentation code, with its class token "
            "and batch norm; fpn: as in detection, without windows; simple: all maps from the last (ViTDet)"
        ),
        Later("fpn"),
    ] = "fpn"
    drop_path: Fraction = 0.0
    patch_resampling: PatchFilters = "pseudo_inverse"
    taps: Annotated[
        tuple[Block, Block, Block, Block] | None,
        Field(strict=False, description="blocks of a plain ViT that give the maps; null: the ends of its quarters"),
    ] = None
    relative_position: Annotated[
        bool, Field(description="add relative position biases, a table a block, from zero, for transfer")
    ] = True
    layer_scale: Annotated[
        float | None, Field(gt=0, description="add a layer scale that begins with this value, for transfer")
    ] = 1.0
    channels: Annotated[PositiveInt, Field(description="of the decoder")] = 512
    auxiliary_channels: Annotated[PositiveInt, Field(description="of the auxiliary head")] = 256


class SegmentationOptimizer(DenseOptimizer):
    """AdamW with layer-wise learning-rate decay."""

    no_weight_decay: NoWeightDecay = "one_dimensional"


class SegmentationAugmentation(Settings):
    """mmsegmentation's training pipeline: resize at random, crop, flip, distort the colours."""

    resize: Resize
    ratio: Annotated[
        tuple[Ratio, Ratio],
        Field(strict=False, description="of `resize`, drawn at random"),
        AfterValidator(ascending),
    ] = (0.5, 2.0)
    cat_max_ratio: Annotated[
        Share, Field(description="largest share of a crop that one class may fill; ten tries are made")
    ] = 0.75
    flip: Fraction = 0.5
    photometric_distortion: bool = True

    @model_validator(mode="after")
    def _something_is_left(self) -> "SegmentationAugmentation":
        _require_pixels(self.resize, self.ratio[0])
        return self


class Inference(Settings):
    """How a trained model is applied to a whole image.

    slide: windows of `model.image_size` that overlap, their logits averaged; whole: the image as it is. With several
    scales or with flipping, the probabilities of all views are averaged.
    """

    mode: Literal["slide", "whole"] = "slide"
    stride: Annotated[PositiveInt | None, Field(description="pixels from window to window; for mode slide")] = None
    resize: Resize
    scales: Annotated[tuple[Ratio, ...], Field(strict=False, min_length=1, description="of `resize`")] = (1.0,)
    flip: Annotated[bool, Field(description="look at the mirror image as well")] = False

    @model_validator(mode="after")
    def _stride_belongs_to_windows(self) -> "Inference":
        if (self.mode == "slide") != (self.stride is not None):
            raise ValueError('mode "slide" needs a stride, and mode "whole" has none (inference.stride=null)')
        return self

    @model_validator(mode="after")
    def _something_is_left(self) -> "Inference":
        _require_pixels(self.resize, min(self.scales))
        return self


class LabelMapRecipe(TrainingRecipe):
    """What trains and is evaluated on a set of images with a label for every pixel."""

    data: SegmentationDataSettings = SegmentationDataSettings()
    model: CroppedSettings
    schedule: IterationSchedule
    augment: SegmentationAugmentation
    inference: Inference
    evaluation: DenseEvaluation = DenseEvaluation()

    @model_validator(mode="after")
    def _windows_leave_no_gap(self) -> "LabelMapRecipe":
        stride = self.inference.stride
        if stride is not None and stride > self.model.image_size:
            raise ValueError(
                f"inference.stride {stride} is larger than the windows of model.image_size {self.model.image_size}: "
                "pixels between them would not be looked at"
            )
        return self


class SegmentationRecipe(LabelMapRecipe):
    """UPerNet on a set of images with a label for every pixel."""

    task: Literal["segmentation"]
    model: SegmentorSettings
    optimizer: SegmentationOptimizer
