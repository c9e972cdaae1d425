"""Strict loading of the published layouts into timm's models."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from backbones.errors import InputError
from backbones.mae.model import create_mae
from backbones.registry import create_backbone
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.loading import load_weights
from backbones.weights.methods import METHODS
from tests.support.checkpoint_examples import (
    assert_same_features,
    beit_mini,
    check_account,
    load,
    prefixed,
    randomised,
    renamed,
    save,
    vit_mini,
)


def test_mae_encoder_as_published(tmp_path: Path) -> None:
    source = vit_mini()
    model, report = load(save({"model": source.state_dict()}, tmp_path))
    assert_same_features(model, source)
    assert not report.dropped and not report.initialised and not report.converted


def test_our_pretraining_with_decoder(tmp_path: Path) -> None:
    mae = randomised(create_mae("mae_vit_mini_patch8"))
    path = save({"model": mae.state_dict(), "meta": {"epoch": 3}}, tmp_path)
    model, report = load(path)
    source = vit_mini()
    source.load_state_dict(mae.encoder_state_dict(), strict=True)
    assert_same_features(model, source)
    assert report.dropped["mask_token"] == "stands for hidden patches, only in pre-training"
    assert report.dropped["decoder_blocks.0.attn.qkv.weight"] == "the decoder, only for pre-training"
    assert len(report.dropped) == len(mae.state_dict()) - len(source.state_dict())
    assert report.summary().startswith(f"54 of 54 tensors loaded, {len(report.dropped)} dropped (the decoder, only")


def test_mae_fine_tuned_with_average_pooling(tmp_path: Path) -> None:
    source = vit_mini()
    state = renamed(source.state_dict(), (r"^norm\.", "fc_norm."))
    state |= {"head.weight": torch.randn(10, 128), "head.bias": torch.zeros(10)}
    settings = argparse.Namespace(model="vit_base_patch16", out=Path("runs"), best=np.float64(83.6))
    model, report = load(save({"model": state, "epoch": 99, "args": settings}, tmp_path))
    assert report.dropped["head.weight"] == "the head of the task that it was trained for"
    assert report.dropped["fc_norm.weight"].startswith("normalises the averaged features")
    assert report.initialised.keys() == {"norm.weight", "norm.bias"}
    assert torch.equal(model.norm.weight, torch.ones(128)) and torch.equal(model.norm.bias, torch.zeros(128))
    assert torch.equal(model.blocks[3].mlp.fc2.weight, source.blocks[3].mlp.fc2.weight)


def test_moco_v3_takes_the_base_encoder(tmp_path: Path) -> None:
    base, momentum = vit_mini(), randomised(vit_mini(), seed=7)
    head = {"head.0.weight": torch.randn(16, 128), "head.1.running_mean": torch.zeros(16)}
    state = (
        prefixed(base.state_dict() | head, "module.base_encoder.")
        | prefixed(momentum.state_dict() | head, "module.momentum_encoder.")
        | {"module.predictor.0.weight": torch.randn(16, 16)}
    )
    path = save({"epoch": 300, "arch": "vit_base", "state_dict": state, "optimizer": {}}, tmp_path)
    model = vit_mini()
    report = load_weights(model, read_checkpoint(path), METHODS["MoCo v3"])
    check_account(report, path, model)
    assert_same_features(model, base)
    assert report.dropped["module.momentum_encoder.cls_token"] == "MoCo's momentum encoder, only for pre-training"
    with pytest.raises(InputError, match=r"module\.base_encoder"):
        create_backbone("mae_vit_mini", path)


def test_moco_v3_small_is_refused_by_a_model_with_other_heads(tmp_path: Path) -> None:
    source = timm.create_model("vit_small_patch16_224", num_heads=12, num_classes=0)
    path = save({"state_dict": prefixed(source.state_dict(), "module.base_encoder.")}, tmp_path)
    with pytest.raises(InputError, match="12 attention heads, this model 6"):
        create_backbone("vit_small_patch16_224", path)
    model = create_backbone("mocov3_vit_small", path)
    assert model.blocks[0].attn.num_heads == 12
    assert torch.equal(model.blocks[11].attn.qkv.weight, source.blocks[11].attn.qkv.weight)


def test_beit_pretraining_shares_its_position_biases(tmp_path: Path) -> None:
    source = randomised(beit_mini(use_rel_pos_bias=False, use_shared_rel_pos_bias=True))
    state = source.state_dict() | {
        "rel_pos_bias.relative_position_index": torch.zeros(37, 37, dtype=torch.long),
        "mask_token": torch.zeros(1, 1, 64),
        "lm_head.weight": torch.randn(32, 64),
        "lm_head.bias": torch.zeros(32),
    }
    path = save({"model": state}, tmp_path)
    model = beit_mini().eval()
    report = load_weights(model, read_checkpoint(path), METHODS["BEiT"])
    check_account(report, path, model)
    assert_same_features(model, source, 1e-5)
    assert report.converted["blocks.1.attn.relative_position_bias_table"].startswith("this block's copy")
    assert report.dropped["rel_pos_bias.relative_position_index"] == "computed from the image size"


def test_beit_fine_tuned_with_a_table_in_every_block(tmp_path: Path) -> None:
    source = randomised(beit_mini(global_pool="avg"))
    state = source.state_dict() | {"head.weight": torch.randn(10, 64), "head.bias": torch.zeros(10)}
    state |= {f"blocks.{i}.attn.relative_position_index": torch.zeros(37, 37, dtype=torch.long) for i in range(2)}
    path = save({"model": state, "model_ema": state}, tmp_path)
    model = beit_mini(global_pool="avg").eval()
    check_account(load_weights(model, read_checkpoint(path), METHODS["BEiT"]), path, model)
    assert_same_features(model, source)
    with_norm = beit_mini()
    report = load_weights(with_norm, read_checkpoint(path), METHODS["BEiT"])
    assert report.initialised.keys() == {"norm.weight", "norm.bias"}


def test_supervised_drops_its_head(tmp_path: Path) -> None:
    source = vit_mini()
    state = source.state_dict() | {"head.weight": torch.randn(10, 128), "head.bias": torch.zeros(10)}
    model, report = load(save({"model": state}, tmp_path), "supervised_vit_mini")
    assert_same_features(model, source)
    assert report.dropped.keys() == {"head.weight", "head.bias"}


def test_dino_takes_the_teacher(tmp_path: Path) -> None:
    teacher, student = vit_mini(), randomised(vit_mini(), seed=7)
    head = {"head.mlp.0.weight": torch.randn(8, 128), "head.last_layer.weight_g": torch.ones(8, 1)}
    content = {
        "student": prefixed(student.state_dict() | head, "module.backbone."),
        "teacher": prefixed(teacher.state_dict(), "backbone.") | head,
        "epoch": 100,
    }
    path = save(content, tmp_path)
    model, report = load(path, "vit_mini_patch8_48")
    assert_same_features(model, teacher)
    assert report.dropped["head.last_layer.weight_g"] == "not part of the backbone"
    checkpoint = read_checkpoint(path)
    assert checkpoint.container == "teacher"
    assert checkpoint.extras == {"student": f"dict of {len(student.state_dict()) + 2}", "epoch": "100"}


def test_mmpretrain_names(tmp_path: Path) -> None:
    source = vit_mini()
    state = renamed(
        source.state_dict(),
        (r"^norm\.", "ln1."),
        (r"\.norm([12])\.", r".ln\1."),
        (r"^blocks\.", "layers."),
        (r"mlp\.fc1", "ffn.layers.0.0"),
        (r"mlp\.fc2", "ffn.layers.1"),
        (r"patch_embed\.proj", "patch_embed.projection"),
    )
    beside = {"neck.mask_token": torch.zeros(1, 1, 64), "data_preprocessor.mean": torch.zeros(3)}
    content = prefixed(state, "backbone.") | beside
    model, report = load(save({"meta": {}, "state_dict": content}, tmp_path))
    assert_same_features(model, source)
    assert report.dropped.keys() == {"neck.mask_token", "data_preprocessor.mean"}


@pytest.mark.parametrize("prefixes", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "encoder."])
def test_wrappers_are_taken_off(tmp_path: Path, prefixes: str) -> None:
    source = vit_mini()
    model, _ = load(save(prefixed(source.state_dict(), prefixes), tmp_path))
    assert_same_features(model, source)
