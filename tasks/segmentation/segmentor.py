"""UPerNet round a feature pyramid, from mmsegmentation's parts.

B images, H and W pixels, C channels, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseDataPreprocessor, BaseModule, initialize
from mmengine.structures import PixelData
from torch import Tensor, nn

from backbones.adapters import Pyramid
from backbones.images.normalisation import IMAGENET, Normalisation
from backbones.images.pixels import normalise
from tasks.batch_norm import dense_norm
from tasks.datasets.label_maps.maps import IGNORED
from tasks.segmentation.heads import AuxiliaryHead, MainHead
from tasks.segmentation.mmseg_parts import MODELS, EncoderDecoder, SegDataSample, resize
from tasks.segmentation.recipe import Inference, SegmentorSettings

AUXILIARY_MAP = 2
AUXILIARY_WEIGHT = 0.4
"""The map that the auxiliary head looks at, and the weight of its loss (mmsegmentation's UPerNet, mae_segmentation)."""

PIXELS: Mapping[str, Any] = {"align_corners": False, "ignore_index": IGNORED}
"""Of a head: how logits come to the pixels, and which label counts nowhere."""

CROSS_ENTROPY: Mapping[str, Any] = {"type": "CrossEntropyLoss", "use_sigmoid": False, "avg_non_ignore": False}
"""The loss of a head: its mean is over all pixels, with those that have no label."""


@MODELS.register_module()
class PyramidBackbone(BaseModule):
    """A `Pyramid`, or what else gives maps of images (B, 3, H, W), in mmsegmentation's clothes."""

    def __init__(self, pyramid: nn.Module) -> None:
        super().__init__()
        self.pyramid = pyramid

    def init_weights(self) -> None:
        """Leave the weights as they are: they were loaded or initialised with the backbone."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        # A window's strides are its whole image's, and a compiled network would be compiled anew for each of them.
        return tuple(self.pyramid(images.contiguous()))


@MODELS.register_module()
class Segmentor(EncoderDecoder):
    """mmsegmentation's EncoderDecoder, which takes this task's batches and combines several views of an image."""

    normalisation = IMAGENET

    @property
    def pyramid(self) -> Pyramid:
        """The encoder and its adapter."""
        pyramid: Pyramid = self.backbone.pyramid
        return pyramid

    @property
    def network(self) -> nn.Module:
        """What `runtime.compile` compiles."""
        network: nn.Module = self.backbone.pyramid
        return network

    def init_weights(self) -> None:
        """Leave the weights as they are: `build_segmentor` has initialised them."""

    def forward(self, mode: str, labels: Tensor, **batch: Any) -> Any:
        """labels: uint8 (B, H, W), class numbers or `IGNORED`.

        For "loss" with `images`, uint8 (B, 3, H, W), whose first `heights` rows and `widths` columns are not padding;
        gives the losses of both heads. For "predict" with `views`, images of one scene at some scales; gives
        [{"predictions": (B, H, W)}], at the size of the labels.
        """
        if mode == "predict":
            return [{"predictions": self.predict_labels(batch["views"], labels.shape[-2:])}]
        images = normalise(batch["images"], self.normalisation)
        images.masked_fill_(_padding(images, batch["heights"], batch["widths"]), 0)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in labels.long()]
        return self.loss(images, samples)

    def predict_labels(self, views: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """The likeliest class of every pixel, (B, H, W) of `size`, by the mean of the probabilities in all views.

        views: uint8 (B, 3, h, w), the same images at any scales.
        """
        flips = (False, True) if self.test_cfg.flip else (False,)
        seen = [(view, flip) for view in views for flip in flips]
        if len(seen) == 1:
            return self.logits(views[0], size).argmax(1)
        return sum(self.logits(view, size, flip).softmax(1) for view, flip in seen).argmax(1)  # type: ignore[union-attr]

    def logits(self, view: Tensor, size: Sequence[int], flip: bool = False) -> Tensor:
        """Logits (B, K, H, W) of `size`, from uint8 images (B, 3, h, w) or their mirror images.

        Whole images have too many sizes to compile the network for each.
        """
        images = normalise(view.flip(3) if flip else view, self.normalisation)
        shapes = {"ori_shape": tuple(size), "img_shape": images.shape[2:], "pad_shape": images.shape[2:]}
        with torch.compiler.set_stance("force_eager" if self.test_cfg.mode == "whole" else "default"):
            logits_BKhw = self.inference(images, [dict(shapes) for _ in images])
        if flip:
            logits_BKhw = logits_BKhw.flip(3)
        return resize(logits_BKhw, size=tuple(size), mode="bilinear", align_corners=self.align_corners, warning=False)


def _padding(images: Tensor, heights_B: Tensor, widths_B: Tensor) -> Tensor:
    """Whether a pixel lies beyond its image's height or width, (B, 1, H, W)."""
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[2:])
    below_BH, beside_BW = rows >= heights_B[:, None], columns >= widths_B[:, None]
    return (below_BH[:, :, None] | beside_BW[:, None])[:, None]


def looked_at(inference: Inference, side: int) -> ConfigDict:
    """How an image is looked at, in windows of so many pixels a side, as mmsegmentation's configuration has it."""
    return ConfigDict(
        mode=inference.mode,
        crop_size=(side, side),
        stride=(inference.stride, inference.stride),
        flip=inference.flip,
    )


def build_segmentor(
    pyramid: Pyramid,
    settings: SegmentorSettings,
    inference: Inference,
    classes: int,
    normalisation: Normalisation = IMAGENET,
) -> Segmentor:
    """UPerNet for `classes` classes, its heads initialised.

    Settings become mmsegmentation's configuration here and nowhere else: UPerHead on all four maps, and an FCNHead on
    the third (configs/_base_/models/upernet_vit-b16_ln_mln.py; mae_segmentation's upernet.py).
    """
    head: dict[str, Any] = {
        "num_classes": classes,
        "dropout_ratio": 0.1,
        "norm_cfg": {"type": dense_norm(), "requires_grad": True},
        **PIXELS,
    }
    segmentor: Segmentor = MODELS.build(
        {
            "type": "Segmentor",
            "_scope_": "mmseg",  # mmengine's own is in force once a runner was built in this process
            "data_preprocessor": BaseDataPreprocessor(non_blocking=True),
            "backbone": {"type": "PyramidBackbone", "pyramid": pyramid},
            "decode_head": {
                "type": MainHead,
                "in_channels": list(pyramid.channels),
                "in_index": list(range(len(pyramid.channels))),
                "pool_scales": (1, 2, 3, 6),
                "channels": settings.channels,
                "loss_decode": {**CROSS_ENTROPY, "loss_weight": 1.0},
                **head,
            },
            "auxiliary_head": {
                "type": AuxiliaryHead,
                "in_channels": pyramid.channels[AUXILIARY_MAP],
                "in_index": AUXILIARY_MAP,
                "channels": settings.auxiliary_channels,
                "num_convs": 1,
                "concat_input": False,
                "loss_decode": {**CROSS_ENTROPY, "loss_weight": AUXILIARY_WEIGHT},
                **head,
            },
            "test_cfg": looked_at(inference, settings.image_size),
        }
    )
    segmentor.normalisation = normalisation
    for part in (segmentor.decode_head, segmentor.auxiliary_head):
        initialize(part, part.init_cfg)
    return segmentor
