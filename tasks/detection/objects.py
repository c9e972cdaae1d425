"""A batch's way to the device, of which nothing waits for the device: detectron2's objects in pinned memory."""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.structures import Instances
from mmengine.model import BaseDataPreprocessor
from torch import Tensor


class Objects(Instances):
    """detectron2's instances of an image, which a loader can pin, and which then go to a GPU without being waited for.

    detectron2's own are left as they are by PyTorch's loader, and their boxes know no `non_blocking`.
    """

    @classmethod
    def of(cls, instances: Instances) -> "Objects":
        """The same fields."""
        return cls(instances.image_size, **instances.get_fields())

    def pin_memory(self) -> "Objects":
        """All tensors in memory that a GPU can read by itself."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device, non_blocking: bool = False) -> "Objects":
        """All tensors on that device; polygons stay where they are, as detectron2 wants them."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Objects":
        fields = {name: _changed(value, change) for name, value in self.get_fields().items()}
        return Objects(self.image_size, **fields)


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A field with the tensor that it is, or holds (`Boxes`, `BitMasks`), changed; others as they are."""
    if isinstance(value, Tensor):
        return change(value)
    inner = getattr(value, "tensor", None)
    return type(value)(change(inner)) if isinstance(inner, Tensor) else value


class DetectionPreprocessor(BaseDataPreprocessor):
    """mmengine's, which takes objects along."""

    def __init__(self) -> None:
        super().__init__(non_blocking=True)

    def cast_data(self, data: Any) -> Any:
        """A part of a batch, on the model's device."""
        return data.to(self.device, non_blocking=True) if isinstance(data, Objects) else super().cast_data(data)
