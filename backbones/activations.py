"""Less memory for the same numbers: activations that are computed again in the backward pass."""

from typing import Any

from torch import nn

from backbones.errors import InputError
from backbones.running_statistics import keeps_statistics


def recompute_activations(backbone: nn.Module) -> None:
    """Make a model with timm's `set_grad_checkpointing` keep only its blocks' inputs for the backward pass.

    Raises InputError for a model without, and for one with batch norm or another layer that keeps running statistics:
    computing twice, it would take every batch into them twice.
    """
    name, key = type(backbone).__name__, 'key "runtime.activation_checkpointing"'
    instead = "Leave it false, and set runtime.batch_per_device to what fits"
    if layer := next((type(module).__name__ for module in backbone.modules() if keeps_statistics(module)), None):
        raise InputError(
            f"{key}: {name} has batch norm or the like ({layer}), which would count every batch twice. {instead}"
        )
    model: Any = backbone
    try:
        model.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise InputError(f"{key}: {name} has no way to do so (timm's set_grad_checkpointing). {instead}") from error
