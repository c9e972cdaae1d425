"""How far a device's numbers are from those of the same model in double precision on the processor.

Double precision, not the processor's own single one, so that each device is measured by its own rounding alone, and the
processor can be measured too.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbones.training.precision import Precision, autocast, bf16_is_fast
from benchmarks.selftest.lines import Found

Gradients = Mapping[str, Tensor]

VANISHING, NEGLIGIBLE = 1e-9, 1e-1
"""Some gradients vanish by construction, such as those of a bias before a batch norm. In double precision they come to
1e-15 of the root mean square of all of a model's, and the smallest others, the detector's, to 1e-3: what is below the
first of these shares vanishes, and what single precision makes of it is measured against the second."""

_FP16_SCALES = tuple(2.0**power for power in range(12, -13, -1))
"""Which a loss scaler would try in turn until no gradient overflows; too small ones vanish in half precision."""


@dataclass(frozen=True)
class Tolerance:
    """How far off a loss, or an output, and its gradients may be, relatively.

    whole: all gradients as one vector
    each:  the worst parameter's gradient by itself: in the whole a small one could be missing
    """

    loss: float
    whole: float
    each: float


@dataclass(frozen=True)
class Error:
    """How far off they are, and which parameter's gradient is the worst."""

    loss: float
    whole: float
    each: float
    worst: str

    def is_within(self, tolerance: Tolerance) -> bool:
        """NaN is not."""
        return self.loss <= tolerance.loss and self.whole <= tolerance.whole and self.each <= tolerance.each


def precisions(device: str) -> tuple[Precision, ...]:
    """Those that jobs can have on a device; bf16 only where a GPU has units for it."""
    if device != "cuda":
        return "fp32", "bf16"
    return ("fp32", "bf16", "fp16") if bf16_is_fast(device) else ("fp32", "fp16")


@contextmanager
def exact_products() -> Iterator[None]:
    """Within the block single precision is single precision: no TF32 in products and convolutions on a GPU."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def in_double(model: nn.Module, entrance: nn.Module) -> nn.Module:
    """The model in double precision, which takes what comes to its `entrance` in single precision all the same."""
    entrance.register_forward_pre_hook(lambda module, inputs: tuple(_doubled(value) for value in inputs))
    return model.double()


def smooth(model: nn.Module) -> nn.Module:
    """The model with GELU for each ReLU and averages for each max-pooling, where rounding decides.

    It says whether the gradient of a value next to none passes, which in a head of convolutions makes 1e-3 of the
    gradients, and which of two nearly equal values has it: one of UPerNet's 196,608 windows that chooses otherwise than
    double precision makes 1e-4 on a CPU, another 3e-4 on an H100. A fault could hide in those.
    """
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.GELU())
            if isinstance(child, nn.MaxPool2d):
                averages = nn.AvgPool2d(
                    child.kernel_size, child.stride, child.padding, child.ceil_mode, count_include_pad=False
                )
                setattr(module, name, averages)
    return model


def _doubled(value: object) -> object:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def relative(found: Tensor, exact: Tensor) -> float:
    """By how much a tensor differs from the exact one, as a share of that."""
    difference = found.detach().double().cpu() - exact.detach().double()
    return float(difference.norm() / exact.detach().double().norm().clamp_min(1e-300))


def largest(values: Iterable[float]) -> float:
    """The largest of them, NaN if one of them is: Python's `max` keeps a NaN only where it comes first."""
    return max(values, key=lambda value: math.inf if math.isnan(value) else value)


def gradients_of(model: nn.Module, loss: Tensor, precision: Precision = "fp32") -> dict[str, Tensor]:
    """The loss's gradient by each parameter that it depends on."""
    names, parameters = zip(*((name, p) for name, p in model.named_parameters() if p.requires_grad), strict=True)
    found = scaled_gradients(loss, parameters, torch.ones_like(loss), precision)
    return {name: one for name, one in zip(names, found, strict=True) if one is not None}


def scaled_gradients(
    output: Tensor, inputs: Sequence[Tensor], direction: Tensor, precision: Precision
) -> list[Tensor | None]:
    """The gradient of output · direction by each input, None where there is none; in fp16 as with a loss scaler."""
    found: Sequence[Tensor | None] = ()
    for scale in _FP16_SCALES if precision == "fp16" else (1.0,):
        found = torch.autograd.grad(output, inputs, direction * scale, retain_graph=True, allow_unused=True)
        if all(one is None or bool(one.isfinite().all()) for one in found):
            return [None if one is None else one / scale for one in found]
    return list(found)


def gradient_error(found: Gradients, exact: Gradients) -> tuple[float, float, str]:
    """The error of all gradients as one vector, the worst parameter's beside its own gradient, and its name."""
    if found.keys() != exact.keys():
        odd = sorted(found.keys() ^ exact.keys())
        raise ValueError(f"gradients of {', '.join(odd)} on one side only")
    squares = {name: float(one.double().square().sum()) for name, one in exact.items()}
    mean_square = sum(squares.values()) / sum(one.numel() for one in exact.values())
    errors = {name: float((found[name].double().cpu() - one.double()).square().sum()) for name, one in exact.items()}
    shares = {}
    for name, one in exact.items():
        whole_square = mean_square * one.numel()
        vanishes = squares[name] < VANISHING**2 * whole_square
        own_square = NEGLIGIBLE**2 * whole_square if vanishes else squares[name]
        shares[name] = (errors[name] / max(own_square, 1e-300)) ** 0.5
    worst = max(shares, key=lambda name: shares[name] if shares[name] == shares[name] else float("inf"))
    return (sum(errors.values()) / max(sum(squares.values()), 1e-300)) ** 0.5, shares[worst], worst


def model_errors(
    model: nn.Module,
    entrance: Callable[[nn.Module], nn.Module],
    loss_of: Callable[[nn.Module, str], Tensor],
    device: str,
) -> dict[Precision, Error]:
    """The errors of a model's loss and gradients on a device, in each precision.

    model:    on the processor, in single precision
    entrance: finds the module of it that floats come to
    loss_of:  computes the loss of a model that is on that device
    """
    double = copy.deepcopy(model)
    exact = loss_of(in_double(double, entrance(double)), "cpu")
    exact_gradients = gradients_of(double, exact)
    on_device = model.to(device)
    errors = {}
    for precision in precisions(device):
        with exact_products(), autocast(precision, device):
            loss = loss_of(on_device, device)
        with exact_products():
            found = gradients_of(on_device, loss, precision)
        errors[precision] = Error(relative(loss, exact), *gradient_error(found, exact_gradients))
    return errors


def judged(errors: Mapping[Precision, Error], tolerances: Mapping[Precision, Tolerance], first: str = "loss") -> Found:
    """The errors of some precisions beside what they may be, in words and figures; `first` is what has no gradient."""
    fine = all(error.is_within(tolerances[precision]) for precision, error in errors.items())
    measured = [
        f"{precision} {first} {error.loss:.1e}, gradients {error.whole:.1e} (worst {error.each:.1e}, {error.worst})"
        for precision, error in errors.items()
    ]
    expected = [
        f"{precision} {tolerance.loss:g}, {tolerance.whole:g} ({tolerance.each:g})"
        for precision in errors
        for tolerance in [tolerances[precision]]
    ]
    figures: dict[str, float | int | str | bool | None] = {}
    for precision, error in errors.items():
        figures |= {
            f"{precision}_{first}_error": error.loss,
            f"{precision}_gradient_error": error.whole,
            f"{precision}_worst_gradient_error": error.each,
            f"{precision}_worst_parameter": error.worst,
        }
    return Found(fine, "; ".join(measured), "at most " + "; ".join(expected), figures)
