"""What a checkpoint is, and where it fits."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision

from backbones.errors import InputError
from backbones.inspection import describe
from backbones.mae.model import create_mae
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.loading import match_weights
from backbones.weights.methods import METHODS
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
    with pytest.raises(InputError, match="named as MAE's; --backbone supervised_vit_mini says supervised"):
        describe(description.checkpoint, "supervised_vit_mini")


def torchvisions(name: str) -> State:
    with torch.device("meta"):
        return torchvision.models.get_model(name).state_dict()


@pytest.mark.parametrize(
    ("theirs", "ours", "is_like"),
    [
        ("vit_b_16", "vit_base_patch16_224", "ViT-base, width 768, 12 blocks"),
        ("swin_t", "swin_tiny_patch4_window7_224", "Swin, width 96, 12 blocks"),
        ("convnext_tiny", "convnext_tiny", "ConvNeXt, width 96, 18 blocks"),
    ],
)
def test_torchvisions_files_fit_timms_models_and_its_own(theirs: str, ours: str, is_like: str) -> None:
    checkpoint = Checkpoint(Path("weights.pth"), "", 0, "torch", "", torchvisions(theirs), {})
    found = recognise(checkpoint.state_dict)
    assert str(found).startswith(is_like) and found.naming == "torchvision" and found.timm_name == ours
    with torch.device("meta"):
        own, timms = torchvision.models.get_model(theirs), timm.create_model(ours, num_classes=0)
    match_weights(timms, checkpoint, METHODS["custom"])
    match_weights(own, checkpoint, METHODS["custom"])


def test_a_resnet_in_a_row_is_told_and_read(tmp_path: Path) -> None:
    """As lightly's examples have it, `nn.Sequential(*list(resnet.children())[:-1])`: it had no names to be known by."""
    row = torch.nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
    state = {f"backbone.{name}": tensor for name, tensor in row.state_dict().items()}
    checkpoint = read_checkpoint(
        save({"state_dict": state | {"projection_head.weight": torch.zeros(8, 512)}}, tmp_path)
    )
    described = str(describe(checkpoint).recognised)
    assert described == "ResNet-18, 8 blocks, named as by the places of its modules in a row"
    torchvisions_own, timms = torchvision.models.resnet18(), timm.create_model("resnet18", num_classes=0)
    torchvisions_own.fc = torch.nn.Identity()
    for model in (torchvisions_own, timms, row):
        _, report = match_weights(model, checkpoint, METHODS["custom"])
        assert len(report.used) == 120 and report.dropped.keys() == {"projection_head.weight"}


def test_torchvisions_swin_v2_is_refused() -> None:
    """Its attention is another than timm's."""
    checkpoint = Checkpoint(Path("weights.pth"), "", 0, "torch", "", torchvisions("swin_v2_t"), {})
    with torch.device("meta"):
        model = timm.create_model("swinv2_tiny_window8_256", num_classes=0)
    with pytest.raises(InputError, match=r"weights\.pth: torchvision's own Swin V2, .*Register torchvision's model"):
        match_weights(model, checkpoint, METHODS["custom"])


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
    vit = torchvisions("vit_b_16")
    assert (
        str(recognise(vit))
        == "ViT-base, width 768, 12 blocks, patch 16, 14×14 grid, a head for 1000 classes, named as by torchvision"
    )
    assert recognise({"nothing": torch.zeros(1)}).family is None
