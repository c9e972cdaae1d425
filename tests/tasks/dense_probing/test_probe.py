"""The head against DINOv2's written out in PyTorch, in training and evaluation, and one update of it by hand."""

import copy
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones import create_backbone
from backbones.frozen_maps import FrozenMaps
from backbones.images.normalisation import IMAGENET
from backbones.training.job import make_optimizer
from benchmarks.planning.recipe import FOLDER, load_recipe
from tasks.dense_probing.probe import DenseProbe, build_probe
from tasks.segmentation.recipe import Inference

SIDE, CLASSES, IGNORED = 32, 7, 255
WINDOWS = Inference(mode="slide", stride=21, resize=(128, 32))


def probe_of(layers: int, inference: Inference = WINDOWS) -> DenseProbe:
    torch.manual_seed(0)
    maps = FrozenMaps(create_backbone("random_vit_mini"), layers, SIDE)
    return build_probe(maps, inference, SIDE, CLASSES, IMAGENET)


class Restated(nn.Module):
    """facebookresearch/dinov2, linear_head.py: `resize_concat`, a batch norm and mmsegmentation's `conv_seg`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)
        self.conv_seg = nn.Conv2d(channels, CLASSES, 1)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        logits = self.conv_seg(self.bn(torch.cat(maps, 1)))
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def restated(probe: DenseProbe) -> Restated:
    other = Restated(sum(probe.maps.widths))
    other.load_state_dict(probe.decode_head.state_dict())
    return other


def batch_of(images: int = 3) -> dict[str, Any]:
    """Crops of which some pixels have no label, the last with padding."""
    rng = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (images, SIDE, SIDE), generator=rng, dtype=torch.uint8)
    labels[0, :5] = IGNORED
    labels[-1, :, 20:] = IGNORED
    return {
        "images": torch.randint(256, (images, 3, SIDE, SIDE), generator=rng, dtype=torch.uint8),
        "labels": labels,
        "heights": torch.full((images,), SIDE),
        "widths": torch.tensor([SIDE] * (images - 1) + [20]),
    }


def seen(batch: dict[str, Any]) -> Tensor:
    """Its images as the backbone sees them."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET.mean, IMAGENET.std))
    images = (batch["images"] / 255 - mean) / std
    images[-1, :, :, 20:] = 0
    return images


@pytest.mark.parametrize("layers", [1, 4])
def test_it_begins_as_mmsegmentations_heads_do(layers: int) -> None:
    head = probe_of(layers).decode_head
    assert {name: tuple(each.shape) for name, each in head.named_parameters()} == {
        "conv_seg.weight": (CLASSES, 128 * layers, 1, 1),
        "conv_seg.bias": (CLASSES,),
        "bn.weight": (128 * layers,),
        "bn.bias": (128 * layers,),
    }
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not head.conv_seg.bias.any() and not head.bn.bias.any() and (head.bn.weight == 1).all()
    assert head.dropout is None


@pytest.mark.parametrize("layers", [1, 4])
def test_training_and_evaluation_are_those_of_dinov2(layers: int) -> None:
    probe, batch = probe_of(layers).train(), batch_of()
    other = restated(probe)
    maps = probe.maps(seen(batch))
    logits = other(maps, (SIDE, SIDE))
    ours = probe(mode="loss", **batch)
    # mmsegmentation's `avg_non_ignore=False`: the mean is over all pixels
    expected = F.cross_entropy(logits, batch["labels"].long(), ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(ours["decode.loss_ce"], expected / batch["labels"].numel())
    assert ours.keys() == {"decode.loss_ce", "decode.acc_seg"}
    for name, value in other.state_dict().items():
        torch.testing.assert_close(probe.decode_head.state_dict()[name], value)
    assert probe.decode_head.bn.running_mean.any()
    probe.eval(), other.eval()
    view = batch["images"][:1]
    torch.testing.assert_close(probe.logits(view, (SIDE, SIDE)), other(probe.maps(seen(batch)[:1]), (SIDE, SIDE)))


def test_windows_overlap_and_their_logits_are_averaged() -> None:
    probe = probe_of(1).eval()
    other = restated(probe).eval()
    torch.manual_seed(2)
    view = torch.randint(256, (1, 3, SIDE, 60), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET.mean, IMAGENET.std))
    image = (view / 255 - mean) / std
    total, count = torch.zeros(1, CLASSES, SIDE, 60), torch.zeros(60)
    for left in (0, 21, 28):
        window = slice(left, left + SIDE)
        total[..., window] += other(probe.maps(image[..., window]), (SIDE, SIDE))
        count[window] += 1
    expected = F.interpolate(total / count, size=(40, 75), mode="bilinear", align_corners=False)
    torch.testing.assert_close(probe.logits(view, (40, 75)), expected)
    assert torch.equal(probe.predict_labels([view], (40, 75)), expected.argmax(1))


def test_an_update_is_adamws_and_changes_the_head_alone() -> None:
    """Decay of all parameters, as in DINOv2's config, then Adam's first step, along each gradient's sign."""
    recipe: Any = load_recipe("ade20k_dense_probing", [], {"dense_probing"}).recipe
    probe, batch = probe_of(4).train(), batch_of()
    before = copy.deepcopy(probe.state_dict())
    groups = [{"params": list(probe.decode_head.parameters())}]
    optimizer = make_optimizer(recipe, groups, "fp32", 1)
    total, _ = probe.parse_losses(probe(mode="loss", **batch))
    total.backward()
    gradients = {name: each.grad.clone() for name, each in probe.decode_head.named_parameters()}
    optimizer.step()
    assert [name for name, each in probe.named_parameters() if each.requires_grad] == [
        f"decode_head.{name}" for name in gradients
    ]
    for name, gradient in gradients.items():
        old = before[f"decode_head.{name}"]
        expected = old * (1 - 1e-3 * 1e-4) - 1e-3 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(probe.decode_head.get_parameter(name).detach(), expected, rtol=1e-5, atol=1e-8)
    for name, value in probe.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, before[name]), name


def test_the_recipe_takes_what_it_says_of_dinov2s_larger_images() -> None:
    """Five scales, of which the notebook keeps the first three (its HEAD_SCALE_COUNT); windows half a side apart."""
    head = (FOLDER / "ade20k_dense_probing.yaml").read_text().split("\ntask:")[0]
    settings = re.findall(r"--set '?([^\s']+)", head.split("notebook takes the first three")[1])
    recipe: Any = load_recipe("ade20k_dense_probing", settings, {"dense_probing"}).recipe
    assert (recipe.features.layers, recipe.model.image_size, recipe.augment.ratio) == (4, 640, (1.0, 3.0))
    assert recipe.augment.resize == recipe.inference.resize == (2560, 640)
    assert recipe.inference.scales == (1.0, 1.32, 1.73, 2.28, 3.0)
    assert recipe.inference.stride == recipe.model.image_size // 2 and recipe.inference.flip
