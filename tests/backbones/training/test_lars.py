"""LARS against MAE's, restated from what util/lars.py says."""

import copy

import pytest
import torch
from torch import Tensor, nn

from backbones.training.job import make_optimizer
from backbones.training.settings import EpochSchedule, LarsOptimizer, TrainingRecipe
from tests.support.restated_lars import RestatedLars

LARS = LarsOptimizer(base_lr=0.1, batch_size=512)


class Recipe(TrainingRecipe):
    optimizer: LarsOptimizer
    schedule: EpochSchedule


def recipe(**settings: object) -> Recipe:
    schedule = EpochSchedule(epochs=1, warmup_epochs=0)
    optimizer = LARS.model_copy(update=settings)
    return Recipe(task="any", dataset="any", source="", optimizer=optimizer, schedule=schedule)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 5), nn.Linear(5, 5))
    nn.init.zeros_(layers[-1].weight)  # a norm of 0: learns as with SGD, and then no more
    return layers


def gradients(model: nn.Module, images: Tensor) -> None:
    model.zero_grad()
    model(images).square().sum(1).add(model(images)[:, 0]).mean().backward()


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5, "trust_coefficient": 0.02}], ids=["MAE's", "others"])
def test_it_moves_weights_as_maes_does(settings: dict[str, float]) -> None:
    ours, theirs = network(), network()
    lr = LARS.peak_lr
    optimizer = make_optimizer(recipe(**settings), [{"params": [*ours.parameters()]}], "fp32", accumulation=1)
    reference = RestatedLars([*theirs.parameters()], **settings)
    generator = torch.Generator().manual_seed(1)
    for step in range(30):
        images = torch.randn((6, 3, 4, 4), generator=generator)
        rate = lr * (1 - step / 30)
        for group in optimizer.optimizer.param_groups:
            group["lr"] = rate
        gradients(ours, images)
        gradients(theirs, images)
        if step == 7:  # a gradient of 0 has no direction that could be scaled
            ours[3].weight.grad.zero_()
            theirs[3].weight.grad.zero_()
        optimizer.optimizer.step()
        reference.step(rate)
    for (name, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7, msg=name)
        assert not torch.equal(found, dict(network().named_parameters())[name]), name


def test_biases_are_not_scaled_and_matrices_are() -> None:
    model = nn.Linear(3, 2)
    before = copy.deepcopy(model)
    optimizer = make_optimizer(recipe(), [{"params": [*model.parameters()], "lr_scale": 0.5}], "fp32", accumulation=1)
    assert [group["lr_scale"] for group in optimizer.optimizer.param_groups] == [0.5, 0.5]
    for each in model.parameters():
        each.grad = torch.full_like(each, 100.0)
    optimizer.optimizer.step()
    assert LARS.peak_lr == pytest.approx(0.2)
    torch.testing.assert_close(model.bias, before.bias - 0.2 * 100)
    moved = (model.weight - before.weight).norm() / before.weight.norm()
    assert moved.item() == pytest.approx(0.2 * LARS.trust_coefficient, rel=1e-4)


def test_its_state_goes_on_bit_for_bit() -> None:
    images = torch.randn((6, 3, 4, 4), generator=torch.Generator().manual_seed(1))
    models = [network(), network()]
    optimizers = [make_optimizer(recipe(), [{"params": [*model.parameters()]}], "fp32", 1) for model in models]
    for _ in range(3):
        gradients(models[0], images)
        optimizers[0].optimizer.step()
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for model, optimizer in zip(models, optimizers, strict=True):
        gradients(model, images)
        optimizer.optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(*(model.parameters() for model in models), strict=True))
