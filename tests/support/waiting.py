"""Steps on a GPU that does not exist, watched for whatever would make the processor wait for it.

Tensors of PyTorch's fake mode say that they are on "cuda", and hold nothing. Their backward pass needs a driver, so it
is left out. Whatever would wait is an AssertionError.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
READING = {
    aten._local_scalar_dense,  # item, float, bool, tolist
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten.unique_dim,
    aten._unique2,
}


def reads(func: Any, args: Any) -> bool:
    """Whether an operator needs a value, or how many of them there are."""
    if func.overloadpacket in READING:
        return True
    picks = func.overloadpacket in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
    return picks and any(index is not None and index.dtype == torch.bool for index in args[1])


class NoWaiting(TorchDispatchMode):
    """Refuses whatever waits for a GPU: reading, picking out by a mask, copies to it and from it that block."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = any(tensor.device.type == "cuda" for tensor in tensors)
        assert not (on_device and reads(func, args)), f"{func} waits for the device"
        result = func(*args, **kwargs)
        if func.overloadpacket in (aten._to_copy, aten.copy_):
            source = args[1] if func.overloadpacket is aten.copy_ else args[0]
            unlike = source.device.type != result.device.type
            blocks = not (kwargs.get("non_blocking") or (func.overloadpacket is aten.copy_ and args[2:] == (True,)))
            assert not (unlike and blocks), f"{func} of {source.device} to {result.device} waits for the device"
        return result


class Waits(NoWaiting):
    """Counts instead of refusing."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return super().__torch_dispatch__(func, types, args, kwargs)
        except AssertionError:
            self.count += 1
            return func(*args, **(kwargs or {}))


class Readers(TorchDispatchMode):
    """Collects the files, of the house and of the libraries that it is built from, that have something read."""

    def __init__(self) -> None:
        super().__init__()
        self.files: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if reads(func, args):
            frames = [frame.filename for frame in traceback.extract_stack()[:-1]]
            self.files.add(next(file for file in reversed(frames) if "/torch/" not in file))
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting() -> Iterator[FakeTensorMode]:
    """Within the block, tensors on "cuda" are fake, and waiting for them is an error."""
    with FakeTensorMode() as mode, NoWaiting():
        yield mode


def fake(mode: FakeTensorMode, content: Any, device: str = "cpu") -> Any:
    """The same content with its tensors fake, on a device."""
    return tree_map_only(Tensor, lambda tensor: mode.from_tensor(tensor).to(device, non_blocking=True), content)


def move_to_gpu(mode: FakeTensorMode, model: nn.Module) -> None:
    """Make all parameters and buffers fake ones on a GPU."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = fake(mode, parameter, "cuda").detach()
                module._parameters[name] = nn.Parameter(moved, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fake(mode, buffer, "cuda")
    if isinstance(model, BaseModel):
        model._set_device(torch.device("cuda"))


def losses_without_waiting(model: BaseModel, batch: dict[str, Any]) -> dict[str, Tensor]:
    """What a training step of mmengine's logs, of a batch as it comes from a loader, on a GPU nobody waits for."""
    model.train()
    with no_waiting() as mode:
        move_to_gpu(mode, model)
        moved = model.data_preprocessor(fake(mode, batch), True)
        assert {leaf.device.type for leaf in tree_leaves(moved) if isinstance(leaf, Tensor)} == {"cuda"}
        _, logged = model.parse_losses(model._run_forward(moved, mode="loss"))
        return dict(logged)


def waits(call: Callable[[], object]) -> bool:
    """Whether a call within `no_waiting` would wait for the GPU."""
    try:
        call()
    except AssertionError as error:
        assert "waits for the device" in str(error)
        return True
    return False
