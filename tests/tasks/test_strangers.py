"""Models of others through all tasks: a plain ViT, a ConvNet with one map, a subclass of timm, one of transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.metaformer import MetaFormer
from torch import nn

from backbones.adapters import build_pyramid
from backbones.errors import InputError
from backbones.registry import create_backbone
from benchmarks.commands.network_checks import check_groups, try_network
from tasks.classification.classifier import add_head, parameter_groups, pooling_notes
from tasks.unused import require_all_used
from tests.support import detection_runs, segmentation_runs, strangers
from tests.support.commands import read_record
from tests.support.in_process import refusal_before_training, run, success

POOLFORMER: dict[str, Any] = {"num_classes": 0, "depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
ONE_MAP = {"model__adapter": "simple"}


def backbone(name: str) -> str:
    return f"tests.support.strangers:{name}"


@pytest.mark.parametrize("name", strangers.STRANGERS)
def test_a_stranger_gets_its_number_in_classification(name: str, mini: Path, tmp_path: Path) -> None:
    success(*run(mini, tmp_path, backbone(name)))
    record = read_record(tmp_path)
    assert record["deviations"] and record["metrics"]
    assert any(note.startswith("the classifier sees the mean of its features") for note in record["notes"])


@pytest.mark.parametrize("name", strangers.STRANGERS)
def test_a_stranger_gets_its_number_in_detection(name: str, mini: Path, tmp_path: Path) -> None:
    data = detection_runs.few_scenes(mini / "coco", tmp_path / "few", val=(1, 3))
    short = {"schedule__iterations": 2, **ONE_MAP}
    success(*detection_runs.detection(data, tmp_path / "out", backbone(name), model__window="null", **short))
    _assert_from_one_map(tmp_path / "out", "model.window=None (reference 16)")


@pytest.mark.parametrize("name", strangers.STRANGERS)
def test_a_stranger_gets_its_number_in_segmentation(name: str, mini: Path, tmp_path: Path) -> None:
    data = segmentation_runs.few_scenes(mini / "ade20k", tmp_path / "few", val=(1, 3))
    short = {"schedule__iterations": 2, **ONE_MAP}
    success(*segmentation_runs.segmentation(data, tmp_path / "out", backbone(name), **short))
    _assert_from_one_map(tmp_path / "out", "model.adapter=simple (reference beit)")


def _assert_from_one_map(out: Path, deviation: str) -> None:
    record = read_record(out)
    assert deviation in record["deviations"]
    assert any(note.startswith("the pyramid is made from ") for note in record["notes"])


def test_settings_that_a_stranger_cannot_meet_are_named_with_those_to_use(mini: Path, tmp_path: Path) -> None:
    """All at once, before anything trains."""
    data = detection_runs.few_scenes(mini / "coco", tmp_path / "few", val=(1, 3))
    asked: dict[str, Any] = {"model__relative_position": "true"}
    message = refusal_before_training(*detection_runs.detection(data, tmp_path / "out", backbone("plain_vit"), **asked))
    assert message.startswith("PlainViT gives one map, of stride 8, which these settings are not for")
    assert message.endswith(
        "Use --set model.adapter=simple --set model.window=null --set model.relative_position=false"
    )


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("logits", {}, "which looks like pooled features or logits. Return tokens (B, N, C), a map"),
        ("fixed_size", {"model__image_size": 64}, "takes only images of 48 × 48 pixels, and this recipe's have 64"),
        ("one_map", {"model__pool": "token"}, '"token" needs a token before those of the patches, and OneMap gives'),
        ("unused", {}, "depend on backbone.projector.weight, backbone.projector.bias, which several processes cannot"),
        (
            "without_gradient",
            {},
            "forward_features passes no gradient on: it runs under no_grad or inference_mode, or detaches",
        ),
        (
            "partly_without_gradient",
            {},
            "passes no gradient on to backbone.cls_token, backbone.pos_embed, backbone.patc",
        ),
        ("in_place", {}, "InPlace: forward_features changes the images that it is given, by an operation in place"),
        ("in_place_in_training", {}, "forward_features changes the images that it is given, by an operation in place"),
        ("masked", {}, "mask: torch.Tensor) -> torch.Tensor is called with images alone. Give mask a default."),
        (
            "of_one_block",
            {},
            "blocks.1 of OfOneBlock is blocks.0 once more, and what is in several layers cannot learn",
        ),
        ("drop_path_first", {}, "its function is called as (image_size, drop_path), by position"),
        ("unnumbered", {}, "or use --set optimizer.layer_decay=null"),
        (
            "frozen",
            {},
            "54 of 54 parameter tensors are frozen: cls_token, pos_embed, patches.weight and 51 more. Tasks",
        ),
        ("bare", {}, "Linear lacks forward_features. Give it a method forward_features(images)"),
        (
            "plain_vit",
            {"runtime__activation_checkpointing": "true"},
            "PlainViT has no way to do so (timm's set_grad_checkpointing)",
        ),
    ],
)
def test_what_is_missing_is_named_before_anything_trains(
    name: str, changes: dict[str, Any], expected: str, mini: Path, tmp_path: Path
) -> None:
    assert expected in refusal_before_training(*run(mini, tmp_path, backbone(name), **changes))


def test_what_a_stranger_does_not_use_is_found_and_nothing_else_changes() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.Dropout(0.5)).train()
    network[1].eval()
    state, random = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    require_all_used(network, "mine", 32)
    assert torch.equal(torch.get_rng_state(), random)
    assert [each.training for each in network] == [True, False, True]
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(each.grad is None for each in network.parameters())
    module = create_backbone(backbone("unused"))
    pyramid = build_pyramid(module, "simple", image_size=48, window=None, relative_position=False)
    with pytest.raises(InputError, match=r"mine: its features do not depend on trunk\.backbone\.projector\.weight"):
        require_all_used(pyramid, "mine", 48)


def test_what_does_not_train_of_a_stranger_is_noted() -> None:
    note = "2 of 54 parameter tensors are frozen: patches.weight, patches.bias"
    classifier = add_head(create_backbone(backbone("frozen_stem")), 5, "avg", 48)
    assert pooling_notes(classifier)[1:] == [note.replace("54", "56").replace("patches", "backbone.patches")]
    module = create_backbone(backbone("frozen_stem"))
    pyramid = build_pyramid(module, "simple", image_size=48, window=None, relative_position=False)
    assert pyramid.notes[1:] == [note.replace("patches", "backbone.patches")]
    timms = create_backbone("vit_mini_patch8_48")
    assert build_pyramid(timms, "fpn", image_size=48, window=None, position_embeddings="sincos").notes == []


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_a_stranger_is_pooled_as_timms_models_are(pool: Any) -> None:
    """Its last norm goes after the mean, as in MAE's fine-tuning, where it is the last that happens to tokens."""
    module = strangers.plain_vit(None, 0.0)
    images = torch.randn(2, 3, 48, 48)
    before = module.norm
    classifier = add_head(module, 5, pool, 48).eval()
    tokens = module.forward_features(images)
    if pool == "avg":
        assert isinstance(module.norm, torch.nn.Identity)
        pooled = torch.nn.functional.layer_norm(tokens[:, 1:].mean(1), (strangers.WIDTH,), eps=before.eps)
    else:
        assert module.norm is before
        pooled = tokens[:, 0]
    torch.testing.assert_close(classifier(images), classifier.get_classifier()(pooled))


def test_a_norm_that_is_not_the_last_thing_stays() -> None:
    module = strangers.timm_subclass(None, 0.0)
    classifier = add_head(module, 5, "avg", 48).eval()
    images = torch.randn(2, 3, 48, 48)
    assert isinstance(module.norm, torch.nn.LayerNorm)
    pooled = module.forward_features(images)[:, 1:].mean(1)
    torch.testing.assert_close(classifier(images), classifier.get_classifier()(pooled))


def test_what_timms_models_hold_for_their_own_heads_is_frozen_and_told() -> None:
    """A PoolFormer was refused: the norm of its head is not used where features are pooled here."""
    network = add_head(MetaFormer(**POOLFORMER), 4, "avg", 64)
    require_all_used(network, "poolformer", 64)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"backbone.head.norm.weight", "backbone.head.norm.bias"}
    assert any("are frozen: backbone.head.norm.weight" in note for note in pooling_notes(network))


def test_check_backbone_passes_what_a_run_freezes() -> None:
    network = add_head(MetaFormer(**POOLFORMER), 4, "avg", 64)
    groups = parameter_groups(network, 0.05, 0.75)
    findings = [*try_network("classification", network, torch.randn(4, 3, 64, 64))]
    assert {finding.result for finding in findings} == {"ok"}
    assert "frozen, as this task does without: backbone.head.norm.weight" in findings[0].remark
    assert check_groups("classification", network, groups, network.backbone).result == "ok"


class OwnPoolFormer(MetaFormer):
    """A class of another author."""


def test_a_class_derived_from_timms_is_a_stranger() -> None:
    network = add_head(OwnPoolFormer(**POOLFORMER), 4, "avg", 64)
    with pytest.raises(InputError, match=r"do not depend on backbone\.head\.norm\.weight"):
        require_all_used(network, "mine", 64)
