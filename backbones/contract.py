"""What a backbone must have: as little as the tasks can do with.   B images, T + N tokens, C channels, H × W cells

A backbone is any `torch.nn.Module` with the method `forward_features(images)`, which takes normalised images
(B, 3, height, width) and returns one of these, without a classifier:

- tokens (B, T + N, C): T tokens before the patches, such as a class token, then N patches row by row
- a map (B, C, H, W), or (B, H, W, C), of any stride
- four maps (B, C, H, W) of strides 4, 8, 16 and 32, finest first, in a list or a tuple
- what libraries put round one of these: an object or a dictionary with `last_hidden_state` or `feature_maps`
  (transformers) or `x_norm_patchtokens` (DINOv2), a dictionary or a tuple with one tensor of this kind

By task:

- classification: the mean over patches or cells, or the first token (`model.pool=token`), and a linear layer on it.
  Where the module's attribute `norm` is a LayerNorm and the last thing that it does to tokens, the mean is taken before
  it, and normalised afresh, as MAE's fine-tuning does; else the mean is taken of the features as they are
- detection and segmentation: one map whose stride is a power of two, from which the adapter `simple` makes all others,
  or four. Images come in several sizes, so a module that takes one alone has them padded to it
- layer-wise decay: the list of numbered modules that holds most parameters (`blocks.0`, `encoder.layer.0`,
  `stages.0.blocks.0`) gives the layers; what stands before it is the first, what stands behind it the last

What a module may say of itself, where it cannot be told or is otherwise:

- `num_prefix_tokens`: T. It is found out where images of several sizes can be tried
- `output_fmt`: "NCHW" or "NHWC", for maps of as many channels as rows
- `embed_dim`: C, which is held against what comes out
- `group_matcher(coarse=False)`: the layers, as timm's models have them
- `no_weight_decay()`: names of parameters without weight decay in classification, beside those of one dimension; by
  default those of class tokens and position embeddings
- `set_grad_checkpointing(True)`: keep only the blocks' inputs, for `runtime.activation_checkpointing`
- `set_input_size(img_size=(side, side))`: become a model for images of that size, for dense tasks
- `feature_info` and `forward_intermediates`: as timm's hierarchical models have them, for dense tasks

timm's models have all of it, and are used as they are. `backbench check-backbone NAME` tries a backbone in every task.
"""

import inspect
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from backbones.errors import InputError

_OF_TIMM = ("forward_features", "forward_intermediates", "group_matcher")
_HEAD = ("reset_classifier", "get_classifier")
_FORWARD = ("forward_features", "forward_intermediates", "_pos_embed")
_ANY_SIZE = 224
_DESCRIPTIONS = ("feature_info", "embed_dim")


@runtime_checkable
class Backbone(Protocol):
    """All that is demanded of a module; see above for what it returns and what else it may say of itself."""

    def forward_features(self, images_B3HW: Tensor, /) -> Any:
        """Tokens, a map or four maps of normalised images."""


def require_backbone(model: object, name: str) -> nn.Module:
    """Return the model if it is a `torch.nn.Module` with `forward_features` and without a classifier of its own.

    Raises InputError that names what is missing.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"{name}: expected a torch.nn.Module, got {type(model).__name__}.")
    if not isinstance(model, Backbone) or not callable(model.forward_features):
        raise InputError(
            f"{name}: {type(model).__name__} lacks forward_features. Give it a method forward_features(images) that "
            "returns tokens (B, N, C) or a map (B, C, H, W) of images (B, 3, height, width); docs/backbones.md has "
            "examples."
        )
    _require_images_alone(model, name)
    classes = getattr(model, "num_classes", 0)
    if isinstance(classes, int) and classes > 0:  # others mean by -1 that there is no classifier
        raise InputError(f"{name}: it has a classifier of {classes} classes. Build it with num_classes=0.")
    for parameter_name, parameter in model.named_parameters():
        _require_parameter(parameter, f"{name}: its parameter {parameter_name}")
    return model


def _require_images_alone(model: Any, name: str) -> None:
    """Raise InputError if `forward_features` cannot be called with images and nothing else."""
    signature = _signature(model.forward_features)
    if signature is None or _takes(signature, None):
        return
    needed = [each.name for each in [*signature.parameters.values()][1:] if each.default is each.empty]
    raise InputError(
        f"{name}: {type(model).__name__}.forward_features{signature} is called with images alone. "
        f"{'Give ' + ' and '.join(needed) + ' a default' if needed else 'Let it take them'}."
    )


def require_builder(build: Callable[..., object], name: str) -> None:
    """Raise InputError if a function that builds a backbone does not take (image_size, drop_path), by position."""
    signature = _signature(build)
    if signature is None:
        return
    names = [each.lower() for each in signature.parameters][:2]
    swapped = len(names) == 2 and "drop" in names[0] and "size" in names[1]
    if swapped or not _takes(signature, _ANY_SIZE, 0.0):
        raise InputError(
            f"backbone {name}: its function is called as (image_size, drop_path), by position: the side of the images "
            "in pixels, which is None in detection and segmentation, and a rate. It is defined as "
            f"{getattr(build, '__name__', 'function')}{signature}."
        )


def _signature(function: Callable[..., object]) -> inspect.Signature | None:
    """None of one that does not tell, such as one written in C."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _takes(signature: inspect.Signature, *arguments: object) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _require_parameter(parameter: nn.Parameter, who: str) -> None:
    if is_lazy(parameter):
        raise InputError(f"{who} has no shape yet. Build it with all its sizes, without lazy modules.")
    if parameter.is_meta and torch.get_default_device().type != "meta":  # where an outline was asked for
        raise InputError(f'{who} is on the device "meta", without numbers. Build the model on the CPU.')
    if parameter.is_floating_point() and parameter.dtype != torch.float32:
        raise InputError(
            f"{who} is {parameter.dtype}, expected float32: the recipe's precision rounds where it should. Build the "
            "model with .float()."
        )


def require_trainable(model: nn.Module, name: str) -> None:
    """Raise InputError if most of a model's numbers are frozen: what trains then is no fine-tuning of the model."""
    frozen = {key: each for key, each in model.named_parameters() if not each.requires_grad}
    if 2 * sum(each.numel() for each in frozen.values()) > sum(each.numel() for each in model.parameters()):
        raise InputError(
            f"{name}: {_frozen(model, [*frozen])}. Tasks fine-tune the whole model, and a head on a frozen one is "
            "another measurement. Build it with requires_grad_(True)."
        )


def frozen_notes(module: nn.Module, apart_from: str | None = None) -> list[str]:
    """What a reader of the numbers has to know of parameters that do not train; not of those named `apart_from`."""
    frozen = [key for key, each in module.named_parameters() if not each.requires_grad]
    others = [key for key in frozen if key.rpartition(".")[2] != apart_from]
    return [_frozen(module, others)] if others else []


def _frozen(module: nn.Module, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    count = sum(1 for _ in module.parameters())
    return f"{len(names)} of {count} parameter tensors are frozen: {', '.join(names[:3])}{more}"


def has_timms_interface(model: nn.Module) -> bool:
    """Whether a model has what timm's have, so that the tasks can do with it as with those."""
    return all(callable(getattr(model, method, None)) for method in _OF_TIMM) and any(
        hasattr(model, attribute) for attribute in _DESCRIPTIONS
    )


def has_timms_head(model: nn.Module) -> bool:
    """Whether a model makes itself a classifier, as timm's do, and can be called as one.

    A `forward_features(images)` that is put into a class of timm's may lack what timm's `forward` hands to it.
    """
    if not has_timms_interface(model) or not all(callable(getattr(model, method, None)) for method in _HEAD):
        return False
    kinds = [kind for kind in type(model).__mro__ if "forward_features" in vars(kind)]
    timms = next((vars(kind)["forward_features"] for kind in kinds if is_timms(kind)), None)
    if timms is None:
        return True
    own = inspect.signature(vars(kinds[0])["forward_features"]).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values())
    return takes_any or {*inspect.signature(timms).parameters} - {"x"} <= {*own}


def changed_by_others(model: nn.Module) -> str | None:
    """Which method of the forward pass a class from outside timm has of its own, if the model is derived from timm's.

    A model of that kind cannot be taken apart as timm's are: its parts do not say what it does with them.
    """
    for kind in type(model).__mro__:
        if is_timms(kind):
            return None
        if method := next((name for name in _FORWARD if name in vars(kind)), None):
            return f"{kind.__qualname__}.{method}"
    return None


def is_timms(kind: type) -> bool:
    """Whether a class is timm's own, and not derived from one of timm's."""
    return kind.__module__.partition(".")[0] == "timm"
