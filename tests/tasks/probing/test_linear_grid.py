"""Heads that are trained together against PyTorch's own training of each alone."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tasks.probing import linear_grid
from tasks.probing.linear_grid import DEVIATION, Head, Schedule, SideBySide, batches, right, train
from tasks.probing.probes import Seen, Split, probe
from tasks.probing.recipe import LinearGridRecipe
from tests.support.waiting import Waits

CLASSES = 5


@pytest.fixture
def data() -> tuple[dict[str, Tensor], Tensor]:
    rng = torch.Generator().manual_seed(0)
    names = {"last": 8, "last four": 32}
    features = {name: torch.randn((100, channels), generator=rng) for name, channels in names.items()}
    return features, torch.randint(CLASSES, (100,), generator=rng)


def alone(features: Tensor, targets: Tensor, schedule: Schedule, seed: int, rate: float, initial: Tensor) -> nn.Linear:
    layer = nn.Linear(features.shape[1], CLASSES)
    layer.weight.data, layer.bias.data = initial.clone(), torch.zeros(CLASSES)
    optimizer = torch.optim.SGD(layer.parameters(), rate * schedule.batch_size / 256, momentum=0.9, weight_decay=0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.iterations, eta_min=0)
    for batch in batches(len(targets), schedule, seed):
        optimizer.zero_grad()
        nn.functional.cross_entropy(layer(features[batch]), targets[batch]).backward()
        optimizer.step()
        scheduler.step()
    return layer


def test_each_head_is_as_if_trained_alone(data: tuple[dict[str, Tensor], Tensor]) -> None:
    features, targets = data
    schedule, rates = Schedule(iterations=60, batch_size=32), (0.01, 0.3, 4.0)
    heads = train(features, targets, CLASSES, schedule, seed=3, rates=rates)
    assert [(head.features, head.rate) for head in heads] == [(name, rate) for name in features for rate in rates]
    untrained = train(features, targets, CLASSES, schedule, seed=3, rates=[0.0] * 2)
    for place, head in enumerate(heads):
        initial = untrained[place // len(rates) * 2].weight
        expected = alone(features[head.features], targets, schedule, 3, head.rate, initial)
        torch.testing.assert_close(head.weight, expected.weight.data, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(head.bias, expected.bias.data, atol=1e-5, rtol=1e-4)
    assert not torch.equal(heads[0].weight, heads[1].weight)


def test_weights_begin_as_dinov2s_do(data: tuple[dict[str, Tensor], Tensor]) -> None:
    _, targets = data
    (head,) = train({"wide": torch.zeros(100, 4000)}, targets, CLASSES, Schedule(1, 10), seed=0, rates=[0.0])
    assert head.weight.std() == pytest.approx(DEVIATION, rel=0.05) and head.weight.mean().abs() < 1e-3
    assert (head.bias == 0).all()


def test_batches_bring_every_image_once_before_any_again() -> None:
    found = list(batches(10, Schedule(iterations=7, batch_size=3), seed=0))
    assert [len(batch) for batch in found] == [3] * 7
    for epoch in (found[:3], found[3:6]):
        assert len(torch.cat(epoch).unique()) == 9
    assert [len(batch) for batch in batches(2, Schedule(3, 256), seed=0)] == [2] * 3


def test_no_iteration_waits_for_a_gpu() -> None:
    """An epoch does, for its order."""

    def waits(iterations: int) -> int:
        with FakeTensorMode(), Waits() as mode:
            targets = torch.zeros(100, dtype=torch.long, device="cuda")
            features = {"a": torch.zeros(100, 8, device="cuda"), "b": torch.zeros(100, 4, device="cuda")}
            heads = train(features, targets, CLASSES, Schedule(iterations, batch_size=10), 0, rates=[0.1, 1.0])
            assert {head.weight.device.type for head in heads} == {"cuda"}
            return mode.count

    assert waits(1) == waits(10) == waits(20) - 1


def test_the_rate_falls_as_half_a_cosine() -> None:
    schedule = Schedule(iterations=8, batch_size=1)
    assert [schedule.factor(0), schedule.factor(4), schedule.factor(8)] == pytest.approx([1, 0.5, 0])
    assert schedule.factor(2) == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_images_that_heads_name_rightly_are_counted() -> None:
    features = {"a": torch.eye(3)[[0, 1, 2, 2]]}
    knows = Head("a", 1.0, torch.eye(3), torch.zeros(3))
    says_one = Head("a", 1.0, torch.zeros(3, 3), torch.tensor([0.0, 1.0, 0.0]))
    undecided = Head("a", 1.0, torch.zeros(3, 3), torch.zeros(3))
    diverged = Head("a", 1.0, torch.full((3, 3), torch.nan), torch.zeros(3))
    targets = torch.tensor([0, 1, 2, 1])
    assert right([knows, says_one, undecided, diverged], features, targets, block=3).tolist() == [3, 2, 1, -1]


def test_features_side_by_side_are_put_together_for_those_that_are_asked_for() -> None:
    rng = torch.Generator().manual_seed(0)
    views = [[torch.randn((6, channels), generator=rng) for channels in (2, 3)] for _ in range(3)]
    numbers = torch.tensor([0, 2, 5, 1])
    whole = torch.cat([torch.cat(view, 1)[numbers] for view in views])
    together = SideBySide(views, numbers)
    assert together.shape == whole.shape
    asked = torch.tensor([11, 0, 3, 4, 8, 0])
    assert together[asked].equal(whole[asked])


def test_the_grid_holds_no_second_copy_of_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    kinds = {f"{name}{place}": torch.randn((40, 3), generator=rng) for name in ("token", "avg") for place in (1, 2)}
    targets = torch.arange(40) % 2
    recipe = LinearGridRecipe.model_validate(
        {
            "task": "linear_grid",
            "dataset": "mini",
            "source": "a test",
            "model": {"image_size": 8},
            "grid": {"layers": (1, 2), "iterations": 3, "rates": (0.1,)},
        }
    )
    held = {part.data_ptr() for part in kinds.values()}

    def looking(features: dict[str, Any], *about: Any) -> list[Head]:
        parts = [part for each in features.values() for view in each.views for part in view]
        assert {part.data_ptr() for part in parts} <= held
        return train(features, *about)

    monkeypatch.setattr(linear_grid, "train", looking)
    seen = Seen(Split(kinds, targets), Split(kinds, targets), ["a", "b"], seed=0)
    assert probe(recipe, seen).per_image["linear_grid_top1"].shape == (40,)
