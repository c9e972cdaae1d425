"""Batch norm over all processes, for the tasks that train on few images in each.

It rests on detectron2's, whichever library the rest of the task is built from.
"""

from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from torch import Tensor, nn

from backbones.training.machine import device_type, process_count


class SynchronisedBatchNorm(NaiveSyncBatchNorm):
    """Batch norm over all processes, on any device, of which some may have an empty batch.

    The processes count by the size of their batches; those need maps of one size. Between processes it takes the
    statistics in single precision: a variance that is the difference of two numbers in bfloat16 can be negative. In
    one process it is `nn.BatchNorm2d`.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps, stats_mode="N")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(x_BCHW.float() if process_count() > 1 else x_BCHW).to(x_BCHW.dtype)


def dense_norm() -> type[nn.Module]:
    """Choose the batch norm of maps that are never empty: PyTorch's own, which is faster, where there is a GPU.

    detectron2 takes the class as a `norm`, mmcv as the `type` in a `norm_cfg`.
    """
    return nn.SyncBatchNorm if device_type() == "cuda" else SynchronisedBatchNorm
