"""What a checkpoint is, and where it fits."""

from pathlib import Path

import pytest
import timm
import torch

from backbones.errors import InputError
from backbones.inspection import describe
from backbones.mae.model import create_mae
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.recognition import recognise
from tests.support.checkpoint_examples import State, save


def test_inspection_says_what_it_is_and_where_it_fits(tmp_path: Path) -> None:
    mae = create_mae("mae_vit_mini_patch8")
    description = describe(read_checkpoint(save({"model": mae.state_dict()}, tmp_path)), "mae_vit_mini")
    found = description.recognised
    assert (found.method, found.family, found.width, found.depth) == ("MAE", "ViT", 128, 4)
    assert (found.patch, found.grid, found.image_size, found.has_decoder) == (8, (6, 6), 48, True)
    assert description.fits == ("mae_vit_mini", "vit_mini_patch8_48")
    assert description.report is not None and len(description.report.used) == 54
    with pytest.raises(InputError, match="does not fit"):
        describe(description.checkpoint, "supervised_vit_mini")


def test_recognition_of_other_families() -> None:
    def state(name: str) -> State:
        with torch.device("meta"):
            return timm.create_model(name).state_dict()

    assert str(recognise(state("resnet18"))).startswith("ResNet-18, 8 blocks")
    assert str(recognise(state("swin_tiny_patch4_window7_224"))).startswith("Swin, width 96, 12 blocks")
    assert str(recognise(state("convnext_tiny"))).startswith("ConvNeXt, width 96, 18 blocks, a head for 1000 classes")
    assert recognise(state("vit_large_patch16_384")).timm_name == "vit_large_patch16_224"
    assert recognise(state("vit_large_patch16_384")).image_size == 384
    beit = recognise(state("beit_base_patch16_224"))
    assert (beit.method, beit.family, beit.grid) == ("BEiT", "BEiT", (14, 14))
    assert recognise({"nothing": torch.zeros(1)}).family is None
