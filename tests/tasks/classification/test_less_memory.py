"""What may be done where memory is short: fewer images a step, which mixup notices, or activations computed again."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import EvoNorm2dB0, EvoNorm2dB1, EvoNorm2dB2, EvoNorm2dS0, FrozenBatchNormAct2d
from torchvision.ops import FrozenBatchNorm2d

from backbones import create_backbone
from backbones.activations import recompute_activations
from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from backbones.training.randomness import seed_generators
from tasks.classification.augmentation import BatchAugmentation
from tasks.classification.classifier import ClassificationStep, add_head
from tasks.classification.recipe import FineTuningAugmentation
from tests.support.commands import checkpoint_tensors, read_record, run_arguments
from tests.support.in_process import call, refusal, success

QUICK = {"schedule__epochs": 1, "schedule__warmup_epochs": 0, "runtime__workers": 0}


@pytest.mark.parametrize("augment", [pytest.param("mixup", marks=pytest.mark.slow), "cutmix"])
def test_few_images_a_draw_are_a_deviation(mini: Path, tmp_path: Path, augment: str) -> None:
    """Thirty-two images a draw, and eight. Without mixing their number is nothing."""
    deviation = "mixup drawn for 8 images (reference 16 to 256)"
    for mixed, per_device, counted in ((True, "null", 32), (True, 8, 8), (False, 8, None)):
        out = tmp_path / f"{mixed}-{per_device}"
        changes = {"runtime__batch_per_device": per_device} | ({f"augment__{augment}": 1.0} if mixed else {})
        success(*run_arguments(mini, out, **QUICK, **changes))
        record = read_record(out)
        assert (record["mixup_images"], record["batch_norm_images"]) == (counted, None)
        assert record["images_per_step"] == (8 if per_device == 8 else 32)
        assert (deviation in record["deviations"]) == (counted == 8)


def test_a_network_with_batch_norm_of_its_own_is_told_of(mini: Path, tmp_path: Path) -> None:
    changes = {"runtime__batch_per_device": 16, "model__image_size": 32, "optimizer__layer_decay": "null"}
    success(*run_arguments(mini, tmp_path, "resnet10t", **QUICK, **changes))
    record = read_record(tmp_path)
    assert record["batch_norm_images"] == 16
    assert "batch norm over 16 images (reference 32)" in record["deviations"]


def test_a_dry_run_says_what_is_decided_at_start(mini: Path, tmp_path: Path) -> None:
    arguments = [*run_arguments(mini, tmp_path, augment__cutmix=1.0), "--dry-run"]
    assert "decided at start: for how many images mixup is drawn (reference 16 to 256)" in call(*arguments).output
    assert "mixup" not in call(*run_arguments(mini, tmp_path), "--dry-run").output


def test_activations_computed_again_give_the_same_weights(mini: Path, tmp_path: Path) -> None:
    weights = []
    for switch in ("false", "true"):
        out = tmp_path / switch
        changes = {"model__drop_path": 0.3, "runtime__activation_checkpointing": switch, "precision": "fp32"}
        success(*run_arguments(mini, out, **QUICK, **changes))
        weights.append(checkpoint_tensors(out))
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize("name", ["random_vit_mini", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_losses_and_gradients_are_those_of_activations_kept(name: str) -> None:
    found: list[Any] = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network: Any = create_backbone(name, image_size=48 if "mini" in name else 64, drop_path=0.3)
        if checkpointing:
            recompute_activations(network)
        add_head(network, 5, "avg")
        augment = FineTuningAugmentation(mixup=0.8, cutmix=1.0, random_erasing=0.5)
        step = ClassificationStep(network, BatchAugmentation(augment, 5, IMAGENET), "fp32")
        side = 48 if "mini" in name else 64
        images = torch.randint(0, 256, (4, 3, side, side), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
        seed_generators(2)
        loss = step.train()(images, torch.arange(4), mode="loss")["loss"]
        loss.backward()
        found.append([loss, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(kept, again) for kept, again in zip(*found, strict=True))


def test_a_network_with_batch_norm_does_not_compute_twice(mini: Path, tmp_path: Path) -> None:
    """Its running statistics would take every batch in twice."""
    changes = {"runtime__activation_checkpointing": "true", "model__image_size": 32}
    message = refusal(*run_arguments(mini, tmp_path, "resnet10t", **QUICK, **changes))
    assert message.startswith('key "runtime.activation_checkpointing": ResNet has batch norm')


class Blocks(torch.nn.Sequential):
    """Layers with timm's way to compute activations again."""

    def set_grad_checkpointing(self, enable: bool) -> None:
        self.enabled = enable


@pytest.mark.parametrize(
    "layer", [EvoNorm2dB0, EvoNorm2dB1, EvoNorm2dB2, partial(torch.nn.InstanceNorm2d, track_running_stats=True)]
)
def test_neither_does_one_with_running_statistics_of_another_kind(layer: Any) -> None:
    norm = layer(8)
    with pytest.raises(InputError, match=rf"Blocks has .* \({type(norm).__name__}\), which would count every"):
        recompute_activations(Blocks(torch.nn.Conv2d(3, 8, 1), norm))


@pytest.mark.parametrize("layer", [EvoNorm2dS0, FrozenBatchNorm2d, FrozenBatchNormAct2d, torch.nn.InstanceNorm2d])
def test_statistics_that_stay_may_be_there(layer: Any) -> None:
    blocks = Blocks(layer(32))
    recompute_activations(blocks)
    assert blocks.enabled


def test_a_network_without_the_means_is_refused() -> None:
    with pytest.raises(InputError, match=r"activation_checkpointing.*Linear has no way to do so"):
        recompute_activations(torch.nn.Linear(2, 2))
