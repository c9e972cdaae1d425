"""What a GPU that is only claimed does: kernels without numbers, numbers for the host, gradients.

Beneath all this lies PyTorch's FakeTensorMode: what is said to be on the GPU has a shape, a type and a device, and no
content. An operation on tensors of two devices raises.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
import torchvision  # noqa: F401  (registers its operators)
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from tests.support.claimed_gradients import leave_gradients

HOUSE = Path(__file__).parents[2]
OWN = tuple(f"{HOUSE / package}/" for package in ("backbones", "tasks", "tests"))

aten, vision = torch.ops.aten, torch.ops.torchvision

COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default}

off_stage = _disable_current_modes
"""The context in which tensors are PyTorch's own again."""


def is_claimed(tensor: Any) -> bool:
    """Whether it is a tensor without content."""
    return isinstance(tensor, FakeTensor)


class Kernels(TorchDispatchMode):
    """Answers where FakeTensorMode would need content, and refuses operators that have no kernel for a GPU.

    What is on the CPU keeps its content until it is brought to the GPU. Numbers that the host reads are 0, flags True;
    every second element is not zero, and every second box survives non-maximum suppression. Indices on the CPU into a
    tensor on the GPU are refused to the project's own code: PyTorch would copy them, and wait for the copy.

    trained, evaluated: the types that matrix products, convolutions and attention came out in, in forward passes with
                        gradients and without
    """

    def __init__(self) -> None:
        super().__init__()
        self.trained: set[torch.dtype] = set()
        self.evaluated: set[torch.dtype] = set()
        self.is_counting = True
        self.contents = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # a question to the tensor itself, such as where it is
            return func(*args, **kwargs)
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if torch.device(kwargs.get("device") or "cpu").type == "cpu" and not any(map(is_claimed, tensors)):
            with off_stage():
                return func(*args, **kwargs)
        if not _has_kernel(func):
            raise NotImplementedError(f"{func} has no kernel for a GPU, in {_caller()}")
        if find := BY_CONTENT.get(func):
            return find(self, *args, **kwargs)
        if func in INDEXING:
            args = (args[0], [index for one in args[1] for index in _places(one)], *args[2:])
        _require_one_device(func, tensors)
        result = func(*args, **kwargs)
        self._remember(func, args, kwargs, result)
        if func in PRODUCTS:
            self.count(result)
        return result

    def _remember(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Keep the content of what has just been copied from the CPU, and of views of that."""
        if func is aten._to_copy.default and not is_claimed(args[0]):
            self.contents[result] = args[0]
        elif func.is_view and isinstance(result, Tensor) and args[0] in self.contents:
            with off_stage():
                self.contents[result] = func(self.contents[args[0]], *args[1:], **kwargs)

    def repeat(self, counts: Tensor, **options: Any) -> Tensor:
        """`repeat_interleave`, whose result is as long as the content says."""
        with off_stage():
            total = int(self.contents[counts].sum())
        return torch.empty(total, dtype=torch.int64, device=counts.device)

    def count(self, product: Tensor) -> None:
        """Take note of a product's type."""
        if self.is_counting:
            (self.trained if torch.is_grad_enabled() else self.evaluated).add(product.dtype)

    @contextmanager
    def not_counting(self) -> Iterator[None]:
        """Take no note of products for a while."""
        before, self.is_counting = self.is_counting, False
        try:
            yield
        finally:
            self.is_counting = before

    @contextmanager
    def leaving_out(self, name: str) -> Iterator[None]:
        """Take no note of the products of a function, by its full name, that is meant to have its own precision."""
        function = resolve_name(name)

        def uncounted(*arguments: Any, **options: Any) -> Any:
            with self.not_counting():
                return function(*arguments, **options)

        with mock.patch(name, uncounted):
            yield


def answer(tensor: Tensor) -> np.ndarray:
    """What the host reads of a tensor without content: zeros, or True."""
    kind = str(tensor.dtype).removeprefix("torch.")
    return np.full(tensor.shape, tensor.dtype is torch.bool, dtype="float32" if kind == "bfloat16" else kind)


def _half(count: int, tensor: Tensor, *more: int) -> Tensor:
    """Numbers of places in a tensor, half as many as `count`."""
    return torch.empty(-(-count // 2), *more, dtype=torch.int64, device=tensor.device)


def _not_zero(tensor: Tensor) -> Tensor:
    return _half(tensor.numel(), tensor, tensor.ndim)


BY_CONTENT: dict[Any, Callable[..., Any]] = {
    aten._local_scalar_dense.default: lambda kernels, tensor: answer(tensor).item(),
    aten.nonzero.default: lambda kernels, tensor: _not_zero(tensor),
    aten.repeat_interleave.Tensor: Kernels.repeat,
    vision.nms.default: lambda kernels, boxes, scores, threshold: _half(len(boxes), boxes),
}
"""What the operators give whose results, or their shapes, depend on content."""


def _places(index: Tensor | None) -> list[Tensor | None]:
    """An index in numbers: a mask becomes that of where it is true."""
    if index is None or index.dtype not in (torch.bool, torch.uint8):
        return [index]
    return [*_not_zero(index).unbind(1)]


@cache
def _has_kernel(func: Any) -> bool:
    """Whether a GPU has an operator. Where PyTorch was built without any such kernel, nobody knows."""
    names = ("aten::mm", func.name())
    built, has = (torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "CUDA") for name in names)
    return has or not built


def _require_one_device(func: Any, tensors: list[Tensor]) -> None:
    kinds = {each.device.type for each in tensors if each.ndim}
    if len(kinds) > 1 and func not in COPIES and (caller := _caller()).startswith(OWN):
        raise RuntimeError(f"{func} on tensors of {' and '.join(sorted(kinds))}, in {caller}")


def _caller() -> str:
    """The file and line that call PyTorch at the moment."""
    frame: Any = sys._getframe(1)
    inner = (str(Path(torch.__file__).parent), str(HOUSE / "tests/support/claimed_"))
    while frame and frame.f_code.co_filename.startswith(inner):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


class Host(TorchFunctionMode):
    """Answers what Python asks of a tensor without any operator: arrays, gradients.

    As with a GPU, arrays are to be had from tensors on the CPU only. A loss has to be in single precision.
    """

    def __init__(self, kernels: Kernels) -> None:
        super().__init__()
        self.kernels = kernels

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.pin_memory:
            return args[0]
        if not args or not is_claimed(args[0]):
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:  # whose kernels need a driver: what stands in calculates otherwise
            with self.kernels.not_counting():
                attended = func(*args, **kwargs)
            self.kernels.count(attended)
            return attended
        if func is Tensor.backward:
            with self.kernels.not_counting():
                return leave_gradients(args[0])
        return HOST.get(func, func)(*args, **kwargs)


def _array(tensor: Tensor, dtype: Any = None, **options: Any) -> np.ndarray:
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy. Use Tensor.cpu() first")
    if tensor.dtype is torch.bfloat16:
        raise TypeError("Got unsupported ScalarType BFloat16")
    return answer(tensor).astype(dtype or answer(tensor).dtype)


HOST: dict[Any, Callable[..., Any]] = {
    Tensor.numpy: _array,
    Tensor.__array__: _array,
}
