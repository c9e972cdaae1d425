"""A rehearsal: the real code on a GPU that is only claimed, with tensors that have everything but content.

What it finds: tensors that were left on the CPU, operators that a GPU has no kernel for, precision that is not what was
meant. What it cannot find: wrong numbers, and whatever else needs a driver.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import mmengine.runner  # noqa: F401  (looks for devices when it is imported)
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from mmengine.model import BaseDataPreprocessor
from safetensors.torch import save
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from tests.support.claimed_gpu import Host, Kernels, is_claimed, off_stage

TWO_DEVICES = "two devices|tensors of cpu and cuda|cuda:0 Device, but got tensor with cpu Device"
"""What is said of operations on tensors of both."""

ENLARGING = "tasks.segmentation.heads.enlarged_by_products"
"""Its products are in single precision, to be left out where those of the segmentor are looked at."""


@contextmanager
def rehearsal() -> Iterator[Kernels]:
    """Within the block PyTorch and this project find a GPU: `device_type` says "cuda", and so do tensors on it.

    Models are built as ever, and lose their weights' content when they are moved there. From then on all that a module
    is given has to be there as well.
    """
    kernels = Kernels()
    with ExitStack() as stack:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", ".*pin_memory")
        for name, claim in CLAIMS.items():
            stack.enter_context(mock.patch(name, claim))
        stack.callback(register_module_forward_pre_hook(_require_all_on_device).remove)
        for each in (mode, kernels, Host(kernels)):
            stack.enter_context(each)
        yield kernels


def _require_all_on_device(module: nn.Module, given: Any) -> None:
    """Raise RuntimeError for a module on the GPU that is given a tensor on the CPU."""
    weight = next((each for each in module.parameters(recurse=False)), None)
    is_there = weight is None or weight.device.type == "cuda"
    if is_there and not isinstance(module, BaseDataPreprocessor) and any(map(is_claimed, module.parameters())):
        left = [each for each in _tensors(given) if each.ndim and each.device.type != "cuda"]
        if left:
            raise RuntimeError(f"{type(module).__name__} is given {len(left)} tensor(s) on the CPU")


def _tensors(given: Any) -> Iterator[Tensor]:
    match given:
        case Tensor():
            yield given
        case list() | tuple():
            for each in given:
                yield from _tensors(each)
        case Instances():
            yield from _tensors([*given.get_fields().values()])
        case Boxes() | BitMasks():
            yield given.tensor


_move, _read, _save, _load, _to_bytes = nn.Module.to, DataLoader.__iter__, torch.save, torch.load, save


def _moved(module: nn.Module, *arguments: Any, **options: Any) -> nn.Module:
    """`Module.to`, which to the claimed GPU takes weights without their content, and leaves them the same objects."""
    device = torch._C._nn._parse_to(*arguments, **options)[0]
    if device is None or device.type != "cuda":
        return _move(module, *arguments, **options)
    for part in module.modules():
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None and not is_claimed(tensor):
                _exchange(tensor, torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device))
    return module


def _exchange(tensor: Tensor, other: Tensor) -> None:
    """Make of the one object the other, as `torch.utils.swap_tensors` does, which minds FakeTensorMode's references."""
    other = other.detach().requires_grad_(tensor.requires_grad)
    if isinstance(tensor, nn.Parameter):
        other._is_param = True  # type: ignore[attr-defined]
    tensor.__class__, other.__class__ = other.__class__, tensor.__class__
    tensor.__dict__, other.__dict__ = other.__dict__, tensor.__dict__
    torch._C._swap_tensor_impl(tensor, other)


def _batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """A loader's batches, read off stage and pinned."""
    with off_stage():
        batches = _read(loader)
    while True:
        with off_stage():
            batch = next(batches, None)
        if batch is None:
            return
        yield pin_memory(batch)


def _saved(content: Any, *arguments: Any, **options: Any) -> None:
    """`torch.save`, with zeros for what has no content."""
    with off_stage():
        content = tree_map_only(FakeTensor, lambda each: torch.zeros(each.shape, dtype=each.dtype), content)
        _save(content, *arguments, **options)


def _as_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """safetensors' `save`, likewise."""
    with off_stage():
        return _to_bytes({name: torch.zeros(each.shape, dtype=each.dtype) for name, each in tensors.items()}, metadata)


def _loaded(*arguments: Any, **options: Any) -> Any:
    with off_stage():
        return _load(*arguments, **options)


CLAIMS: dict[str, Any] = {
    "backbones.training.tensors.save": _as_bytes,
    "backbones.training.machine._chosen": "cuda",
    "backbones.training.machine.choose_device": lambda wanted: None,
    "benchmarks.running.starting.choose_device": lambda wanted: None,
    "mmengine.device.utils.DEVICE": "cuda",
    "mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available": lambda: True,
    "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
    "torch.cuda.get_device_name": lambda device=None: "a claimed GPU",
    "torch.cuda.is_bf16_supported": lambda including_emulation=True: True,
    "torch.cuda.reset_peak_memory_stats": lambda device=None: None,
    "torch.load": _loaded,
    "torch.nn.Module.to": _moved,
    "torch.save": _saved,
    "torch.utils.data.DataLoader.__iter__": _batches,
}
"""What stands in for what asks for a GPU's driver, or for content."""
