"""Does `runtime.compile` give the same losses and gradients, and how much faster?"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.adapters import build_pyramid
from backbones.errors import InputError
from backbones.mae.model import create_mae
from backbones.registry import create_backbone
from backbones.training.compiling import compile_network, require_compiler
from backbones.training.precision import Precision, autocast, resolve_precision
from benchmarks.selftest.full_size import timed
from benchmarks.selftest.lines import Bench, Found, Line, NotRunError

AUTOENCODERS = {"cuda": ("mae_vit_base_patch16", 64), "cpu": ("mae_vit_mini_patch8", 4)}
"""By device, which autoencoder and how many images a step."""

PYRAMID_IMAGES = {"cuda": (8, 256), "cpu": (1, 64)}
"""By device, how many images of how many pixels a side."""

LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2, "fp16": 1e-2}
GRADIENT_FLOOR, TIMES_EAGER = 1e-3, 2.0
"""The compiled gradient may be off single precision's by so much more, in relative norm, than the eager one is."""

STEPS = 10


def compare_compiled(
    network: nn.Module, loss_of: Callable[[], Tensor], device: str, backend: str | Callable[..., Any] = "inductor"
) -> Found:
    """Compile a network as a job does; compare it in the job's precision with itself in single precision.

    loss_of: calls the network on the same images each time
    """
    precision = resolve_precision("auto", device)

    def step(at: Precision = precision) -> Tensor:
        network.zero_grad(set_to_none=True)
        with autocast(at, device):
            loss = loss_of()
        loss.backward()
        return loss.detach()

    exact = (step("fp32").item(), _gradient(network))
    eager = _errors((step().item(), _gradient(network)), exact)
    eager_seconds = timed(device, step, STEPS) / STEPS
    torch.compiler.reset()
    compile_network(network, backend)
    compile_seconds = timed(device, step)
    compiled = _errors((step().item(), _gradient(network)), exact)
    seconds = timed(device, step, STEPS) / STEPS
    torch.compiler.reset()
    largest = TIMES_EAGER * eager[1] + GRADIENT_FLOOR
    measured = (
        f"{precision} loss off by {compiled[0]:.1e} (eager {eager[0]:.1e}), gradient by {compiled[1]:.1e} (eager "
        f"{eager[1]:.1e}); {eager_seconds / seconds:.2f} × as fast as eager, compiled in {compile_seconds:.0f} s"
    )
    expected = f"loss within {LOSS_TOLERANCE[precision]:g}, gradient within {largest:.1e} of fp32's"
    figures: dict[str, float | int | str | bool | None] = {
        "precision": precision,
        "relative_error_of_loss": compiled[0],
        "relative_error_of_gradient": compiled[1],
        "eager_relative_error_of_loss": eager[0],
        "eager_relative_error_of_gradient": eager[1],
        "seconds_per_step": seconds,
        "eager_seconds_per_step": eager_seconds,
        "compile_seconds": compile_seconds,
    }
    return Found(compiled[0] <= LOSS_TOLERANCE[precision] and compiled[1] <= largest, measured, expected, figures)


def _gradient(network: nn.Module) -> Tensor:
    """Of all parameters together, (N,)."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return torch.cat([gradient.flatten() for gradient in gradients])


def _errors(found: tuple[float, Tensor], exact: tuple[float, Tensor]) -> tuple[float, float]:
    """Relative, of loss and gradient."""
    (loss, gradient), (exact_loss, exact_gradient) = found, exact
    off = ((gradient - exact_gradient).norm() / exact_gradient.norm()).item()
    return abs(loss / exact_loss - 1), off


def _require_compiler(device: str) -> None:
    try:
        require_compiler(device)
    except InputError as error:
        raise NotRunError(str(error)) from None


@contextmanager
def compiling_anew(scratch: Path) -> Iterator[None]:
    """Within the block nothing is taken from what was compiled before, and what is compiled lies in `scratch`.

    torch and triton keep it below /tmp and ~ otherwise, where a compiler that has failed since would go unnoticed.
    """
    places = {"TORCHINDUCTOR_CACHE_DIR": scratch / "inductor", "TRITON_CACHE_DIR": scratch / "triton"}
    before = {name: os.environ.get(name) for name in places}
    os.environ |= {name: str(place.absolute()) for name, place in places.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _try_autoencoder(bench: Bench) -> Found:
    _require_compiler(bench.device)
    name, images = AUTOENCODERS[bench.device]
    torch.manual_seed(0)
    with torch.device(bench.device):
        network = create_mae(name).to(bench.device).train()
        pixels = torch.randn(images, 3, *network.patch_embed.img_size)
        noise = torch.rand(images, network.patch_embed.num_patches)
    with compiling_anew(bench.scratch):
        return compare_compiled(network, lambda: network(pixels, 0.75, noise=noise)[0], bench.device)


def _try_pyramid(bench: Bench) -> Found:
    """The one with most to compile: windows, and bias tables whose scores are computed again."""
    _require_compiler(bench.device)
    images, side = PYRAMID_IMAGES[bench.device]
    torch.manual_seed(0)
    with torch.device(bench.device):
        backbone = create_backbone("random_vit_mini", for_pyramid=True)
        pyramid = build_pyramid(backbone, "fpn", image_size=side, window=4).to(bench.device).train()
        pixels = torch.randn(images, 3, side, side)

    def loss() -> Tensor:
        return torch.stack([level.float().square().mean() for level in pyramid(pixels)]).sum()

    with compiling_anew(bench.scratch):
        return compare_compiled(pyramid, loss, bench.device)


COMPILED = (
    Line(
        name="compiled-autoencoder",
        what="a compiled autoencoder's loss and gradient beside single precision, and its speed beside eager's",
        seconds={"cuda": 60.0, "cpu": 90.0},
        run=_try_autoencoder,
    ),
    Line(
        name="compiled-pyramid",
        what="the same of a pyramid with windows and bias tables, ViT-mini",
        seconds={"cuda": 60.0, "cpu": 120.0},
        run=_try_pyramid,
    ),
)
