"""Parameters that a model of another author holds and does not use.   B images, C channels"""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy
import torch
from torch import Tensor, nn

from backbones.contract import is_timms
from backbones.errors import InputError
from backbones.features import ChangedImagesError, in_half_if_need_be, is_of_inference_mode, require_unchanged
from backbones.plugins import describe_error
from backbones.training.machine import device_type, process_count

USUAL_SIDE = 224
"""Of images in pixels, for models that take several; smaller ones may be less than the windows of some."""

NO_GRADIENT = (
    "forward_features passes no gradient on: it runs under no_grad or inference_mode, or detaches. Let it be "
    "differentiated"
)

_IMAGES, _PASSES = 2, 10


def require_all_used(network: nn.Module, name: str, side: int) -> None:
    """Raise InputError if a parameter that trains gets no gradient: several processes would wait for it in vain.

    Those of timm's own models that a task leaves aside, such as a norm of their head, are frozen instead. An error is
    raised too if images are changed. Tried by passes in training, forward and backward, of random images of `side`
    pixels.

    network: a classifier or a pyramid, which gives tensors of images (B, 3, side, side)
    """
    if remark := settle_unused(network, name, side, device_type()):
        raise InputError(f"{name}: {remark}.")


def settle_unused(network: nn.Module, name: str, side: int, device: str) -> str:
    """Freeze parameters that get no gradient, if the model is timm's and does without them; else what to mend.

    "" if nothing is left to mend. All is tried on a copy, for which there has to be memory before the run: a first pass
    may write into parameters (data-dependent initialisation), and caches follow the size of the images. What cannot be
    copied, such as a function that holds on to the module itself, is tried as it is: what it has cached stays, other
    buffers are restored, and one that has written into its parameters is to be mended.

    Raises ChangedImagesError, and InputError if a pass fails.
    """
    before = _sums(network)
    try:
        remark, aside = _try(copy.deepcopy(network), name, side, device)
    except ChangedImagesError:
        raise
    except (Exception, SystemExit):  # another author's module can fail in any way, its copy too
        remark, aside = "not copied", []
    if remark:
        remark, aside = _try_in_place(network, name, side, device)
    if not remark and (moved := [key for key, value in _sums(network).items() if before[key] != value]):
        remark = (
            f"a pass in training writes into its parameters {_listed(moved)}, and copy.deepcopy makes no second one of "
            "it to try that on. Initialise them in the function that builds the model"
        )
    for key in aside:
        network.get_parameter(key).requires_grad_(False)
    return remark


def _sums(network: nn.Module) -> dict[str, str]:
    """Of the numbers in each parameter, which tell whether it has been written into."""
    return {key: str(each.detach().sum().item()) for key, each in network.named_parameters()}


def _try_in_place(network: nn.Module, name: str, side: int, device: str) -> tuple[str, list[str]]:
    """As `_try`, leaving the network where it was. Raises InputError if a pass fails."""
    before = next(network.parameters()).device
    try:
        with _undone(network.to(device)):
            return _try(network, name, side, device)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # another author's module can fail in any way
        if is_of_inference_mode(error):
            return NO_GRADIENT, []
        raise InputError(
            f"{name}: a pass in training failed on {_IMAGES} images of {side} pixels with {describe_error(error)}"
        ) from error
    finally:
        network.zero_grad(set_to_none=True)
        network.to(before)


def _try(network: nn.Module, name: str, side: int, device: str) -> tuple[str, list[str]]:
    """What is to be mended, "" for nothing, and the names of parameters to freeze. Random numbers stay as they are."""
    with _same_random_numbers(device):
        network.to(device).train()
        names = [key for key, each in network.named_parameters() if each.requires_grad]
        reached = [_reached(network, name, side, device)]
        while len(reached) < _PASSES and not {*names} <= reached[-1]:
            reached.append(_reached(network, name, side, device))
        never = [key for key in names if not any(key in each for each in reached)]
        remark, aside = _judge(network, never, side)
    now_and_then = [key for key in names if key not in never and not all(key in each for each in reached)]
    if not remark and now_and_then and process_count() > 1:
        return _without_gradient(now_and_then, "in some"), []
    return remark, aside


def _reached(network: nn.Module, name: str, side: int, device: str) -> set[str]:
    """The parameters that get a gradient in one pass."""
    images = torch.randn(_IMAGES, 3, side, side, device=device)
    version = images._version
    network.zero_grad(set_to_none=True)
    outputs = tried_outputs(network, images)
    require_unchanged(images, version, name)
    if any(each.requires_grad for each in outputs):
        cast(Tensor, sum(each.float().sum() for each in outputs)).backward()
    return {key for key, each in network.named_parameters() if each.grad is not None}


def outputs_of(network: nn.Module, images: Tensor) -> list[Tensor]:
    """What a classifier or a pyramid gives, as a list."""
    output = network(images)
    return [output] if isinstance(output, Tensor) else [*output]


def tried_outputs(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The same of a trial, in bfloat16 where single precision fails."""
    return in_half_if_need_be(lambda: outputs_of(network, images), images.device.type)


def _judge(network: nn.Module, names: Sequence[str], side: int) -> tuple[str, list[str]]:
    """What is to be mended of parameters that never get a gradient, and which of them to freeze.

    It tells by whether other numbers in them change what comes out; modes may be others after it.
    """
    if not names:
        return "", []
    inner = [key for key, each in network.named_parameters() if "backbone." in key and each.requires_grad]
    if inner and {*inner} <= {*names}:
        return NO_GRADIENT, []
    if _decide(network, names, side):
        return _without_gradient(names, f"in {_PASSES}"), []
    if any(is_timms(type(each)) for key, each in network.named_modules() if key.rpartition(".")[2] == "backbone"):
        return "", [*names]
    return (
        f"its features do not depend on {_listed(names)}, which several processes cannot train. Leave out what is not "
        "used, or freeze it with requires_grad_(False), in the function that builds the model"
    ), []


def _without_gradient(names: Sequence[str], passes: str) -> str:
    return (
        f"forward_features passes no gradient on to {_listed(names)} {passes} passes in training: they are left out at "
        "random, or detached, and several processes cannot train that. Let every pass use and differentiate them"
    )


@torch.no_grad()
def _decide(network: nn.Module, names: Sequence[str], side: int) -> bool:
    """Whether what comes out in evaluation depends on these parameters, which keep their numbers."""
    changed = [(each, each.clone()) for key, each in network.named_parameters() if key in {*names}]
    images = torch.randn(1, 3, side, side, device=changed[0][0].device)
    network.eval()
    before, again = tried_outputs(network, images), tried_outputs(network, images)
    for parameter, _ in changed:
        parameter.add_(torch.randn_like(parameter))
    after = tried_outputs(network, images)
    for parameter, value in changed:
        parameter.copy_(value)
    return all(map(torch.equal, before, again)) and not all(map(torch.equal, before, after))


@contextmanager
def _same_random_numbers(device: str) -> Iterator[None]:
    """Draw the same within, every time; in the end PyTorch's, Python's and NumPy's generators are as they were."""
    of_python, of_numpy = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []):
            torch.manual_seed(0)
            random.seed(0)
            numpy.random.seed(0)
            yield
    finally:
        random.setstate(of_python)
        numpy.random.set_state(of_numpy)


@contextmanager
def _undone(network: nn.Module) -> Iterator[None]:
    """Put modes and numbers in buffers back in the end, but for buffers that the network itself has replaced."""
    training = {each: each.training for each in network.modules()}
    buffers = {key: (each, each.clone()) for key, each in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for key, each in network.named_buffers():
                buffer, value = buffers.get(key, (None, each))
                if each is buffer and each.shape == value.shape:
                    each.copy_(value)
        for module, was in training.items():
            module.training = was


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
