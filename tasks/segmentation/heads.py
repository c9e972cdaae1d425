"""mmsegmentation's heads, with a loss that a GPU is not waited for.   B images, H and W pixels, K classes"""

import torch
from torch import Tensor

from tasks.segmentation.mmseg_parts import FCNHead, SegDataSample, UPerHead, resize


def pixel_accuracy(logits_BKHW: Tensor, labels_BHW: Tensor, ignored: int) -> Tensor:
    """mmsegmentation's `accuracy` of the likeliest class, in percent, (1,), over the pixels that are not `ignored`.

    That one picks them out, and waits for their number.
    """
    counted_BHW = labels_BHW != ignored
    hits = (logits_BKHW.detach().topk(1, dim=1).indices[:, 0] == labels_BHW) & counted_BHW
    epsilon = torch.finfo(torch.float32).eps
    share = (100.0 / (counted_BHW.sum().double() + epsilon)).float()
    return (hits.sum().float() + epsilon)[None] * share


class _MeasuredOnDevice:
    """A decode head with one loss and no sampler, as all here."""

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """The loss, by its name, and the accuracy `acc_seg`, both at the labels' size."""
        labels_B1HW = self._stack_batch_gt(batch_data_samples)  # type: ignore[attr-defined]
        labels_BHW, size = labels_B1HW[:, 0], labels_B1HW.shape[2:]
        align: bool = self.align_corners  # type: ignore[attr-defined]
        ignored: int = self.ignore_index  # type: ignore[attr-defined]
        logits = resize(seg_logits, size=size, mode="bilinear", align_corners=align)
        loss = self.loss_decode  # type: ignore[attr-defined]
        return {
            loss.loss_name: loss(logits, labels_BHW, weight=None, ignore_index=ignored),
            "acc_seg": pixel_accuracy(logits, labels_BHW, ignored),
        }


class MainHead(_MeasuredOnDevice, UPerHead):
    """mmsegmentation's UPerHead."""


class AuxiliaryHead(_MeasuredOnDevice, FCNHead):
    """mmsegmentation's FCNHead."""
