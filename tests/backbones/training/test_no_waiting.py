"""Between two lines of the log nothing in a step waits for the GPU, that of pre-training here."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from backbones.images.normalisation import IMAGENET
from backbones.mae.model import create_mae
from backbones.pretraining.steps import MaskedAutoencoderStep
from backbones.training.checkpointing import Tally
from backbones.training.precision import Precision, wrap_optimizer
from backbones.training.progress import ProgressHook
from backbones.training.trackers.tracking import Tracking
from tests.support.trackers import run_in
from tests.support.waiting import fake, losses_without_waiting, no_waiting, waits


def test_what_waits_is_found() -> None:
    with no_waiting() as mode:
        x = fake(mode, torch.ones(2, 3), "cuda")
        assert waits(lambda: float(x.sum()))
        assert waits(lambda: x.tolist())
        assert waits(lambda: x[x > 0])
        assert waits(lambda: x.nonzero())
        assert waits(lambda: x.cpu())
        assert waits(lambda: torch.tensor([1.0, 2.0], device="cuda"))
        assert waits(lambda: fake(mode, torch.ones(2)).to("cuda"))
        assert not waits(lambda: fake(mode, torch.ones(2)).to("cuda", non_blocking=True))
        assert not waits(
            lambda: x.masked_fill(x > 0, 0).sum() + torch.zeros(3, device="cuda")[torch.arange(2, device="cuda")]
        )


def test_a_step_of_pre_training_does_not_wait() -> None:
    step = MaskedAutoencoderStep(create_mae("mae_vit_mini_patch8"), 0.75, IMAGENET)
    images = torch.zeros(4, 3, 48, 48, dtype=torch.uint8)
    losses = losses_without_waiting(step, {"images": images, "corrupt": {"a.jpg": "broken"}})
    assert losses["loss"].device.type == "cuda"


def wrapped(network: nn.Module, precision: Precision, clip: float | None = 1.0) -> OptimWrapper:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    return wrap_optimizer(optimizer, precision, accumulation=1, clip_grad_norm=clip)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neither_does_an_update_with_clipped_gradients(precision: Precision) -> None:
    with no_waiting() as mode:
        network = nn.Linear(3, 2)
        for name, parameter in [*network.named_parameters()]:
            setattr(network, name, nn.Parameter(fake(mode, parameter.detach(), "cuda")))
        wrapper = wrapped(network, precision)
        for _ in range(2):
            for parameter in network.parameters():
                parameter.grad = torch.ones_like(parameter)
            wrapper.step()
            wrapper.zero_grad()


def test_clipping_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    network, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(network.state_dict())
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        one.grad = torch.randn_like(one) * 10
        other.grad = one.grad.clone()
    twin.frozen = nn.Parameter(torch.ones(2))  # without a gradient
    torch.nn.utils.clip_grad_norm_([*network.parameters()], 0.5)
    wrapped(twin, "fp32", clip=0.5)._clip_grad()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(network.parameters(), twin.parameters(), strict=False))


def stepping(hook: ProgressHook, runner: Any, step: int, loss: Tensor) -> None:
    hook.after_train_iter(runner, step, {"corrupt": {}}, {"loss": loss, "decode.loss_ce": loss * 2})


def test_progress_waits_only_for_a_line_of_the_log(tmp_path: Path) -> None:
    tally, tracking = Tally(recent_loss=1.5), Tracking(run_in(tmp_path))
    hook = ProgressHook(tmp_path, title="test", batch_size=2, per_epoch=4, every=3, tally=tally, tracking=tracking)
    runner = SimpleNamespace(iter=0, max_iters=9)
    hook.before_train(runner)
    try:
        with no_waiting() as mode:
            loss = fake(mode, torch.tensor(0.5), "cuda")
            for step in (0, 1):
                stepping(hook, runner, step, loss)
            assert waits(lambda: stepping(hook, runner, 2, loss))
            stepping(hook, runner, 4, loss)  # the first of an epoch
    finally:
        hook.close()
