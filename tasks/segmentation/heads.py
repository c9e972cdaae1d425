"""mmsegmentation's heads, as a GPU wants them: nothing of them is waited for, and they can add in a fixed order.

B images, H and W pixels, h and w cells of a map, C channels, K classes
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.segmentation.mmseg_parts import FCNHead, SegDataSample, UPerHead, resize


def pixel_accuracy(logits_BKHW: Tensor, labels_BHW: Tensor, ignored: int) -> Tensor:
    """mmsegmentation's `accuracy` of the likeliest class, in percent, (1,), over the pixels that are not `ignored`.

    That one picks them out, and waits for their number; and it sorts the classes.
    """
    counted_BHW = labels_BHW != ignored
    hits = (logits_BKHW.detach().argmax(1) == labels_BHW) & counted_BHW
    epsilon = torch.finfo(torch.float32).eps
    share = (100.0 / (counted_BHW.sum().double() + epsilon)).float()
    return (hits.sum().float() + epsilon)[None] * share


def enlarged(logits_BKhw: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Logits enlarged bilinearly to (B, K, H, W) of `size`; on a GPU by products, in single precision.

    There the backward pass of PyTorch's own adds pixel by pixel, as it comes, and took a quarter of a training step
    (two heads of 150 classes, 8 images of 512 pixels, bfloat16, H100).
    """
    if logits_BKhw.device.type == "cuda":
        return enlarged_by_products(logits_BKhw, size, align_corners)
    return resize(logits_BKhw, size=tuple(size), mode="bilinear", align_corners=align_corners)


def enlarged_by_products(x_BKhw: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Bilinear interpolation as a product with each axis' weights: (B, K, H, W) of `size`, in single precision."""
    with torch.autocast(x_BKhw.device.type, enabled=False):
        for_rows_Hh, for_columns_Ww = (
            F.interpolate(
                torch.eye(length, device=x_BKhw.device)[None], wanted, mode="linear", align_corners=align_corners
            )[0].t()
            for length, wanted in zip(x_BKhw.shape[2:], size, strict=True)
        )
        return for_rows_Hh @ (x_BKhw.float() @ for_columns_Ww.t())


class MeasuredOnDevice:
    """What makes of a decode head of mmsegmentation's, with one loss and no sampler, one that waits for nothing."""

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """The loss, by its name, and the accuracy `acc_seg`, both at the labels' size."""
        labels_B1HW = self._stack_batch_gt(batch_data_samples)  # type: ignore[attr-defined]
        labels_BHW, size = labels_B1HW[:, 0], labels_B1HW.shape[2:]
        align: bool = self.align_corners  # type: ignore[attr-defined]
        ignored: int = self.ignore_index  # type: ignore[attr-defined]
        logits = enlarged(seg_logits, size, align)
        loss = self.loss_decode  # type: ignore[attr-defined]
        return {
            loss.loss_name: loss(logits, labels_BHW, weight=None, ignore_index=ignored),
            "acc_seg": pixel_accuracy(logits, labels_BHW, ignored),
        }


class MainHead(MeasuredOnDevice, UPerHead):
    """mmsegmentation's UPerHead."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for module in self.psp_modules.modules():
            if type(module) is nn.AdaptiveAvgPool2d:
                module.__class__ = Pool


class AuxiliaryHead(MeasuredOnDevice, FCNHead):
    """mmsegmentation's FCNHead."""


class Pool(nn.AdaptiveAvgPool2d):
    """PyTorch's, of which the backward pass on a GPU adds as it comes; by products where a fixed order is asked for."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if x_BCHW.device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
            return pooled_in_order(x_BCHW, int(self.output_size))  # type: ignore[arg-type]
        return super().forward(x_BCHW)


def pooled_in_order(x_BCHW: Tensor, side: int) -> Tensor:
    """The means of side × side overlapping windows, (B, C, side, side), as AdaptiveAvgPool2d lays them."""
    with torch.autocast(x_BCHW.device.type, enabled=False):
        rows, columns = (_shares(length, side, x_BCHW.device) for length in x_BCHW.shape[2:])
        return torch.einsum("bchw,ih,jw->bcij", x_BCHW.float(), rows, columns).to(x_BCHW.dtype)


def _shares(length: int, windows: int, device: torch.device) -> Tensor:
    """Each position's weight in each window's mean, (windows, length)."""
    number, position = torch.arange(windows, device=device)[:, None], torch.arange(length, device=device)
    first, end = number * length // windows, ((number + 1) * length + windows - 1) // windows
    return ((first <= position) & (position < end)) / (end - first)
