"""Less memory for the same numbers: activations that are computed again in the backward pass."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.errors import InputError


def recompute_activations(backbone: nn.Module) -> None:
    """Make a model with timm's `set_grad_checkpointing` keep only its blocks' inputs for the backward pass.

    Raises InputError for a model without, and for one with batch norm: computing twice, it would take every batch into
    its running statistics twice.
    """
    name, key = type(backbone).__name__, 'key "runtime.activation_checkpointing"'
    instead = "Leave it false, and set runtime.batch_per_device to what fits"
    if any(isinstance(module, _BatchNorm) for module in backbone.modules()):
        raise InputError(f"{key}: {name} has batch norm, which would count every batch twice. {instead}")
    model: Any = backbone
    try:
        model.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise InputError(f"{key}: {name} has no way to do so (timm's set_grad_checkpointing). {instead}") from error
