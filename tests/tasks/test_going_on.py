"""A fine-tuned network as the backbone of the next: its trunk, with its method and data, from all three tasks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import create_backbone
from backbones.errors import InputError
from backbones.images.normalisation import HALF
from backbones.normalising import normalisation_of
from backbones.registry import find_backbone
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.origin import settle_origin
from benchmarks.planning.recipe import load_recipe
from tasks.classification.task import create_classifier
from tasks.detection.task import create_detector
from tasks.segmentation.task import create_segmentor
from tests.support.checkpoint_examples import check_account, randomised
from tests.support.trained_files import leave_weights

CLASSES = ["ant", "bee", "cat"]
BUILDERS: dict[str, Any] = {
    "classification": create_classifier,
    "detection": create_detector,
    "segmentation": create_segmentor,
}


def trained(run: Path, task: str, *changes: str, backbone: str = "mae_vit_mini") -> Any:
    """A network of that task with random weights, which lie in a run's directory too."""
    recipe: Any = load_recipe(f"mini_{task}", [*changes], {task}).recipe
    built, _, _ = BUILDERS[task](recipe, backbone, None, len(CLASSES), 0, HALF, empty=True)
    network = randomised(built.network if task == "classification" else built)
    leave_weights(run, network, recipe, backbone, CLASSES)
    return network


def gone_on(run: Path, backbone: str = "mae_vit_mini", image_size: int | None = None) -> Any:
    model = create_backbone(backbone, run, image_size).eval()
    check_account(model.load_report, run / "weights.safetensors", model)
    return model


def last_map(model: Any, images: Tensor) -> Tensor:
    found: Tensor = model.forward_intermediates(images, indices=[3], intermediates_only=True, norm=False)[0]
    return found


def test_row_and_pixels_are_those_of_the_run(tmp_path: Path) -> None:
    trained(tmp_path, "classification")
    checkpoint, entry = read_checkpoint(tmp_path), find_backbone("mae_vit_mini", True)
    origin = settle_origin(entry, checkpoint)
    assert (origin.method, origin.pretrain_data, origin.model) == ("MAE", "IN1K, then mini w/ labels", "ViT-mini")
    assert normalisation_of(entry, checkpoint) == HALF


@pytest.mark.parametrize("pool", ["avg", "token"])
@torch.no_grad()
def test_a_classifiers_trunk(tmp_path: Path, pool: str) -> None:
    network = trained(tmp_path, "classification", f"model.pool={pool}")
    model = gone_on(tmp_path)
    images = torch.randn(2, 3, 48, 48)
    assert torch.equal(last_map(model, images), last_map(network, images))
    assert ("norm.weight" in model.load_report.initialised) == (pool == "avg")


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("segmentation", ["model.layer_scale=1.0", "model.relative_position=false", "model.image_size=64"]),
        ("segmentation", ["model.layer_scale=1.0", "model.relative_position=true", "model.image_size=64"]),
        ("segmentation", ["model.adapter=simple", "model.image_size=64"]),
        ("detection", ["model.adapter=fpn", "model.image_size=64"]),
        ("detection", ["model.adapter=simple", "model.image_size=64"]),
    ],
)
@torch.no_grad()
def test_a_dense_networks_trunk(tmp_path: Path, task: str, changes: list[str]) -> None:
    """Without its relative positions, and with its layer scale in the layers before."""
    network = trained(tmp_path, task, *changes)
    trunk = network.pyramid.trunk
    for name, parameter in trunk.named_parameters():
        if "attend." in name or "_positions." in name:
            nn.init.zeros_(parameter)
    model = gone_on(tmp_path, image_size=64 if "model.adapter=fpn" not in changes else None)
    report = model.load_report
    has_class_token = changes[0].startswith("model.layer_scale")
    assert ("cls_token" in report.initialised) == (not has_class_token)
    assert {"norm.weight", "norm.bias"} <= report.initialised.keys()
    if has_class_token:
        images = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(last_map(model, images), trunk(images)[-1], rtol=0, atol=1e-4)
        assert report.converted["blocks.0.mlp.fc2.weight"] == "with the layer scale that its task added"
    weights = trunk.state_dict()
    assert torch.equal(model.blocks[2].attn.qkv.weight, weights["blocks.2.attn.attention.qkv.weight"])
    assert torch.equal(model.patch_embed.proj.weight, weights["patch_embed.proj.weight"])


@pytest.mark.parametrize("task", ["detection", "segmentation"])
@pytest.mark.parametrize("backbone", ["test_convnext", "tests.support.small_architectures:beit_of_large_patches"])
@torch.no_grad()
def test_trunks_of_other_kinds(tmp_path: Path, task: str, backbone: str) -> None:
    network = trained(tmp_path, task, "model.adapter=fpn", "model.image_size=64", backbone=backbone)
    model = gone_on(tmp_path, backbone)
    kept = getattr(network.pyramid.trunk, "backbone", network.pyramid.trunk).state_dict()
    same = [name for name, tensor in model.state_dict().items() if name in kept and torch.equal(tensor, kept[name])]
    assert len(same) > 10


@torch.no_grad()
def test_a_dense_task_goes_on_from_a_dense_task(tmp_path: Path) -> None:
    """The same recipe again on it has the same trunk but for what the task adds anew."""
    network = trained(tmp_path / "run", "detection", "model.image_size=64", "model.relative_position=false")
    recipe: Any = load_recipe(
        "mini_detection", ["model.image_size=64", "model.relative_position=false"], {"detection"}
    ).recipe
    again, report, _ = create_detector(recipe, "mae_vit_mini", read_checkpoint(tmp_path / "run"), 5, 0, HALF)
    assert report is not None and "attn.attention" not in str(report.dropped)
    images = torch.randn(1, 3, 64, 64)
    for own, other in zip(network.pyramid.trunk(images), again.eval().pyramid.trunk(images), strict=True):
        assert torch.equal(own, other)


def test_what_is_no_networks_of_ours_is_left_alone(tmp_path: Path) -> None:
    """A class token that is missing from another file is an error, as it was."""
    state = create_backbone("random_vit_mini").state_dict()
    path = tmp_path / "vit.pth"
    torch.save({name: tensor for name, tensor in state.items() if name != "cls_token"}, path)
    with pytest.raises(InputError, match=r"1 of the model's .* tensors are not in the file: cls_token"):
        create_backbone("vit_mini_patch8_48", path)
