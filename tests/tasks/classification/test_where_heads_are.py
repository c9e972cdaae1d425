"""Classifiers that lie elsewhere in a file than is looked first, or have more before their classes than is known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import models

from backbones.errors import InputError
from backbones.weights.checkpoints import read_checkpoint
from benchmarks.planning.evaluations import PlannedEvaluation, plan_evaluation
from tasks.classification.evaluating import load_classifier
from tasks.classification.others import expected
from tasks.classification.others.expected import Published
from tasks.trained import PublishedNetwork, TrainedNetwork
from tests.support.checkpoint_examples import prefixed, save
from tests.support.small_classifiers import CLASSES, MAE, PEERS

BY_NAME = {peer.name: peer for peer in PEERS}
MITE = "vit_mite_patch8_32"


def plan_of(weights: Path | str, backbone: str | None = None) -> PlannedEvaluation:
    return plan_evaluation("mini_classification", Path("images"), Path(weights), overrides=[], backbone=backbone)


def load(weights: Path | str, backbone: str | None = None) -> dict[str, Tensor]:
    """The network's tensors, as it would be evaluated."""
    plan = plan_of(weights, backbone)
    assert isinstance(plan.known, PublishedNetwork) and plan.checkpoint
    trained = TrainedNetwork(plan.backbone, read_checkpoint(plan.checkpoint, part=plan.part), plan.known)
    recipe: Any = plan.recipe
    step, _, _ = load_classifier(recipe, trained, CLASSES, 0, plan.normalisation)
    return step.network.state_dict()


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    return models.resnet18(num_classes=CLASSES).state_dict()


def refused(weights: Path | str, backbone: str | None = None) -> str:
    with pytest.raises(InputError) as refusal:
        load(weights, backbone)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("wrapper", "beside"),
    [("", "classifier.weight"), ("model.", "neck.fc.weight"), ("module.model.", "projector.0.weight")],
)
def test_a_second_head_is_not_left_out(beside: str, wrapper: str, resnet: dict[str, Tensor], tmp_path: Path) -> None:
    state = prefixed(prefixed(resnet, "backbone.") | {beside: torch.ones(CLASSES, CLASSES)}, wrapper)
    weights = save({"state_dict": state}, tmp_path, "two.ckpt")
    part = f"{wrapper}backbone"
    message = refused(weights)
    assert f"has {wrapper}{beside} beside the network" in message and message.endswith(f"name that: FILE::{part}")
    torch.testing.assert_close(load(f"{weights}::{part}"), resnet)


def test_a_neck_of_mmpretrains_is_not_left_out(tmp_path: Path) -> None:
    weights, _ = BY_NAME["mmpretrain, MAE"].write(tmp_path)
    content = torch.load(weights)
    content["state_dict"]["data_preprocessor.mean"] = torch.ones(3)
    load(save(content, tmp_path, weights.name), MITE)
    content["state_dict"]["neck.fc.weight"] = torch.ones(64, 64)
    message = refused(save(content, tmp_path, weights.name), MITE)
    assert "has neck.fc.weight beside the network" in message and message.endswith("by its state_dict()")


def test_a_layer_before_the_head_is_not_left_out(tmp_path: Path) -> None:
    """As timm's ViTs of old had, and its reader leaves out."""
    weights, _ = BY_NAME["facebookresearch/deit"].write(tmp_path)
    state = torch.load(weights)["model"] | {"pre_logits.fc.weight": torch.ones(64, 64)}
    message = refused(save({"model": state}, tmp_path, weights.name), "deit_mite_patch8_32")
    assert "has pre_logits.fc.weight beside the network" in message


def test_a_head_in_an_entry_of_its_own_is_not_left_out(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    weights = save({"backbone": resnet, "classifier": {"weight": torch.ones(8, 8)}}, tmp_path, "two.pth")
    message = refused(weights)
    assert "keeps classifier apart from backbone" in message and message.endswith(f"give {weights}::backbone")
    torch.testing.assert_close(load(f"{weights}::backbone"), resnet)


@pytest.mark.parametrize("prefix", ["net.", "encoder.", "classifier.model.", "_forward_module.model.", "ema_model."])
def test_the_part_that_has_the_head_is_named(prefix: str, resnet: dict[str, Tensor], tmp_path: Path) -> None:
    weights = save({"state_dict": prefixed(resnet, prefix)}, tmp_path, "run.ckpt")
    message = refused(weights)
    part = message.rpartition(". Give that: ")[2]
    assert "is a part of it" in message and part == f"{weights}::state_dict.{prefix.removesuffix('.')}"
    torch.testing.assert_close(load(part), resnet)


@pytest.mark.parametrize("beside", ["loss_fn.weight", "train_acc.tp"])
def test_the_part_that_fits_is_named(beside: str, resnet: dict[str, Tensor], tmp_path: Path) -> None:
    """As of Lightning's checkpoints, which have the loss and the metrics beside `model.`."""
    weights = save({"state_dict": prefixed(resnet, "model.") | {beside: torch.ones(8)}}, tmp_path, "run.ckpt")
    message = refused(weights)
    part = message.rpartition(f"A part of it fits, without {beside}: give ")[2]
    assert "does not fit the network" in message and part == f"{weights}::state_dict.model"
    torch.testing.assert_close(load(part), resnet)


def test_what_lies_beside_the_part_that_has_the_head_is_named(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    weights = save(prefixed(resnet, "net.") | {"neck.0.weight": torch.ones(8, 8)}, tmp_path, "run.ckpt")
    assert f"is a part of it, without neck.0.weight. Give that: {weights}::net" in refused(weights)


def test_all_parts_that_fit_are_named(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    state = prefixed(resnet, "model.") | prefixed(resnet, "ema_model.")
    weights = save({"state_dict": state}, tmp_path, "run.ckpt")
    message = refused(weights)
    assert message.endswith(f"Say which is meant: {weights}::state_dict.model or {weights}::state_dict.ema_model")


def test_a_head_of_several_layers_is_told_as_such(tmp_path: Path) -> None:
    """As MAE's linear probe saves it, behind a batch norm."""
    weights, _ = MAE.write(tmp_path)
    state = torch.load(weights)["model"]
    state |= {f"head.1.{kind}": state.pop(f"head.{kind}") for kind in ("weight", "bias")}
    state["head.0.running_mean"] = torch.ones(64)
    message = refused(save({"model": state}, tmp_path, weights.name), MITE)
    assert "with a head that is none of those known here" in message and "head.0.running_mean" in message
    assert "trunk alone" not in message


def test_a_quantised_head_is_told_as_such(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    """As torch.ao.quantization.quantize_dynamic leaves it."""
    state = {name: tensor for name, tensor in resnet.items() if not name.startswith("fc.")}
    quantised = {"fc.scale": torch.tensor(1.0), "fc._packed_params.dtype": torch.qint8}
    assert "its head is quantised" in refused(save(state | quantised, tmp_path, "quantised.pth"))


def test_a_checkpoint_of_a_run_is_told_as_such(tmp_path: Path, resnet: dict[str, Tensor]) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/recipe.yaml").touch()
    weights = save({"model": resnet}, tmp_path / "run/checkpoints", "iteration_8.pth")
    for backbone in (None, "resnet18"):
        with pytest.raises(InputError, match=r"checkpoint of a run.* Give the run's folder: .*/run$"):
            plan_of(weights, backbone)


@pytest.mark.parametrize("arch", ["wide_resnet50_2", "resnext50_32x4d"])
def test_a_resnet_that_is_known_by_its_bytes_is_what_it_was_published_as(
    arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        shapes = getattr(models, arch)(num_classes=CLASSES).state_dict()
    state = {name: torch.zeros((), dtype=each.dtype).expand(each.shape) for name, each in shapes.items()}
    weights = save(state, tmp_path, "known.pth")
    digest = read_checkpoint(weights).sha256[:8]
    published = Published("torchvision", arch, {}, "", "IMAGENET1K_V1")
    monkeypatch.setitem(expected._BY_DIGEST, digest, published)
    plan = plan_of(weights)
    assert plan.backbone == arch
    assert {name: each.shape for name, each in load(weights).items()} == {n: each.shape for n, each in shapes.items()}


def test_a_distilled_deit_is_told_how_to_be_named(tmp_path: Path) -> None:
    import timm

    with torch.device("meta"):
        shapes = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=CLASSES).state_dict()
    state = {name: torch.zeros(()).expand(each.shape) for name, each in shapes.items()}
    weights = save({"model": state}, tmp_path, "distilled.pth")
    assert "--backbone: deit_tiny_distilled_patch16_224 for DeiT's" in refused(weights)
    load(weights, "deit_tiny_distilled_patch16_224")


def test_a_folder_of_no_size_of_timms_has_a_column_of_its_own(tmp_path: Path) -> None:
    weights, _ = BY_NAME["transformers, averaged ViT as backbench exports it"].write(tmp_path)
    known = plan_of(weights).known
    assert known is not None and known.model == "BEiT 64×2"
