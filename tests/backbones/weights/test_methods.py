"""The methods that are known by name: data, normalisation, backbones, and what contradicts them."""

from pathlib import Path

import pytest
import timm
import torch

from backbones import InputError, find_backbone, list_backbones, normalisation_of
from backbones.images.normalisation import HALF, IMAGENET
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.loading import load_weights
from backbones.weights.methods import CLIPS, METHODS, Method, spell_method
from backbones.weights.origin import Declared, Origin, settle_origin
from tests.support.checkpoint_examples import State, beit_mini, vit_mini
from tests.support.position_examples import learned, mae, moco

BY_NAME = {
    "DINO": ("IN1K", IMAGENET, "dino_vit_base"),
    "iBOT": ("IN1K", IMAGENET, "ibot_vit_large"),
    "DINOv2": ("LVD-142M", IMAGENET, "dinov2_vit_base_reg"),
    "MSN": ("IN1K", IMAGENET, "msn_vit_small"),
    "data2vec": ("IN1K", IMAGENET, "data2vec_vit_large"),
    "I-JEPA": ("IN1K", IMAGENET, "ijepa_vit_huge"),
    "SimMIM": ("IN1K", IMAGENET, "simmim_vit_base"),
    "CLIP": ("WIT", CLIPS, "clip_vit_large"),
}


def in_file(state: State, **extras: str) -> Checkpoint:
    return Checkpoint(Path("weights.pth"), "0" * 64, 1, "torch", "model", state, extras)


def settle(backbone: str, checkpoint: Checkpoint, **declared: str) -> Origin:
    return settle_origin(find_backbone(backbone, with_checkpoint=True), checkpoint, Declared(**declared))


def bare(arch: str, **options: object) -> State:
    """Names and shapes of timm's model, no values."""
    with torch.device("meta"):
        return timm.create_model(arch, num_classes=0, **options).state_dict()


@pytest.mark.parametrize("method", BY_NAME)
def test_a_method_has_data_normalisation_and_backbones(method: str) -> None:
    data, pixels, name = BY_NAME[method]
    entry = find_backbone(name)
    assert (entry.method, entry.pretrain_data, normalisation_of(entry)) == (method, data, pixels)
    assert METHODS[method] == Method(method, data, entry.steps, pixels)
    own = normalisation_of(find_backbone("vit_base_patch16_224"), declared=Declared(method.lower()))
    assert own == pixels
    assert spell_method(method.upper().replace("-", "_")) == method


def test_clips_normalisation_is_timms() -> None:
    config = timm.get_pretrained_cfg("vit_base_patch16_clip_224.openai")
    assert (config.mean, config.std) == (CLIPS.mean, CLIPS.std)


def test_what_was_trained_on_other_data_says_so() -> None:
    other = {entry.name: entry.pretrain_data for entry in list_backbones() if "in22k" in entry.name}
    assert set(other.values()) == {"IN22K"} and len(other) == 4


@pytest.mark.parametrize(
    ("name", "arch", "options"),
    [
        ("dino_vit_small_patch8", "vit_small_patch8_224", {}),
        ("dinov2_vit_small_reg", "vit_small_patch14_reg4_dinov2", {}),
        ("data2vec_vit_base", "beit_base_patch16_224", {"global_pool": "token"}),
        ("ijepa_vit_huge", "vit_huge_patch14_gap_224", {}),
        ("clip_vit_base_patch32", "vit_base_patch32_clip_quickgelu_224", {}),
    ],
)
def test_timms_own_weights_of_a_method_land_whole(name: str, arch: str, options: dict[str, object]) -> None:
    state, entry = bare(arch, **options), find_backbone(name)
    with torch.device("meta"):
        model = entry.build(None, 0.0)
    report = load_weights(model, in_file(state), METHODS[entry.method])
    assert report.used.keys() == state.keys() and not report.dropped and not report.initialised


def test_every_registered_backbone_can_be_built() -> None:
    for entry in list_backbones():
        if not entry.name.endswith(("_giant", "_giant_reg", "_giant_in22k")):
            with torch.device("meta"):
                assert entry.build(None, 0.1) is not None


# What a file says of itself, against the name that it is loaded under


SAID = {"method": "iBOT", "pretrain_data": "photos"}


@pytest.mark.parametrize("name", ["mae_vit_mini", "supervised_vit_mini", "vit_mini_patch8_48", "timm:create_model"])
@pytest.mark.parametrize("declared", [None, "iBOT", "DINO"])
def test_a_files_word_by_the_name_and_the_flag(name: str, declared: str | None) -> None:
    """A name that claims a method is contradicted unless it is insisted; names that claim nothing take the file's."""
    checkpoint = in_file(vit_mini().state_dict() | {"pos_embed": learned(6, 6, 128)}, **SAID)
    flags = {"method": declared} if declared else {}
    if declared is None and name.startswith(("mae", "supervised")):
        with pytest.raises(InputError, match=r"says of itself: iBOT on photos; --backbone .* says (MAE|supervised)"):
            settle(name, checkpoint)
        return
    origin = settle(name, checkpoint, **flags)
    assert (origin.method, origin.pretrain_data) == (declared or "iBOT", "photos")
    assert origin.said_by["method"] == ("declared" if declared else "file")
    assert any("iBOT on photos; DINO as declared" in remark for remark in origin.remarks) == (declared == "DINO")


@pytest.mark.parametrize(
    ("arch", "column"),
    [("vit_mini_patch8_48", "vit_mini_patch8_48"), (None, "timm:create_model")],
)
def test_ones_own_code_stands_in_the_column_that_the_file_says(arch: str | None, column: str) -> None:
    said = SAID | ({"arch": arch} if arch else {})
    origin = settle("timm:create_model", in_file(vit_mini().state_dict(), **said))
    assert (origin.method, origin.model) == ("iBOT", column)
    assert settle("mae_vit_mini", in_file(vit_mini().state_dict(), method="MAE", model="ViT-X")).model == "ViT-mini"
    assert settle("timm:create_model", in_file({}, **said), model="ViT-B").model == "ViT-B"


@pytest.mark.parametrize(
    ("name", "method", "data"),
    [
        ("vit_base_patch16_224.mae", "MAE", "IN1K"),
        ("vit_base_patch16_224.dino", "DINO", "IN1K"),
        ("vit_base_patch16_224.augreg_in21k", "supervised", "IN21K w/ labels"),
        ("vit_small_patch14_dinov2.lvd142m", "DINOv2", "LVD-142M"),
        ("vit_base_patch16_clip_224.openai_ft_in12k_in1k", "CLIP", "WIT, then IN12K w/ labels, then IN1K w/ labels"),
        ("vit_base_patch16_clip_224.laion2b", "CLIP", "LAION-2B"),
        ("vit_huge_patch14_gap_224.in22k_ijepa", "I-JEPA", "IN22K"),
        ("resnet50.fb_swsl_ig1b_ft_in1k", "custom", "unstated"),
        ("vit_base_patch16_224", "custom", "unstated"),
    ],
)
def test_timms_tag_says_whose_weights_they_are(name: str, method: str, data: str) -> None:
    entry = find_backbone(name, with_checkpoint=True)
    assert (entry.method, entry.pretrain_data) == (method, data)
    assert find_backbone(name).method == "random"


def test_a_files_word_against_timms_tag_is_a_contradiction() -> None:
    checkpoint = in_file(vit_mini().state_dict(), method="MAE")
    with pytest.raises(InputError, match=r"says of itself: MAE; --backbone vit_base_patch16_224.dino says DINO"):
        settle("vit_base_patch16_224.dino", checkpoint)
    assert settle("vit_base_patch16_224.dino", checkpoint, method="mae").method == "MAE"


def test_timms_tag_of_a_method_keeps_timms_normalisation() -> None:
    """LAION's ViT-L was trained with 0.5, unlike CLIP's own."""
    entry = find_backbone("vit_large_patch14_clip_224.laion2b", with_checkpoint=True)
    assert normalisation_of(entry, in_file({})) == HALF
    beit = find_backbone("beit_base_patch16_224.in22k_ft_in22k", with_checkpoint=True)
    state = beit_mini().state_dict()
    assert [normalisation_of(beit, in_file(state), task) for task in ("classification", "segmentation")] == [
        HALF,
        IMAGENET,
    ]


@pytest.mark.parametrize(
    ("name", "position", "told"),
    [
        ("dino_vit_base", mae(14, 14, 64), "the column first"),
        ("ibot_vit_base", moco(14, 14, 64), "the row first"),
        ("ijepa_vit_huge", learned(14, 14, 64), "are learned"),
    ],
)
def test_positions_speak_against_a_method(name: str, position: torch.Tensor, told: str) -> None:
    state = bare("vit_base_patch16_224") | {"pos_embed": position}
    with pytest.raises(InputError, match=told):
        settle(name, in_file(state))


def test_names_of_another_methods_code_speak_against_a_method() -> None:
    """data2vec's and SimMIM's ViTs are BEiT's, and iBOT's head is DINO's; a MAE has a decoder."""
    beit = bare("beit_base_patch16_224", global_pool="token")
    for name in ("data2vec_vit_base", "simmim_vit_base"):
        assert settle(name, in_file(beit)).remarks == ()
    dino = bare("vit_base_patch16_224") | {"head.last_layer.weight_g": torch.ones(8, 1)}
    assert settle("ibot_vit_base", in_file(dino)).method == "iBOT"
    with pytest.raises(InputError, match="named as DINO's"):
        settle("msn_vit_base", in_file(dino))
    autoencoder = bare("vit_base_patch16_224") | {"decoder_embed.weight": torch.ones(8, 1)}
    with pytest.raises(InputError, match=r"named as MAE's; --backbone dino_vit_base says DINO"):
        settle("dino_vit_base", in_file(autoencoder))
