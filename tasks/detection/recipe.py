"""The settings of `backbench run` for detection and instance segmentation."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from backbones.training.later import Later
from backbones.training.settings import (
    Fraction,
    IterationSchedule,
    PixelSettings,
    PositiveInt,
    Settings,
    TrainingRecipe,
    ascending,
)
from tasks.datasets.coco.layout import CocoDataSettings
from tasks.dense_settings import DenseEvaluation, DenseOptimizer, LongAndShortSide, NoWeightDecay, PatchFilters


class DetectorSettings(PixelSettings):
    """The backbone that a recipe was written for, and the Mask R-CNN round it.

    The defaults are those of detectron2's Mask R-CNN with a feature pyramid; only what a small one for a CPU has to
    scale down can be set.
    """

    arch: str
    adapter: Annotated[
        Literal["fpn", "simple"], Field(description="fpn: four quarters and FPN (Li et al. 2021); simple: ViTDet")
    ]
    image_size: Annotated[PositiveInt, Field(description="side of the square that images are padded to, in pixels")]
    drop_path: Fraction = 0.0
    patch_resampling: PatchFilters = "pseudo_inverse"
    window: Annotated[
        PositiveInt | None, Field(description="side of the attention windows, in patches; null: none, all is global")
    ]
    position_embeddings: Annotated[
        Literal["loaded", "sincos"],
        Field(
            description="of a ViT that has some; loaded: its own, interpolated to each image (ViTDet); sincos: new "
            "ones for image_size, which train (MIMDet)"
        ),
        Later("loaded"),
    ] = "loaded"
    relative_position: Annotated[bool, Field(description="add relative position terms, from zero, for transfer")] = True
    channels: Annotated[PositiveInt, Field(description="of the pyramid and of the heads' convolutions")] = 256
    anchor_sizes: Annotated[
        tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt],
        Field(strict=False, description="side of the anchors at strides 4 to 64, in pixels"),
    ] = (32, 64, 128, 256, 512)
    box_features: Annotated[PositiveInt, Field(description="width of the box head's fully connected layer")] = 1024
    regions: Annotated[PositiveInt, Field(description="regions that the heads learn from, an image")] = 512
    proposals: Annotated[PositiveInt, Field(description="regions that the heads look at, an image")] = 1000


class DetectionOptimizer(DenseOptimizer):
    """AdamW with layer-wise learning-rate decay."""

    no_weight_decay: NoWeightDecay = "norms_and_positions"


Scale = Annotated[float, Field(gt=0, le=10)]


class LargeScaleJitter(Settings):
    """Resize to a random share of the image size, crop what is larger, flip (Ghiasi et al. 2021, "copy-paste")."""

    scale: Annotated[tuple[Scale, Scale], Field(strict=False), AfterValidator(ascending)] = (0.1, 2.0)
    flip: Fraction = 0.5


class DetectionInference(Settings):
    """How a trained detector is applied to a whole image. The defaults are those of ViTDet's and MIMDet's code.

    Images are padded on the right and at the bottom to a square: of model.image_size, or of the longest side in
    `resize` if that is larger.
    """

    resize: Annotated[
        LongAndShortSide | None,
        Field(
            description="images become as large as fits: longest side, shorter side, in pixels; null: model.image_size "
            "both"
        ),
        Later(None),
    ] = None
    padding: Annotated[
        Literal["mean", "grey"],
        Field(
            description="mean: with zeros after normalisation, which are no part of the image; grey: with grey pixels "
            "that count as image (MIMDet)"
        ),
        Later("mean"),
    ] = "mean"
    score_threshold: Annotated[float, Field(ge=0, lt=1, description="detections have a higher score"), Later(0.05)] = (
        0.05
    )
    nms_threshold: Annotated[
        float,
        Field(gt=0, le=1, description="of two boxes of a class that overlap by more, the one of the lower score goes"),
        Later(0.5),
    ] = 0.5
    detections: Annotated[
        PositiveInt, Field(description="at most, an image; COCO's scores look at the best 100"), Later(100)
    ] = 100
    flip: Annotated[
        bool,
        Field(description="look at the mirror image as well: both views' boxes, the mean of their masks"),
        Later(False),
    ] = False

    def sides(self, image_size: int) -> tuple[int, int]:
        """The longest and the shorter side that images are resized to, in pixels."""
        return self.resize or (image_size, image_size)

    def square(self, image_size: int) -> int:
        """Side of the square that they are padded to, in pixels."""
        return max(image_size, self.sides(image_size)[0])


class DetectionRecipe(TrainingRecipe):
    """Mask R-CNN on a data set in COCO's format."""

    task: Literal["detection"]
    data: CocoDataSettings = CocoDataSettings()
    model: DetectorSettings
    optimizer: DetectionOptimizer
    schedule: IterationSchedule
    augment: LargeScaleJitter = LargeScaleJitter()
    inference: DetectionInference = DetectionInference()
    evaluation: DenseEvaluation = DenseEvaluation()
