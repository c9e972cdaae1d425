"""Less memory for the same numbers: activations that are computed again in the backward pass."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.errors import InputError


def recompute_activations(backbone: nn.Module) -> None:
    """Make a model with timm's `set_grad_checkpointing` keep only its blocks' inputs for the backward pass.

    Raises InputError for a model without, and for one with batch norm or another layer that keeps running statistics:
    computing twice, it would take every batch into them twice.
    """
    name, key = type(backbone).__name__, 'key "runtime.activation_checkpointing"'
    instead = "Leave it false, and set runtime.batch_per_device to what fits"
    if layer := next((type(module).__name__ for module in backbone.modules() if _keeps_statistics(module)), None):
        raise InputError(
            f"{key}: {name} has batch norm or the like ({layer}), which would count every batch twice. {instead}"
        )
    model: Any = backbone
    try:
        model.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise InputError(f"{key}: {name} has no way to do so (timm's set_grad_checkpointing). {instead}") from error


def _keeps_statistics(module: nn.Module) -> bool:
    """Whether a layer takes each batch into running statistics.

    timm's EvoNorm and its in-place batch norm do, and are none of PyTorch's; what torchvision, timm and detectron2 call
    frozen has statistics, and leaves them.
    """
    if isinstance(module, _BatchNorm):
        return True
    is_frozen = any("Frozen" in kind.__name__ for kind in type(module).__mro__)
    return not is_frozen and any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))
