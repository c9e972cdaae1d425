"""Fine-tuning for classification: heads, the batch's augmentation, evaluation images that are broken."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from timm.models.beit import Beit
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.images.crops import evaluation_crop
from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from backbones.images.reading import read_image
from backbones.images.views import View
from backbones.registry import create_backbone
from benchmarks.running.cells import run_task
from tasks.classification.augmentation import BatchAugmentation, check_even_batches
from tasks.classification.classifier import ClassificationStep, add_head, parameter_groups
from tasks.classification.recipe import FineTuningAugmentation
from tasks.classification.samples import rand_augment

CLASSES = 7
NOTHING = {"mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0, "random_erasing": 0.0, "rand_augment": None}


def augmentation(**settings: Any) -> FineTuningAugmentation:
    return FineTuningAugmentation(**(NOTHING | settings))


def classifier(name: str = "random_vit_mini", pool: Any = "avg", size: int = 48) -> nn.Module:
    torch.manual_seed(0)
    return add_head(small_beit(pool) if name == "beit" else create_backbone(name, image_size=size), CLASSES, pool)


def small_beit(pool: str) -> nn.Module:
    """BEiT as timm has it, smaller than any of timm's; relative positions, layer scale."""
    return Beit(
        img_size=48,
        patch_size=16,
        embed_dim=64,
        depth=2,
        num_heads=2,
        num_classes=0,
        init_values=0.1,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        global_pool=pool,
    )


def batch(count: int = 4, size: int = 48) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % CLASSES


@pytest.mark.parametrize(
    "name, pool, size",
    [
        ("random_vit_mini", "avg", 48),
        ("random_vit_mini", "token", 48),
        ("vit_tiny_patch16_224", "avg", 32),
        ("beit", "avg", 48),
        ("beit", "token", 48),
        ("resnet10t", "avg", 64),
        ("convnext_atto", "avg", 64),
        ("swin_tiny_patch4_window7_224", "avg", 64),
    ],
)
def test_every_kind_of_backbone_learns(name: str, pool: Any, size: int) -> None:
    network = classifier(name, pool, size)
    step = ClassificationStep(
        network, BatchAugmentation(augmentation(mixup=0.8, cutmix=1.0), CLASSES, IMAGENET), "fp32"
    )
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.05, 0.75), lr=1e-3)
    images, labels = batch(4, size)
    loss = step.train_step({"images": images, "labels": labels, "corrupt": {}}, OptimWrapper(optimizer))["loss"]
    assert loss.item() == pytest.approx(np.log(CLASSES), abs=0.05)
    assert [key for key, parameter in network.named_parameters() if parameter not in optimizer.state] == []


def test_average_pooling_is_that_of_mae() -> None:
    """Patch tokens after the last block, averaged, then normalised: no norm before, no class token within."""
    network: Any = classifier().eval()
    nn.init.normal_(network.head.weight)
    nn.init.normal_(network.fc_norm.weight)
    inputs = normalise(batch()[0], IMAGENET)
    tokens = network.patch_embed(inputs)
    tokens = torch.cat([network.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + network.pos_embed
    for block in network.blocks:
        tokens = block(tokens)
    pooled = tokens[:, 1:].mean(1)
    centred = pooled - pooled.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    expected = (normed * network.fc_norm.weight + network.fc_norm.bias) @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(inputs), expected, rtol=1e-4, atol=1e-4)


def test_token_pooling_takes_the_normalised_class_token() -> None:
    network: Any = classifier(pool="token").eval()
    inputs = normalise(batch()[0], IMAGENET)
    expected = network.head(network.forward_features(inputs)[:, 0])
    torch.testing.assert_close(network(inputs), expected)
    assert isinstance(network.norm, nn.LayerNorm)


def test_the_head_starts_almost_at_zero() -> None:
    network: Any = add_head(create_backbone("random_vit_mini"), 1000, "avg")
    assert network.head.weight.shape == (1000, 128)
    assert network.head.weight.std().item() == pytest.approx(2e-5, rel=0.02)
    assert network.head.bias.abs().max() == 0


def test_the_norm_after_averaging_is_fresh() -> None:
    backbone: Any = create_backbone("random_vit_mini")
    nn.init.constant_(backbone.norm.weight, 3.0)
    network: Any = add_head(backbone, CLASSES, "avg")
    assert torch.equal(network.fc_norm.weight, torch.ones(128))
    assert network.fc_norm.eps == 1e-6
    assert isinstance(network.norm, nn.Identity)


def test_token_pooling_needs_a_token() -> None:
    with pytest.raises(InputError, match='"token" needs a backbone with a class token'):
        add_head(create_backbone("resnet10t"), CLASSES, "token")


def test_prediction_draws_nothing_and_leaves_the_weights() -> None:
    step = ClassificationStep(
        classifier(), BatchAugmentation(augmentation(mixup=0.8), CLASSES, IMAGENET), "fp32"
    ).eval()
    nn.init.normal_(step.network.head.weight)
    images, labels = batch(6)
    (first,), (second,) = (step(images=images, labels=labels, mode="predict") for _ in range(2))
    logits = step.network(normalise(images, IMAGENET))
    assert torch.equal(first["loss"], second["loss"])
    torch.testing.assert_close(first["loss"], torch.nn.CrossEntropyLoss(reduction="none")(logits, labels))
    assert torch.equal(first["predictions"], logits.argmax(1))
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert torch.equal(first["top1"], ranks < 1)
    assert torch.equal(first["top5"], ranks < 5)


def test_two_classes_have_no_top_5_to_miss() -> None:
    network = add_head(create_backbone("random_vit_mini"), 2, "avg")
    step = ClassificationStep(network, BatchAugmentation(augmentation(), 2, IMAGENET), "fp32").eval()
    assert step.predict(batch()[0], torch.tensor([0, 1, 0, 1]))["top5"].all()


@pytest.mark.parametrize("mixup, cutmix, smoothing", [(0.8, 1.0, 0.1), (0.8, 0.0, 0.0), (0.0, 1.0, 0.1), (0, 0, 0.1)])
def test_targets_sum_to_one(mixup: float, cutmix: float, smoothing: float) -> None:
    augment = BatchAugmentation(
        augmentation(mixup=float(mixup), cutmix=float(cutmix), label_smoothing=smoothing), CLASSES, IMAGENET
    )
    np.random.seed(0)
    for _ in range(5):
        inputs, targets = augment(*batch(6))
        assert inputs.dtype == targets.dtype == torch.float32
        assert targets.shape == (6, CLASSES)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        assert targets.min() >= smoothing / CLASSES - 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_alone_is_that_of_torch(smoothing: float) -> None:
    step = ClassificationStep(
        classifier(), BatchAugmentation(augmentation(label_smoothing=smoothing), CLASSES, IMAGENET), "fp32"
    ).eval()
    nn.init.normal_(step.network.head.weight)
    images, labels = batch(6)
    loss = step(images=images, labels=labels, mode="loss")["loss"]
    expected = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(step.network(normalise(images, IMAGENET)), labels)
    torch.testing.assert_close(loss, expected)


def test_mixup_mixes_images_as_it_mixes_targets() -> None:
    """With one share for the whole batch, image i is mixed with image B - 1 - i (timm)."""
    augment = BatchAugmentation(augmentation(mixup=0.8), CLASSES, IMAGENET)
    images, labels = batch(4)
    np.random.seed(3)
    inputs, targets = augment(images, labels)
    share = float(targets[0, labels[0]])
    assert 0 < share < 1
    plain = normalise(images, IMAGENET)
    torch.testing.assert_close(inputs, share * plain + (1 - share) * plain.flip(0), rtol=1e-4, atol=1e-4)
    expected = share * F.one_hot(labels, CLASSES) + (1 - share) * F.one_hot(labels.flip(0), CLASSES)
    torch.testing.assert_close(targets, expected)


def test_random_erasing_fills_one_rectangle_with_noise() -> None:
    images = torch.zeros(8, 3, 48, 48, dtype=torch.uint8)
    torch.manual_seed(0)
    inputs, _ = BatchAugmentation(augmentation(random_erasing=1.0), CLASSES, IMAGENET)(
        images, torch.zeros(8, dtype=torch.long)
    )
    changed = (inputs != normalise(images, IMAGENET)).any(1)
    shares = changed.flatten(1).float().mean(1)
    assert (shares > 0.01).all() and (shares < 0.4).all()
    for one in changed:
        rows, columns = one.any(1).nonzero().flatten(), one.any(0).nonzero().flatten()
        assert one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_without_augmentation_nothing_happens() -> None:
    images, labels = batch(3)
    inputs, targets = BatchAugmentation(augmentation(), CLASSES, IMAGENET)(images, labels)
    assert torch.equal(inputs, normalise(images, IMAGENET))
    assert torch.equal(targets, F.one_hot(labels, CLASSES).float())


def test_mixup_of_an_odd_batch_is_refused_before_training() -> None:
    with pytest.raises(InputError, match=r"an even number of them, not 7.*augment.mixup=0 augment.cutmix=0"):
        check_even_batches(True, 7)
    check_even_batches(False, 7)
    check_even_batches(True, 8)


def test_an_unknown_rand_augment_is_refused() -> None:
    with pytest.raises(InputError, match=r'key "augment.rand_augment": timm cannot read "nonsense-m9"'):
        rand_augment("nonsense-m9", 224, IMAGENET)


SHORT = ["optimizer.batch_size=16", "schedule.epochs=1", "schedule.warmup_epochs=0", "runtime.workers=0"]
ALLOWED = [*SHORT, "evaluation.allow_unreadable=true"]


@pytest.fixture
def data(mini: Path, tmp_path: Path) -> Path:
    """A copy of the mini images that may be damaged."""
    for split in ("train", "val"):
        shutil.copytree(mini / split, tmp_path / "data" / split)
    return tmp_path / "data"


def damage_middle(path: Path) -> None:
    """Break a file where only decoding it finds out."""
    content = path.read_bytes()
    start = len(content) // 3
    path.write_bytes(content[:start] + b"\xff\xd8\xff\xc4\x00\x02" * 40 + content[start + 240 :])


def test_a_broken_evaluation_image_is_found_before_training(data: Path, tmp_path: Path) -> None:
    victim = sorted((data / "val").glob("*/*"))[3]
    victim.write_bytes(victim.read_bytes()[:-50])
    with pytest.raises(InputError) as caught:
        run_task("mini_classification", data, "random_vit_mini", tmp_path / "out", seed=0, overrides=SHORT)
    assert str(victim) in str(caught.value)
    assert "--set evaluation.allow_unreadable=true" in str(caught.value)
    assert not list(tmp_path.glob("out/**/*.pth"))

    record = run_task("mini_classification", data, "random_vit_mini", tmp_path / "out", seed=0, overrides=ALLOWED)
    assert {metric.n_eval for metric in record.record.metrics} == {79}
    assert len(record.record.corrupt_images) == 1
    assert record.record.corrupt_images[0].startswith(str(victim))


def test_the_crop_ratio_decides_what_is_evaluated(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []

    def read(view: View, path: Path) -> Tensor:
        seen.append(view.ratio)
        return evaluation_crop(read_image(path), view.size, view.ratio)

    monkeypatch.setattr(View, "read", read)
    cells = [
        run_task(
            "mini_classification",
            data,
            "random_vit_mini",
            tmp_path,
            seed=0,
            overrides=[*SHORT, f"inference.crop_ratio={ratio}"],
        )
        for ratio in ("null", "0.5")
    ]
    assert seen == [None] * 80 + [0.5] * 80
    assert [cell.record.protocol.get("inference.crop_ratio") for cell in cells] == [None, "0.5"]
    assert cells[0].record.key != cells[1].record.key
    assert "inference.crop_ratio=0.5 (reference None)" in cells[1].record.deviations
    losses = [next(metric.value for metric in cell.record.metrics if metric.name == "loss") for cell in cells]
    assert losses[0] != losses[1]


def test_damage_found_at_the_end_does_not_cost_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = sorted((data / "val").glob("*/*"))[5]
    damage_middle(victim)
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"unreadable evaluation image.*what is trained is kept") as caught:
        run_task("mini_classification", data, "random_vit_mini", out, seed=0, overrides=SHORT)
    assert str(victim) in str(caught.value)
    (checkpoint,) = out.glob("**/iteration_4.pth")
    trained = checkpoint.stat().st_mtime_ns

    cell = run_task("mini_classification", data, "random_vit_mini", out, seed=0, overrides=ALLOWED)
    assert cell.directory == checkpoint.parents[1]
    assert checkpoint.stat().st_mtime_ns == trained
    assert json.loads((cell.directory / "record.json").read_text())["metrics"][0]["n_eval"] == 79
