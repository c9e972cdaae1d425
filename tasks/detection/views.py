"""What a detector finds in views of an image: the image and its mirror image, padded with grey or not.

H and W are the pixels of an image as the detector sees it, before it is padded.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Boxes, Instances
from torch import Tensor

GREY = 128
"""Of pixels between 0 and 255, as detectron2's FixedSizeCrop pads."""

_ALL = 1e-8  # the score from which merged detections count: each has passed the threshold in its own view


def find_in_views(
    detector: GeneralizedRCNN, inputs: Sequence[dict[str, Any]], *, flip: bool, grey_side: int | None
) -> list[dict[str, Instances]]:
    """detectron2's outputs for its inputs, each image looked at by itself.

    flip:      look at the mirror image as well, as detectron2's test-time augmentation does: the boxes of both views
               together go through non-maximum suppression once more, and each that is left has the mean of both views'
               masks (detectron2, modeling/test_time_augmentation.py)
    grey_side: pad each view on the right and at the bottom to such a square, with grey that belongs to the image
               (MIMDet, configs/benchmarking and models/modeling/postprocessing.py); None for no such padding
    """
    return [_find(detector, each, flip, grey_side) for each in inputs]


def _find(detector: GeneralizedRCNN, inputs: dict[str, Any], flip: bool, grey_side: int | None) -> dict[str, Instances]:
    image: Tensor = inputs["image"]
    shape = (image.shape[1], image.shape[2])
    views = [image, image.flip(2)] if flip else [image]
    images = detector.preprocess_image([{"image": _padded(view, grey_side)} for view in views])
    features = detector.backbone(images.tensor)
    proposals, _ = detector.proposal_generator(images, features, None)
    heads = detector.roi_heads
    found: list[Instances] = heads._forward_box(features, proposals)
    if flip:
        found = _in_both_views(_merged(found, shape, heads.box_predictor), shape)
    found = heads.forward_with_given_boxes(features, found)
    result = found[0]
    if flip:
        result.pred_masks = (result.pred_masks + found[1].pred_masks.flip(3)) / 2
    return {"instances": _in_the_original(result, shape, (inputs["height"], inputs["width"]), grey_side)}


def _padded(image: Tensor, side: int | None) -> Tensor:
    if side is None:
        return image
    return F.pad(image, (0, side - image.shape[2], 0, side - image.shape[1]), value=GREY)


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    """Boxes (N, 4) of corners, left and right exchanged."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], 1)


def _merged(found: list[Instances], shape: tuple[int, int], predictor: Any) -> Instances:
    """The detections of the image and of its mirror image, in the image, after one more suppression."""
    boxes = torch.cat([found[0].pred_boxes.tensor, _mirrored(found[1].pred_boxes.tensor, shape[1])])
    classes = torch.cat([each.pred_classes for each in found])
    scores = boxes.new_zeros(len(boxes), predictor.num_classes + 1)  # the last is the background's
    scores[torch.arange(len(boxes), device=boxes.device), classes] = torch.cat([each.scores for each in found])
    merged, _ = fast_rcnn_inference_single_image(
        boxes, scores, shape, _ALL, predictor.test_nms_thresh, predictor.test_topk_per_image
    )
    return merged


def _in_both_views(found: Instances, shape: tuple[int, int]) -> list[Instances]:
    mirrored = Instances(found.image_size, **found.get_fields())
    mirrored.pred_boxes = Boxes(_mirrored(found.pred_boxes.tensor, shape[1]))
    return [found, mirrored]


def _in_the_original(
    found: Instances, shape: tuple[int, int], original: tuple[int, int], grey_side: int | None
) -> Instances:
    """Boxes and masks in the pixels of the original image.

    With grey the larger side's scale serves both, as in MIMDet; else each side has its own.
    """
    seen: tuple[float, float] = shape
    if grey_side is not None:
        longer = max(original)
        seen = (original[0] * grey_side / longer, original[1] * grey_side / longer)
    return detector_postprocess(Instances(seen, **found.get_fields()), *original)
