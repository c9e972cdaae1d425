"""Layers that look at several images at once, whoever wrote them: they keep running statistics of what they saw."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm


def keeps_statistics(module: nn.Module) -> bool:
    """Whether a layer takes each batch into running statistics.

    timm's EvoNorm and its in-place batch norm do, and are none of PyTorch's; what torchvision, timm and detectron2 call
    frozen has statistics, and leaves them.
    """
    if isinstance(module, _BatchNorm):
        return True
    is_frozen = any("Frozen" in kind.__name__ for kind in type(module).__mro__)
    return not is_frozen and any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))


def normalises_over_images(module: nn.Module) -> bool:
    """Whether a layer's result for one image depends on the others of its step, in the mode in which it is.

    Instance norm may keep statistics, and takes those of each image while it trains.
    """
    if isinstance(module, _BatchNorm):
        return module.training or module.running_mean is None
    return module.training and keeps_statistics(module) and not isinstance(module, _InstanceNorm)
