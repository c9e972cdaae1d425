"""Parameters that a model of another author holds and does not use.   B images, C channels"""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.plugins import describe_error
from backbones.training.machine import device_type

SMALL_SIDE = 128
"""Of images in pixels, for models that take any."""

_IMAGES = 2


def require_all_used(network: nn.Module, name: str, side: int) -> None:
    """Raise InputError if a parameter that trains gets no gradient: several processes would wait for it in vain.

    Tried by one pass in training, forward and backward, of black images of `side` pixels; weights, statistics and
    random numbers stay as they are.

    network: a classifier or a pyramid, which gives tensors of images (B, 3, side, side)
    """
    device = device_type()
    before = next(network.parameters()).device
    try:
        with _undone(network), torch.random.fork_rng(_gpus(device)):
            output: Any = network.to(device).train()(torch.zeros(_IMAGES, 3, side, side, device=device))
            total = sum(each.float().sum() for each in ([output] if isinstance(output, Tensor) else output))
            assert isinstance(total, Tensor)
            total.backward()
            trained = [(key, each.grad) for key, each in network.named_parameters() if each.requires_grad]
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # another author's module can fail in any way
        raise InputError(
            f"{name}: a pass in training failed on {_IMAGES} images of {side} pixels with {describe_error(error)}"
        ) from error
    finally:
        network.zero_grad(set_to_none=True)
        network.to(before)
    inner = [gradient for key, gradient in trained if "backbone." in key]
    if inner and all(gradient is None for gradient in inner):
        raise InputError(
            f"{name}: forward_features passes no gradient on: it runs under no_grad, or detaches. Let it be "
            "differentiated."
        )
    if unused := [key for key, gradient in trained if gradient is None]:
        raise InputError(
            f"{name}: its features do not depend on {_listed(unused)}, which several processes cannot train. Leave out "
            "what is not used, or freeze it with requires_grad_(False)."
        )


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


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
