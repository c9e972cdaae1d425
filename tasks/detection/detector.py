"""Mask R-CNN round a feature pyramid, from detectron2's parts.

B images, H and W pixels, C channels.
"""

from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.adapters import Pyramid
from backbones.images.normalisation import IMAGENET, Normalisation
from tasks.batch_norm import SynchronisedBatchNorm, dense_norm
from tasks.detection.objects import DetectionPreprocessor
from tasks.detection.recipe import DetectionInference, DetectorSettings
from tasks.detection.views import find_in_views

LEVELS = ("p2", "p3", "p4", "p5", "p6")
"""The maps that regions are proposed from, strides 4 to 64; the heads look at all but the last."""

Norm = str | type[nn.Module]


class Detector(GeneralizedRCNN):
    """detectron2's GeneralizedRCNN, which knows the pyramid within it, and in which views it looks at an image.

    flip:      look at the mirror image as well
    grey_side: side of the square to which images are padded with grey; None where they are with zeros
    """

    flip: bool = False
    grey_side: int | None = None

    def inference(self, batched_inputs: list[dict[str, Any]], *given: Any, **options: Any) -> Any:
        """detectron2's outputs; of an image and its mirror image the boxes of both and the mean of their masks."""
        if self.flip or self.grey_side is not None:
            return find_in_views(self, batched_inputs, flip=self.flip, grey_side=self.grey_side)
        return super().inference(batched_inputs, *given, **options)

    @property
    def pyramid(self) -> Pyramid:
        """The trunk and its adapter."""
        return next(module for module in self.backbone.modules() if isinstance(module, Pyramid))


class DetectionStep(BaseModel):
    """The detector as mmengine's loops want it: a batch in, its losses or what is found in it out."""

    def __init__(self, detector: Detector) -> None:
        super().__init__(DetectionPreprocessor())
        self.detector = detector

    @property
    def network(self) -> Pyramid:
        """What `runtime.compile` compiles: the part without choices that depend on the data."""
        return self.detector.pyramid

    def init_weights(self) -> None:
        """Leave the weights as they are: `build_detector` has initialised them."""

    def forward(self, inputs: list[dict[str, Any]], mode: str, **about: object) -> Any:
        """inputs: detectron2's, one for each image. Gives its dictionary of losses, or for "predict" its outputs.

        The latter in single precision, as detectron2 evaluates its models: it lays the grid that masks are sampled on
        in their own precision, which in bfloat16 would shift them by pixels.
        """
        if mode == "predict":
            return self.detector(inputs)
        with EventStorage():
            return self.detector(inputs)

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the losses, and what is logged: the sum and each of them."""
        total = torch.stack(list(losses.values())).sum()
        return total, {"loss": total, **losses}


class PyramidMaps(Backbone):
    """A `Pyramid` in detectron2's clothes: its four maps by name.

    image_size: side of the square that images are padded to in training, in pixels
    seen_size:  likewise in inference
    """

    def __init__(self, pyramid: Pyramid, names: tuple[str, ...], image_size: int, seen_size: int) -> None:
        super().__init__()
        self.pyramid, self.image_size, self.seen_size = pyramid, image_size, seen_size
        self._out_features = list(names)
        self._out_feature_strides = dict(zip(names, pyramid.strides, strict=True))
        self._out_feature_channels = dict(zip(names, pyramid.channels, strict=True))

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": self.image_size if self.training else self.seen_size}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (B, 3, H, W)."""
        return dict(zip(self._out_features, self.pyramid(images), strict=True))


class SimplePyramidMaps(PyramidMaps):
    """ViTDet's pyramid, whose maps need no FPN, with the coarsest one that only proposals come from."""

    def __init__(self, pyramid: Pyramid, image_size: int, seen_size: int) -> None:
        super().__init__(pyramid, LEVELS[:-1], image_size, seen_size)
        self.top = LastLevelMaxPool()
        self._out_features.append(LEVELS[-1])
        self._out_feature_strides[LEVELS[-1]] = 2 * pyramid.strides[-1]
        self._out_feature_channels[LEVELS[-1]] = pyramid.channels[-1]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.pyramid(images)
        return dict(zip(self._out_features, [*maps, *self.top(maps[-1])], strict=True))


class PyramidFPN(FPN):
    """detectron2's FPN, whose images are padded as its maps ask for."""

    @property
    def padding_constraints(self) -> dict[str, int]:
        return self.bottom_up.padding_constraints


class Pooler(ROIPooler):
    """Pools regions in single precision.

    detectron2 rounds the boxes to the maps' precision. That is a quarter of a pixel in the float16 which its recipes
    use, but two pixels beyond the 512th in bfloat16.
    """

    def forward(self, x: list[Tensor], box_lists: list[Boxes]) -> Tensor:
        """x: maps (B, C, H, W); box_lists: each image's boxes. Gives (boxes, C, side, side)."""
        return super().forward([level.float() for level in x], box_lists)


def build_detector(
    pyramid: Pyramid,
    settings: DetectorSettings,
    classes: int,
    normalisation: Normalisation = IMAGENET,
    inference: DetectionInference | None = None,
) -> Detector:
    """Mask R-CNN for `classes` categories.

    As in Li et al. 2021 (arXiv 2111.11429) and ViTDet (arXiv 2203.16527): two 3 × 3 convolutions before the region
    proposals, four and one fully connected layer in the box head, four before the mask's upsampling, normalised
    throughout; with `fpn` by batch statistics over all processes, with `simple` by LayerNorm.
    """
    simple = settings.adapter == "simple"
    inference = inference or DetectionInference()
    seen = inference.square(settings.image_size)
    backbone = SimplePyramidMaps(pyramid, settings.image_size, seen) if simple else _with_fpn(pyramid, settings, seen)
    head_norm: Norm = "LN" if simple else SynchronisedBatchNorm
    detector = Detector(
        backbone=backbone,
        proposal_generator=_proposals(settings),
        roi_heads=_heads(settings, classes, head_norm, inference),
        pixel_mean=[255 * mean for mean in normalisation.mean],
        pixel_std=[255 * std for std in normalisation.std],
        input_format="RGB",
    )
    detector.flip = inference.flip
    detector.grey_side = seen if inference.padding == "grey" else None
    return detector


def _with_fpn(pyramid: Pyramid, settings: DetectorSettings, seen_size: int) -> FPN:
    maps = PyramidMaps(pyramid, ("s2", "s3", "s4", "s5"), settings.image_size, seen_size)
    return PyramidFPN(
        bottom_up=maps,
        in_features=list(maps.output_shape()),
        out_channels=settings.channels,
        norm=dense_norm(),
        top_block=LastLevelMaxPool(),
    )


def _proposals(settings: DetectorSettings) -> RPN:
    return RPN(
        in_features=list(LEVELS),
        head=StandardRPNHead(in_channels=settings.channels, num_anchors=3, conv_dims=[-1, -1]),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[size] for size in settings.anchor_sizes],
            aspect_ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64],
            offset=0.0,
        ),
        anchor_matcher=Matcher(thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=(2 * settings.proposals, settings.proposals),
        post_nms_topk=(settings.proposals, settings.proposals),
        nms_thresh=0.7,
    )


def _heads(settings: DetectorSettings, classes: int, norm: Norm, inference: DetectionInference) -> StandardROIHeads:
    channels, levels = settings.channels, list(LEVELS[:-1])
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    pooling: dict[str, Any] = {"scales": scales, "sampling_ratio": 0, "pooler_type": "ROIAlignV2"}
    box_head = FastRCNNConvFCHead(
        input_shape=ShapeSpec(channels=channels, height=7, width=7),
        conv_dims=[channels] * 4,
        fc_dims=[settings.box_features],
        conv_norm=norm,
    )
    mask_head = MaskRCNNConvUpsampleHead(
        input_shape=ShapeSpec(channels=channels, width=14, height=14),
        num_classes=classes,
        conv_dims=[channels] * 5,
        conv_norm=norm,
    )
    return StandardROIHeads(
        num_classes=classes,
        batch_size_per_image=settings.regions,
        positive_fraction=0.25,
        proposal_matcher=Matcher(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
        box_in_features=levels,
        box_pooler=Pooler(output_size=7, **pooling),
        box_head=box_head,
        box_predictor=FastRCNNOutputLayers(
            input_shape=ShapeSpec(channels=settings.box_features),
            box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
            num_classes=classes,
            test_score_thresh=inference.score_threshold,
            test_nms_thresh=inference.nms_threshold,
            test_topk_per_image=inference.detections,
        ),
        mask_in_features=levels,
        mask_pooler=Pooler(output_size=14, **pooling),
        mask_head=mask_head,
    )
