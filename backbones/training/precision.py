"""Mixed precision: what the device is fast at, and mmengine's optimizer wrapper for it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn
from torch.optim import Optimizer

from backbones.errors import InputError

Precision = Literal["fp32", "bf16", "fp16"]


def bf16_is_fast(device: str) -> bool:
    """Whether matrix products in bfloat16 run on dedicated units of this device."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def resolve_precision(precision: str, device: str) -> Precision:
    """Turn `auto` into what this device runs. Raises InputError for fp16 without a GPU."""
    if precision == "auto":
        return "bf16" if bf16_is_fast(device) else "fp16" if device == "cuda" else "fp32"
    if precision == "fp16" and device != "cuda":
        raise InputError('precision "fp16" needs a GPU; here use "bf16" or "fp32" (--set precision=fp32)')
    return precision  # type: ignore[return-value]


def autocast(precision: Precision, device: str) -> AbstractContextManager[object]:
    """The context in which the model's forward pass runs."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


class PlainOptimWrapper(OptimWrapper):
    """mmengine's wrapper, which clips gradients without reading their norm: for that the GPU would be waited for."""

    def _clip_grad(self) -> None:
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, **self.clip_grad_kwargs)


class BFloat16OptimWrapper(PlainOptimWrapper):
    """The same under bfloat16 autocast, which needs no loss scaling and runs on CPUs too."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), autocast("bf16", device):
            yield


class Float16OptimWrapper(PlainOptimWrapper, AmpOptimWrapper):
    """The same under float16 autocast; a fused optimizer takes mmengine's scale of the loss without reading it."""


def wrap_optimizer(
    optimizer: Optimizer, precision: Precision, *, accumulation: int, clip_grad_norm: float | None
) -> OptimWrapper:
    """The optimizer with accumulation, gradient clipping and mixed precision around it."""
    clip = None if clip_grad_norm is None else {"max_norm": clip_grad_norm}
    kind = {"fp32": PlainOptimWrapper, "bf16": BFloat16OptimWrapper, "fp16": Float16OptimWrapper}[precision]
    return kind(optimizer=optimizer, accumulative_counts=accumulation, clip_grad=clip)
