"""Is the job's optimizer AdamW as it is written, with each parameter's own rate and decay, and clipped gradients?

Adam: Kingma and Ba 2015, algorithm 1; its weight decay: Loshchilov and Hutter 2019, algorithm 2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from backbones.training.job import make_optimizer
from backbones.training.schedule import ScheduleHook
from benchmarks.planning.recipe import load_recipe
from benchmarks.selftest.exactness import largest, relative
from benchmarks.selftest.full_size import build_step
from benchmarks.selftest.lines import Bench, Found, Line
from tasks.registry import RECIPES

STEPS, DEPTH, MAX_NORM = 8, 4, 30.0
"""Updates, blocks of the models' trunks, and the norm that longer gradients are clipped to: every second one is."""

TOLERANCE = 2e-4
"""Of what all updates have changed in a parameter, relatively: single precision is off by 1e-6 to 2e-5."""

_EPSILON = 1e-8  # PyTorch's and the papers'
_COMMON = (
    "runtime.batch_per_device=2",
    "precision=fp32",
    f"optimizer.clip_grad_norm={MAX_NORM}",
    "optimizer.weight_decay=0.1",
)


@dataclass(frozen=True)
class Case:
    """A recipe with a small model at large rates; single precision rounds less of what they change.

    undecayed: parameters of more than one dimension that do not decay
    """

    recipe: str
    changes: tuple[str, ...]
    undecayed: tuple[str, ...] = ()


CASES = (
    Case("mae_vit_base", ("model.arch=mae_vit_mini_patch8", "model.image_size=48", "optimizer.base_lr=1e-3")),
    Case(
        "imagenet_vit_base",
        ("model.arch=vit_mini_patch8_48", "model.image_size=48", "optimizer.base_lr=1e-2"),
        ("cls_token", "pos_embed"),
    ),
    Case(
        "ade20k_vit_base",
        (
            *("model.arch=vit_mini_patch8_48", "model.image_size=64", "model.taps=[0,1,2,3]", "model.channels=16"),
            *("model.auxiliary_channels=16", "inference.stride=32", "optimizer.lr=4e-2"),
        ),
    ),
)


def compare_updates(case: Case, device: str) -> float:
    """The largest relative error, of all parameters, in what some updates change, beside the formula."""
    recipe: Any = load_recipe(case.recipe, [*_COMMON, *case.changes], RECIPES).recipe
    model, groups = build_step(recipe)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.to(device)
    optimizer = make_optimizer(recipe, groups, "fp32", accumulation=1)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    before = {name: parameter.detach().cpu().double() for name, parameter in trained.items()}
    directions = [_direction(before, norm) for norm in (MAX_NORM / 2, MAX_NORM * 3) * (STEPS // 2)]
    rates = [recipe.optimizer.peak_lr * (step + 1) / STEPS for step in range(STEPS)]
    schedule, runner = ScheduleHook(rates.__getitem__, accumulation=1), SimpleNamespace(optim_wrapper=optimizer)
    for step, direction in enumerate(directions):
        schedule.before_train_iter(runner, step)
        products = [(parameter * direction[name].to(device)).sum() for name, parameter in trained.items()]
        optimizer.update_params(torch.stack(products).sum())  # the gradients are the direction
    layer_decay = getattr(recipe.optimizer, "layer_decay", None) or 1.0  # pre-training has none
    errors = []
    for name, start in before.items():
        scale = layer_decay ** (DEPTH + 1 - _layer(name))
        decays = start.ndim > 1 and not name.endswith(case.undecayed)
        end = _written_out(
            start,
            [direction[name].double() for direction in directions],
            [rate * scale for rate in rates],
            recipe.optimizer.weight_decay if decays else 0.0,
            recipe.optimizer.betas,
        )
        errors.append(relative(trained[name].detach().cpu().double() - start, end - start))
    return largest(errors)


def _direction(like: Mapping[str, Tensor], norm: float) -> dict[str, Tensor]:
    """A gradient for each parameter, of such a norm all together."""
    drawn = {name: torch.randn(each.shape) for name, each in like.items()}
    whole = sum(float(each.double().square().sum()) for each in drawn.values()) ** 0.5
    return {name: each * (norm / whole) for name, each in drawn.items()}


def _layer(name: str) -> int:
    """Embeddings are layer 0, then come the trunk's blocks, and all else is the last (MAE's util/lr_decay.py; BEiT)."""
    if re.search(r"(cls_token|pos_embed|patch_embed\.)", name):
        return 0
    block = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
    return int(block[1]) + 1 if block else DEPTH + 1


def _written_out(
    weight: Tensor, gradients: list[Tensor], rates: list[float], decay: float, betas: tuple[float, float]
) -> Tensor:
    """A parameter after AdamW's updates, in double precision; the gradients are clipped by their whole's known norm."""
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        clipped = gradient / 3 if step % 2 == 0 else gradient
        mean = betas[0] * mean + (1 - betas[0]) * clipped
        square = betas[1] * square + (1 - betas[1]) * clipped**2
        unbiased = mean / (1 - betas[0] ** step), square / (1 - betas[1] ** step)
        weight = weight - rate * decay * weight - rate * unbiased[0] / (unbiased[1].sqrt() + _EPSILON)
    return weight


def updates(bench: Bench) -> Found:
    """All cases, one after the other."""
    errors = {case.recipe: compare_updates(case, bench.device) for case in CASES}
    return Found(
        all(error <= TOLERANCE for error in errors.values()),  # NaN is not
        "the worst parameter's change off by " + ", ".join(f"{error:.1e} ({name})" for name, error in errors.items()),
        f"within {TOLERANCE:g}",
        {f"{name}_largest_relative_error": error for name, error in errors.items()},
    )


UPDATES = (
    Line(
        name="updates",
        what=f"{STEPS} updates of the jobs' AdamW, layer decay and clipping beside the formula in double precision",
        seconds={"cuda": 5.0, "cpu": 10.0},
        run=updates,
    ),
)
