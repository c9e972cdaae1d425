"""Files that are no segmentor, or not the one that is meant: one message each, and nothing is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.weights.checkpoints import read_checkpoint
from tasks.segmentation.known_classes import require_known_classes
from tests.support.published_segmentors import CLASSES, own_segmentor, planned, restated, trained_of, write_file
from tests.support.restated_segmentors import Variant

MAE, BEIT = "tests.support.mmseg_files:mae", "tests.support.mmseg_files:beit"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return dict(restated().state_dict())


def refused(path: Path, weights: dict[str, Tensor], classes: int = len(CLASSES), backbone: str | None = MAE) -> str:
    file = write_file(path / "segmentor.pth", weights)
    with pytest.raises(InputError) as caught:
        own_segmentor(planned(file, backbone), classes)
    return str(caught.value)


def test_a_renamed_and_a_missing_tensor_are_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    name = "backbone.blocks.1.attn.proj.weight"
    without = {key: tensor for key, tensor in weights.items() if key != name}
    own = "backbone.pyramid.trunk.blocks.1.attn.attention.proj.weight"
    assert own in refused(tmp_path, without)
    renamed = refused(tmp_path, {**without, "backbone.blocks.1.attn.projection.weight": weights[name]})
    assert own in renamed and "backbone.blocks.1.attn.projection.weight" in renamed
    assert "nothing was loaded" in renamed


@pytest.mark.parametrize("name", ["decode_head.conv_seg.weight", "backbone.patch_embed.proj.weight"])
def test_what_the_sizes_are_read_from_has_to_be_there(tmp_path: Path, weights: dict[str, Tensor], name: str) -> None:
    assert name in refused(tmp_path, {key: tensor for key, tensor in weights.items() if key != name})


def test_another_count_of_classes(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    message = refused(tmp_path, weights, classes=5)
    assert "labels 7 classes" in message and "the data have 5" in message
    assert "\n" not in message


def test_a_head_of_another_data_set_of_as_many_classes(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    trained = trained_of(planned(write_file(tmp_path / "segmentor.pth", weights), MAE))
    assert require_known_classes(trained, CLASSES) == []
    with pytest.raises(InputError, match=r"other classes than the data have.*it knows wall, which they lack"):
        require_known_classes(trained, [f"street {name}" for name in CLASSES])
    with pytest.raises(InputError, match="in another order"):
        require_known_classes(trained, CLASSES[::-1])


def test_classes_that_are_spelled_otherwise_are_the_same_and_told(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    """As mmsegmentation's "bed " with a blank, and "television receiver"."""
    many = [f"class {number}" for number in range(10)]
    spelled = ["Class  0 ", *many[1:9], "the last"]
    trained = trained_of(planned(write_file(tmp_path / "segmentor.pth", weights, spelled), MAE))
    assert require_known_classes(trained, many) == [
        "the file spells classes otherwise than the data: the last for class 9"
    ]
    with pytest.raises(InputError, match="other classes"):
        require_known_classes(trained, [many[1], many[0], *many[2:]])
    silent = trained_of(planned(write_file(tmp_path / "segmentor.pth", weights, None), MAE))
    (note,) = require_known_classes(silent, many)
    assert "does not say which classes" in note


def without_norms(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("norm1", "first_norm"): tensor for name, tensor in weights.items()}


OTHERS: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "an encoder": (lambda held: {k: v for k, v in held.items() if k.startswith("backbone.")}, "no decoder"),
    "another decoder": (
        lambda held: {k: v for k, v in held.items() if "lateral" not in k},
        "its decoder is no UPerNet",
    ),
    "another trunk": (without_norms, "no plain ViT by their names"),
    "a final norm": (lambda held: held | {"backbone.norm.weight": torch.ones(32)}, "a norm behind the last block"),
    "no positions": (
        lambda held: {k: v for k, v in held.items() if "relative" not in k and "pos_embed" not in k},
        "neither position embeddings nor relative positions",
    ),
    "positions of two sizes": (
        lambda held: held | {"backbone.pos_embed": torch.zeros(1, 26, 32)},
        "is made for no square image, or for another",
    ),
    "positions of no square": (
        lambda held: held | {"backbone.pos_embed": torch.zeros(1, 16, 32)},
        "is made for no square image",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_refused_for_what_they_are(tmp_path: Path, weights: dict[str, Tensor], name: str) -> None:
    change, why = OTHERS[name]
    message = refused(tmp_path, change(weights))
    assert why in message
    assert "\n" not in message


def test_the_size_without_a_name_asks_for_one(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    message = refused(tmp_path, weights, backbone=None)
    assert "4 blocks of 32 channels and patches of 16 pixels" in message and "--backbone NAME" in message


def test_another_trunk_than_the_file_has(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    assert "attn.qkv.bias" in refused(tmp_path, weights, backbone=BEIT)
    beits = dict(restated(Variant(key_bias=False, positions=False)).state_dict())
    assert "attn.q_bias" in refused(tmp_path, beits, backbone=MAE)


def test_numbers_that_are_none(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    name = "decode_head.bottleneck.bn.running_var"
    assert name in refused(tmp_path, weights | {name: weights[name] * torch.nan})


def test_a_truncated_file(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    file = write_file(tmp_path / "segmentor.pth", weights)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=r"segmentor\.pth") as caught:
        read_checkpoint(file)
    assert "truncated" in str(caught.value) or "copy it again" in str(caught.value)


def test_a_distributed_wrapper_is_taken_off(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    file = write_file(tmp_path / "segmentor.pth", {f"module.{name}": tensor for name, tensor in weights.items()})
    ours: Any = own_segmentor(planned(file, MAE), len(CLASSES))
    assert torch.equal(ours.decode_head.conv_seg.weight, weights["decode_head.conv_seg.weight"])
