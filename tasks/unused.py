"""Parameters that a model of another author holds and does not use.   B images, C channels"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy
import torch
from torch import Tensor, nn

from backbones.contract import is_timms
from backbones.errors import InputError
from backbones.features import require_unchanged
from backbones.plugins import describe_error
from backbones.training.machine import device_type

USUAL_SIDE = 224
"""Of images in pixels, for models that take several; smaller ones may be less than the windows of some."""

NO_GRADIENT = (
    "forward_features passes no gradient on: it runs under no_grad or inference_mode, or detaches. Let it be "
    "differentiated"
)

_IMAGES = 2


def require_all_used(network: nn.Module, name: str, side: int) -> None:
    """Raise InputError if a parameter that trains gets no gradient: several processes would wait for it in vain.

    Those of timm's own models that a task leaves aside, such as a norm of their head, are frozen instead. An error is
    raised too if images are changed. Tried by one pass in training, forward and backward, of black images of `side`
    pixels; weights, statistics and random numbers stay as they are.

    network: a classifier or a pyramid, which gives tensors of images (B, 3, side, side)
    """
    device = device_type()
    before = next(network.parameters()).device
    try:
        with _undone(network), torch.random.fork_rng(_gpus(device)):
            remark = _remark(network.to(device).train(), name, side, device)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # another author's module can fail in any way
        if is_of_inference_mode(error):
            raise InputError(f"{name}: {NO_GRADIENT}.") from error
        raise InputError(
            f"{name}: a pass in training failed on {_IMAGES} images of {side} pixels with {describe_error(error)}"
        ) from error
    finally:
        network.zero_grad(set_to_none=True)
        network.to(before)
    if remark:
        raise InputError(f"{name}: {remark}.")


def _remark(network: nn.Module, name: str, side: int, device: str) -> str:
    """What is to be mended, "" for nothing."""
    images = torch.zeros(_IMAGES, 3, side, side, device=device)
    version = images._version
    outputs = outputs_of(network, images)
    require_unchanged(images, version, name)
    if any(each.requires_grad for each in outputs):
        cast(Tensor, sum(each.float().sum() for each in outputs)).backward()
    without = [key for key, each in network.named_parameters() if each.requires_grad and each.grad is None]
    return settle_without_gradient(network, without, side)


def is_of_inference_mode(error: BaseException) -> bool:
    """Whether PyTorch says that features were made under `torch.inference_mode`."""
    return isinstance(error, RuntimeError) and "Inference tensors cannot be saved for backward" in str(error)


def outputs_of(network: nn.Module, images: Tensor) -> list[Tensor]:
    """What a classifier or a pyramid gives, as a list."""
    output = network(images)
    return [output] if isinstance(output, Tensor) else [*output]


def settle_without_gradient(network: nn.Module, names: Sequence[str], side: int) -> str:
    """Freeze parameters that get no gradient, if the model is timm's and does without them; else what to mend.

    "" if nothing is left to mend. It tells by whether other numbers in them change what comes out; modes and random
    numbers may be others after it.
    """
    if not names:
        return ""
    inner = [key for key, each in network.named_parameters() if "backbone." in key and each.requires_grad]
    every = bool(inner) and {*inner} <= {*names}
    if every or _decide(network, names, side):
        return NO_GRADIENT if every else NO_GRADIENT.replace(" on:", f" on to {_listed(names)}:")
    if any(is_timms(type(each)) for key, each in network.named_modules() if key.rpartition(".")[2] == "backbone"):
        for key in names:
            network.get_parameter(key).requires_grad_(False)
        return ""
    return (
        f"its features do not depend on {_listed(names)}, which several processes cannot train. Leave out what is not "
        "used, or freeze it with requires_grad_(False), in the function that builds the model"
    )


@torch.no_grad()
def _decide(network: nn.Module, names: Sequence[str], side: int) -> bool:
    """Whether what comes out in evaluation depends on these parameters, which keep their numbers."""
    changed = [(each, each.clone()) for key, each in network.named_parameters() if key in {*names}]
    images = torch.randn(1, 3, side, side, device=changed[0][0].device)
    network.eval()
    before, again = outputs_of(network, images), outputs_of(network, images)
    for parameter, _ in changed:
        parameter.add_(torch.randn_like(parameter))
    after = outputs_of(network, images)
    for parameter, value in changed:
        parameter.copy_(value)
    return all(map(torch.equal, before, again)) and not all(map(torch.equal, before, after))


@contextmanager
def _undone(network: nn.Module) -> Iterator[None]:
    """Put modes, random numbers of Python and NumPy, and buffers back in the end, these in the tensors they were in."""
    of_python, of_numpy = random.getstate(), numpy.random.get_state()
    training = {each: each.training for each in network.modules()}
    buffers = {key: each.clone() for key, each in network.named_buffers()}
    try:
        yield
    finally:
        random.setstate(of_python)
        numpy.random.set_state(of_numpy)
        with torch.no_grad():
            for key, each in network.named_buffers():
                if key in buffers:
                    each.copy_(buffers[key])
        for module, was in training.items():
            module.training = was


def _gpus(device: str) -> list[int]:
    return [torch.cuda.current_device()] if device == "cuda" else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
