"""The linear probe itself: what of it trains, and that its training is MAE's, restated with PyTorch and timm alone."""

import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.images.crops import horizontal_flip, random_resized_crop
from backbones.images.normalisation import IMAGENET
from backbones.images.reading import read_image
from backbones.registry import create_backbone
from backbones.training.randomness import mix
from backbones.training.sampling import EpochBatchSampler
from benchmarks.planning.recipe import load_recipe
from tasks.data_sets import open_labelled
from tasks.linear_probing.probe import LinearProbe
from tasks.linear_probing.recipe import LinearProbingRecipe
from tasks.linear_probing.samples import CroppedImages
from tasks.linear_probing.task import create_probe, fine_tune
from tests.support.restated_lars import RestatedLars

SIZE, CLASSES = 48, 8
BACKBONES = [("random_vit_mini", "token"), ("random_vit_mini", "avg"), ("resnet18", "avg")]


def recipe(*overrides: str) -> LinearProbingRecipe:
    found = load_recipe(
        "mini_linear_probing", [*overrides, "precision=fp32", "runtime.workers=0"], {"linear_probing"}
    ).recipe
    assert isinstance(found, LinearProbingRecipe)
    return found


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % CLASSES


@pytest.mark.parametrize(("backbone", "pool"), BACKBONES)
def test_only_the_head_trains_and_the_trunk_stays_as_it_is(backbone: str, pool: str) -> None:
    step, report, parameters = create_probe(recipe(f"model.pool={pool}"), backbone, None, CLASSES, 0, IMAGENET)
    probe: Any = step.network
    assert report is None and parameters == sum(each.numel() for each in create_backbone(backbone).parameters())
    assert [name for name, each in probe.named_parameters() if each.requires_grad] == ["head.weight", "head.bias"]
    before = {name: each.clone() for name, each in probe.trunk.state_dict().items()}
    optimizer = torch.optim.SGD(probe.head.parameters(), lr=1.0)
    images, labels = batch()
    losses = []
    for _ in range(3):
        loss = step.train()(images, labels, "loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    assert all(torch.equal(each, before[name]) for name, each in probe.trunk.state_dict().items())
    assert all(each.grad is None for each in probe.trunk.parameters())
    assert not any(module.training for module in probe.trunk.modules()) and probe.norm.training
    assert probe.norm.num_batches_tracked == 3


def test_it_is_linear_in_normalised_features_and_computes_nothing_backwards() -> None:
    probe = LinearProbe(create_backbone("random_vit_mini"), CLASSES, "token", SIZE).eval()
    probe.norm.running_mean, probe.norm.running_var = torch.full((128,), 0.25), torch.full((128,), 4.0)
    images = torch.randn((2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    backbone: Any = probe.trunk.backbone
    with torch.no_grad():
        tokens = backbone.forward_features(images)  # timm's are normalised
    expected = (tokens[:, 0] - 0.25) / math.sqrt(4.0 + 1e-6) @ probe.head.weight.T
    found = probe(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert found.grad_fn is not None and not probe.trunk(images)["token1"].requires_grad


def test_weights_begin_as_maes_do() -> None:
    torch.manual_seed(0)
    probe = LinearProbe(create_backbone("random_vit_mini"), 1000, "token", SIZE)
    assert probe.head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert (probe.head.bias == 0).all()
    assert (probe.norm.eps, probe.norm.momentum, probe.norm.affine) == (1e-6, 0.1, False)


def test_a_backbone_without_a_class_token_is_refused() -> None:
    with pytest.raises(
        InputError, match=r'key "model.pool": "token" needs .* ResNet has none. Use --set model.pool=avg'
    ):
        LinearProbe(create_backbone("resnet18"), CLASSES, "token", SIZE)


def test_images_are_cropped_once_and_flipped(mini: Path) -> None:
    train, _ = open_labelled("mini", mini)
    augment = recipe("augment.crop_scale=[0.9,1.0]").augment
    images = CroppedImages(train.paths, train.labels, SIZE, augment, seed=3)
    several = 0
    for index in range(8):
        rng, image = Random(mix(3, "image", 2, index)), read_image(train.paths[index])
        expected = horizontal_flip(random_resized_crop(image, SIZE, (0.9, 1.0), (3 / 4, 4 / 3), rng, 1), rng, 0.5)
        found = images[index, 2]
        assert torch.equal(found["images"], expected) and found["labels"] == train.labels[index]
        rng = Random(mix(3, "image", 2, index))
        several += not torch.equal(
            found["images"],
            horizontal_flip(random_resized_crop(image, SIZE, (0.9, 1.0), (3 / 4, 4 / 3), rng, 10), rng, 0.5),
        )
    assert several  # a crop of nearly all of a square image seldom fits at the first try


def restated(found: LinearProbingRecipe, data: Path, seed: int) -> nn.Sequential:
    """MAE's training of the head (main_linprobe.py, engine_finetune.py and util/lr_sched.py), on the same images."""
    train, _ = open_labelled("mini", data)
    images = CroppedImages(train.paths, train.labels, SIZE, found.augment, seed)
    step, _, _ = create_probe(found, "random_vit_mini", None, len(train.classes), seed, IMAGENET)
    probe: Any = step.network
    trunk: Any = probe.trunk.backbone.eval()
    head = nn.Sequential(nn.BatchNorm1d(128, affine=False, eps=1e-6), nn.Linear(128, len(train.classes)))
    head[1].load_state_dict(probe.head.state_dict())
    optimizer = RestatedLars([*head[1].parameters()])
    size, epochs, warmup = found.optimizer.batch_size, found.schedule.epochs, found.schedule.warmup_epochs
    peak = found.optimizer.base_lr * size / 256
    batches = iter(EpochBatchSampler(len(images), size, seed=seed))
    per_epoch = len(images) // size
    for epoch in range(epochs):
        for number in range(per_epoch):
            now = epoch + number / per_epoch
            rate = peak * now / warmup
            if now >= warmup:
                rate = peak * 0.5 * (1 + math.cos(math.pi * (now - warmup) / (epochs - warmup)))
            samples = [images[draw] for draw in next(batches)]
            pixels = torch.stack([each["images"] for each in samples]).double() / 255
            mean, std = (torch.tensor(each).double()[:, None, None] for each in (IMAGENET.mean, IMAGENET.std))
            with torch.no_grad():
                tokens = trunk.forward_features(((pixels - mean) / std).float())
            head.zero_grad()
            targets = torch.tensor([each["labels"] for each in samples])
            nn.functional.cross_entropy(head(tokens[:, 0]), targets).backward()
            optimizer.step(rate)
    return head


def test_its_training_is_maes(mini: Path, tmp_path: Path) -> None:
    rates = ("optimizer.base_lr=400", "optimizer.trust_coefficient=0.001")
    found = recipe("schedule.epochs=4", "optimizer.batch_size=16", *rates)
    outcome = fine_tune(found, mini, "random_vit_mini", None, tmp_path, seed=1, normalisation=IMAGENET)
    (path,) = (tmp_path / "checkpoints").glob("iteration_16.pth")
    state = torch.load(path, weights_only=True)["model"]
    head = restated(found, mini, seed=1)
    begin, _, _ = create_probe(found, "random_vit_mini", None, CLASSES, 1, IMAGENET)
    for ours, theirs in (
        ("norm.running_mean", "0.running_mean"),
        ("norm.running_var", "0.running_var"),
        ("head.weight", "1.weight"),
        ("head.bias", "1.bias"),
    ):
        initial = begin.network.state_dict()[ours]
        moved, expected = (each - initial for each in (state[f"network.{ours}"], head.state_dict()[theirs]))
        assert (moved - expected).norm() < 1e-3 * expected.norm(), ours
        assert expected.norm() > 0.1 * initial.norm(), ours
    assert outcome.network is None and "top1" not in outcome.metrics
    assert np.mean(outcome.per_image["linear_probe_top1"]) == pytest.approx(outcome.metrics["linear_probe_top1"])
