"""What this task takes from mmsegmentation, imported without what its import says on the screen."""

import io
import warnings
from contextlib import redirect_stdout

with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    from mmcv.transforms import RandomResize
    from mmseg.datasets.transforms import PhotoMetricDistortion, RandomCrop, RandomFlip, Resize
    from mmseg.models import EncoderDecoder
    from mmseg.models.decode_heads import FCNHead, UPerHead
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.models.utils import resize
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample
    from mmseg.utils import get_palette

__all__ = [
    "MODELS",
    "BaseDecodeHead",
    "EncoderDecoder",
    "FCNHead",
    "PhotoMetricDistortion",
    "RandomCrop",
    "RandomFlip",
    "RandomResize",
    "Resize",
    "SegDataSample",
    "UPerHead",
    "get_palette",
    "resize",
]
