"""Weights that do not fit the model are refused, and nothing is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from backbones.errors import InputError
from backbones.registry import create_backbone
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.loading import load_weights
from backbones.weights.methods import METHODS
from tests.support.checkpoint_examples import save, vit_mini


def test_missing_surplus_and_misshapen_are_listed(tmp_path: Path) -> None:
    state = vit_mini().state_dict()
    del state["blocks.2.norm1.weight"]
    state |= {"blocks.9.surprise": torch.zeros(1), "norm.bias": torch.zeros(64)}
    model = vit_mini()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_weights(model, read_checkpoint(save(state, tmp_path)), METHODS["MAE"])
    message = str(caught.value)
    assert "1 of the model's 54 tensors are not in the file: blocks.2.norm1.weight" in message
    assert "1 of the file's keys have no place in the model: blocks.9.surprise" in message
    assert "norm.bias (64,) instead of (128,)" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_another_architecture_is_recognised(tmp_path: Path) -> None:
    path = save(timm.create_model("resnet50").state_dict(), tmp_path)
    with pytest.raises(InputError, match="does not fit vit_base_patch16_224") as caught:
        create_backbone("mae_vit_base", path)
    assert "looks like: ResNet-50, 16 blocks, a head for 1000 classes" in str(caught.value)
    assert max(len(line) for line in str(caught.value).splitlines()) < 400


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("resnet50", "resnet18"),
        ("swin_tiny_patch4_window7_224", "mae_vit_mini"),
        ("deit3_small_patch16_224", "resnet18"),
    ],
)
def test_no_odd_part_is_blamed_for_a_whole_file(theirs: str, ours: str, tmp_path: Path) -> None:
    """A part of few tensors differs in few: `FILE::layer4.0` was what did not fit, and looked like nothing known."""
    path = save(timm.create_model(theirs).state_dict(), tmp_path)
    with pytest.raises(InputError, match=r"checkpoint\.pth: does not fit") as caught:
        create_backbone(ours, path)
    assert "no architecture known" not in str(caught.value)


def test_what_no_model_of_timm_fits_is_led_to_a_function_of_ones_own(tmp_path: Path) -> None:
    state = vit_mini().state_dict()
    state["patch_embed.proj.weight"] = torch.zeros(128, 4, 8, 8)
    with pytest.raises(InputError, match=r"or give a function .*in_chans=4.*: docs/backbones\.md\."):
        create_backbone("mae_vit_mini", save(state, tmp_path))


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    state = vit_mini().state_dict()
    state["blocks.1.mlp.fc1.bias"][3] = float("nan")
    with pytest.raises(InputError, match=r"infinite or undefined numbers in blocks.1.mlp.fc1.bias"):
        create_backbone("mae_vit_mini", save(state, tmp_path))


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    state = vit_mini().state_dict()
    state["blocks.0.mlp.fc1.weight"] = (100 * state["blocks.0.mlp.fc1.weight"]).to(dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(InputError, match=rf"blocks\.0\.mlp\.fc1\.weight \({name}\)\. Integers are quantised"):
        create_backbone("mae_vit_mini", save(state, tmp_path))


def test_batch_norms_counters_stay_integers(tmp_path: Path) -> None:
    source = timm.create_model("resnet10t", num_classes=0)
    report = create_backbone("resnet10t", save(source.state_dict(), tmp_path)).load_report
    assert "bn1.num_batches_tracked" in report.used and not report.converted


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.01, 0, torch.qint8), r"quantised tensor.*dequantize\(\)"),
        (lambda tensor: tensor.to_sparse(), r"layout sparse_coo.*to_dense\(\)"),
        (lambda tensor: tensor.to("meta"), r"without numbers.*Load them"),
    ],
)
def test_tensors_of_other_layouts_are_refused(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], told: str
) -> None:
    whole = vit_mini().state_dict()
    odd = {**whole, "blocks.0.mlp.fc1.weight": change(whole["blocks.0.mlp.fc1.weight"])}
    path = save({"model": odd, "other": whole}, tmp_path)
    for each in (path, f"{path}::model"):
        with pytest.raises(InputError, match=rf"{told}.*: blocks\.0\.mlp\.fc1\.weight, 1 in all"):
            create_backbone("mae_vit_mini", each)
    assert create_backbone("mae_vit_mini", f"{path}::other").load_report.part == "other"


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ("blocks.0.attn.qkv.lora_A.default.weight", r"merge_and_unload\(\)"),
        ("blocks.0.attn.qkv.weight_mask", r"prune\.remove"),
        ("blocks.0.attn.qkv.SCB", r"bitsandbytes: dequantize\(\)"),
        ("blocks.0.attn.qkv.parametrizations.weight.original0", r"remove_parametrizations\(\)"),
    ],
)
def test_what_was_left_on_weights_is_said_with_what_to_do(tmp_path: Path, beside: str, told: str) -> None:
    state = vit_mini().state_dict()
    state[beside] = state.pop("blocks.0.attn.qkv.weight")
    with pytest.raises(InputError, match=told):
        create_backbone("mae_vit_mini", save(state, tmp_path))


def test_what_was_left_on_a_head_is_not_what_keeps_a_trunk_from_fitting(tmp_path: Path) -> None:
    """DINO's head has weight norm, which PyTorch names so from 2 on."""
    state = {f"backbone.{name}": tensor for name, tensor in vit_mini().state_dict().items()}
    state |= {f"head.last_layer.parametrizations.weight.original{part}": torch.zeros(8, 16**part) for part in (0, 1)}
    with pytest.raises(InputError, match="does not fit vit_small_patch16_224") as caught:
        create_backbone("dino_vit_small", save({"teacher": state}, tmp_path))
    assert "remove_parametrizations" not in str(caught.value) and "parametrised" not in str(caught.value)
