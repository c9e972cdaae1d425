"""A frozen backbone and a linear head on its patches, from mmsegmentation's parts.

B images, h × w cells, C channels of all maps together, K classes
"""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseDataPreprocessor, initialize
from torch import Tensor

from backbones.frozen_maps import FrozenMaps
from backbones.images.normalisation import Normalisation
from tasks.batch_norm import dense_norm
from tasks.segmentation.heads import MeasuredOnDevice
from tasks.segmentation.mmseg_parts import MODELS, BaseDecodeHead
from tasks.segmentation.recipe import Inference
from tasks.segmentation.segmentor import CROSS_ENTROPY, PIXELS, Segmentor, looked_at


class LinearHead(MeasuredOnDevice, BaseDecodeHead):
    """DINOv2's `BNHead`: a batch norm over all processes, then a 1 × 1 convolution to the classes.

    Without dropout (facebookresearch/dinov2, dinov2/eval/segmentation/models/decode_heads/linear_head.py, from line 14;
    the model that notebooks/semantic_segmentation.ipynb prints: no dropout, epsilon 1e-5, momentum 0.1). The
    convolution begins with a standard deviation of 0.01 and biases of 0, as all heads of mmsegmentation
    (models/decode_heads/decode_head.py, `init_cfg`), the batch norm with 1 and 0.

    widths: channels of each map; all maps have the same cells
    """

    def __init__(self, widths: Sequence[int], **settings: Any) -> None:
        super().__init__(
            in_channels=list(widths),
            in_index=list(range(len(widths))),
            input_transform="resize_concat",
            channels=sum(widths),
            dropout_ratio=0,
            **settings,
        )
        self.bn = dense_norm()(self.channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (B, K, h, w) of maps whose channels together are (B, C, h, w)."""
        logits: Tensor = self.cls_seg(self.bn(self._transform_inputs(maps)))
        return logits


@MODELS.register_module()
class DenseProbe(Segmentor):
    """A segmentor of which the head alone trains."""

    @property
    def maps(self) -> FrozenMaps:
        """The backbone."""
        maps: FrozenMaps = self.backbone.pyramid
        return maps


def build_probe(
    maps: FrozenMaps, inference: Inference, side: int, classes: int, normalisation: Normalisation
) -> DenseProbe:
    """A probe for `classes` classes, looking at whole images in windows of `side` pixels; its head is initialised."""
    probe: DenseProbe = MODELS.build(
        {
            "type": "DenseProbe",
            "_scope_": "mmseg",  # mmengine's own is in force once a runner was built in this process
            "data_preprocessor": BaseDataPreprocessor(non_blocking=True),
            "backbone": {"type": "PyramidBackbone", "pyramid": maps},
            "decode_head": {
                "type": LinearHead,
                "widths": maps.widths,
                "num_classes": classes,
                "loss_decode": {**CROSS_ENTROPY, "loss_weight": 1.0},
                **PIXELS,
            },
            "test_cfg": looked_at(inference, side),
        }
    )
    probe.normalisation = normalisation
    initialize(probe.decode_head, probe.decode_head.init_cfg)
    return probe
