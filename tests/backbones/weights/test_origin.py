"""What a file of weights is held to be: by the call, by its own word, by its bytes, by its looks, by the name."""

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.mae.model import create_mae
from backbones.registry import find_backbone
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.loading import load_weights
from backbones.weights.methods import METHODS
from backbones.weights.origin import Declared, Origin, settle_origin
from backbones.weights.published import PublishedFile
from tests.support.checkpoint_examples import State, beit_mini, prefixed, renamed, save, vit_mini
from tests.support.position_examples import interpolated, learned, mae, moco, trained

MMPRETRAIN = (
    (r"^norm\.", "ln1."),
    (r"\.norm([12])\.", r".ln\1."),
    (r"^blocks\.", "layers."),
    (r"mlp\.fc1", "ffn.layers.0.0"),
    (r"mlp\.fc2", "ffn.layers.1"),
    (r"patch_embed\.proj", "patch_embed.projection"),
)


def in_file(state: State, path: Path = Path("weights.pth"), **extras: str) -> Checkpoint:
    return Checkpoint(path, "0" * 64, 1, "torch", "model", state, extras)


def settle(backbone: str, checkpoint: Checkpoint, **declared: str) -> Origin:
    return settle_origin(find_backbone(backbone, with_checkpoint=True), checkpoint, Declared(**declared))


def mini(position: Tensor) -> State:
    return vit_mini().state_dict() | {"pos_embed": position}


def small(position: Tensor) -> State:
    """ViT-S by names and shapes; positions alone have values."""
    with torch.device("meta"):
        state = timm.create_model("vit_small_patch16_224", num_classes=0).state_dict()
    return state | {"pos_embed": position}


def head(classes: int, width: int = 128) -> State:
    return {"head.weight": torch.zeros(classes, width), "head.bias": torch.zeros(classes)}


def maes_files() -> dict[str, State]:
    """What the reference publishes or writes, and what others make of it."""
    autoencoder, encoder = create_mae("mae_vit_mini_patch8").state_dict(), mini(mae(6, 6, 128))
    fine_tuned = renamed(mini(trained(mae(6, 6, 128))), (r"^norm\.", "fc_norm."))
    return {
        "with its decoder": autoencoder,
        "the encoder alone": encoder,
        "fine-tuned": fine_tuned | head(1000),
        "fine-tuned, larger": encoder | {"pos_embed": trained(interpolated(mae(6, 6, 128), 6, (12, 12)))},
        "in half precision": {name: tensor.half() for name, tensor in encoder.items()},
        "by mmpretrain": prefixed(renamed(mini(moco(6, 6, 128)), *MMPRETRAIN), "backbone."),
        "in mmpretrain's names": renamed(encoder, *MMPRETRAIN),
        "without positions": {name: tensor for name, tensor in encoder.items() if name != "pos_embed"},
    }


@pytest.mark.parametrize("kind", maes_files())
def test_files_of_mae_pass_as_mae(kind: str) -> None:
    origin = settle("mae_vit_mini", in_file(maes_files()[kind]))
    data = "IN1K, then IN1K w/ labels" if kind == "fine-tuned" else "IN1K"
    assert (origin.method, origin.pretrain_data, origin.model) == ("MAE", data, "ViT-mini")
    assert set(origin.said_by.values()) == {"registry"}
    assert bool(origin.remarks) == (kind == "fine-tuned")


@pytest.mark.parametrize(
    "kind", ["with its decoder", "the encoder alone", "fine-tuned", "fine-tuned, larger", "in half precision"]
)
def test_files_of_mae_do_not_pass_as_supervised(kind: str) -> None:
    with pytest.raises(InputError, match=r"weights\.pth: its .*MAE.*supervised_vit_mini says.*--method supervised"):
        settle("supervised_vit_mini", in_file(maes_files()[kind]))


def test_learned_positions_do_not_pass_as_fixed_ones() -> None:
    """DeiT's file, which loads 150 of 150 tensors as mae_vit_base."""
    deit = mini(learned(6, 6, 128))
    for state in (deit, deit | head(1000), {name: tensor.half() for name, tensor in deit.items()}):
        assert settle("supervised_vit_mini", in_file(state)).method == "supervised"
        with pytest.raises(InputError, match=r"are learned.*--backbone mae_vit_mini says MAE.*insist.*--method MAE"):
            settle("mae_vit_mini", in_file(state))


def test_maes_and_moco_v3s_positions_differ_in_their_axes() -> None:
    assert settle("mocov3_vit_small", in_file(small(moco(14, 14, 384)))).method == "MoCo v3"
    for position, match in ((mae(14, 14, 384), "the column first"), (learned(14, 14, 384), "are learned")):
        with pytest.raises(InputError, match=match):
            settle("mocov3_vit_small", in_file(small(position)))
    for name in ("mae_vit_mini", "supervised_vit_mini"):
        with pytest.raises(InputError, match="the row first as in MoCo v3's; --backbone"):
            settle(name, in_file(mini(moco(6, 6, 128))))


def test_twelve_heads_do_not_go_into_six() -> None:
    bare = in_file(small(moco(14, 14, 384)))
    for declared in ({}, {"method": "MoCo v3"}):
        with pytest.raises(InputError, match=r"ViT-S has 12 attention heads; vit_small_patch16_224 has 6.*mocov3_vit"):
            settle("vit_small_patch16_224", bare, **declared)
    assert settle("vit_small_patch16_224", bare, method="mine").method == "mine"
    for position, method in ((learned(14, 14, 384), "custom"), (mae(14, 14, 384), "MAE")):
        assert settle("vit_small_patch16_224", in_file(small(position))).method == method


def test_names_tell_as_well() -> None:
    dino = {"head.last_layer.weight_g": torch.ones(8, 1)}
    with pytest.raises(InputError, match=r"its tensors are named as DINO's.*says supervised"):
        settle("supervised_vit_mini", in_file(mini(learned(6, 6, 128)) | dino))


def test_what_the_file_says_of_itself() -> None:
    """An encoder of our own pre-training, which ran as supervised without a word."""
    encoder = in_file(mini(mae(6, 6, 128)), method="MAE", pretrain_data="shapes", arch="vit_mini_patch8_48")
    with pytest.raises(InputError) as caught:
        settle("supervised_vit_mini", encoder)
    assert str(caught.value).startswith(
        "weights.pth: the file says of itself: MAE on shapes; --backbone supervised_vit_mini says supervised."
    )
    assert "--method supervised" in str(caught.value)
    assert settle("mae_vit_mini", encoder) == Origin(
        "MAE",
        "shapes",
        "ViT-mini",
        {"method": "registry", "pretrain_data": "file", "model": "registry"},
    )
    origin = settle("vit_mini_patch8_48", encoder)  # a name that claims nothing
    assert (origin.method, origin.pretrain_data, origin.said_by["method"]) == ("MAE", "shapes", "file")
    doubted = in_file(mini(learned(6, 6, 128)), method="mae")  # its own word, before its looks
    assert settle("mae_vit_mini", doubted).method == "MAE"
    untold = in_file(mini(mae(6, 6, 128)), method="dict of 3")
    assert settle("mae_vit_mini", untold).said_by["method"] == "registry"


def test_what_is_declared_is_insisted_on_and_remarked() -> None:
    encoder = in_file(mini(mae(6, 6, 128)), method="MAE", pretrain_data="shapes")
    origin = settle("supervised_vit_mini", encoder, method="supervised", pretrain_data="photographs", model="ViT-X")
    assert (origin.method, origin.pretrain_data, origin.model) == ("supervised", "photographs", "ViT-X")
    assert set(origin.said_by.values()) == {"declared"}
    assert origin.remarks == (
        "the file says of itself pre-trained on shapes; photographs as declared",
        "the file says of itself: MAE on shapes; supervised as declared",
    )
    assert settle("mae_vit_mini", in_file(mini(learned(6, 6, 128))), method="MAE+").remarks == ()
    other = settle("supervised_vit_mini", in_file(mini(mae(6, 6, 128))), method="MAE")
    assert (other.method, other.pretrain_data, other.remarks) == ("MAE", "unstated", ())


def test_spelling_makes_no_contradiction() -> None:
    entry = find_backbone("mae_vit_mini", with_checkpoint=True)
    encoder = in_file(mini(mae(6, 6, 128)), method="mae", pretrain_data="imagenet1k")
    names = {"imagenet1k": "IN1K"}
    for declared in (None, Declared(pretrain_data="IN1K"), Declared(pretrain_data="imagenet1k")):
        origin = settle_origin(entry, encoder, declared, spell=lambda name: names.get(name, name))
        assert (origin.method, origin.pretrain_data, origin.remarks) == ("MAE", "IN1K", ())


def test_a_published_file_is_known_by_its_bytes() -> None:
    deit = PublishedFile(
        name="deit_base_patch16_224.pth",
        page="https://example.org",
        method="supervised",
        pretrain_data="IN1K w/ labels",
        model="ViT-B",
    )
    state = mini(learned(6, 6, 128))

    def ask(backbone: str, declared: Declared | None = None) -> Origin:
        entry = find_backbone(backbone, with_checkpoint=True)
        return settle_origin(entry, in_file(state), declared, known=lambda _: deit)

    with pytest.raises(InputError, match=r"it is deit_base_patch16_224\.pth, byte for byte, which is superv"):
        ask("mae_vit_mini")
    assert ask("supervised_vit_mini").said_by["pretrain_data"] == "published"
    origin = ask("vit_mini_patch8_48")
    assert (origin.method, origin.pretrain_data) == ("supervised", "IN1K w/ labels")
    assert origin.said_by["method"] == origin.said_by["pretrain_data"] == "published"
    assert "deit_base_patch16_224.pth" in ask("supervised_vit_mini", Declared(pretrain_data="else")).remarks[0]


def test_without_a_file_the_name_decides() -> None:
    origin = settle_origin(find_backbone("random_vit_mini"), None)
    assert (origin.method, origin.pretrain_data, origin.model) == ("random", "none", "ViT-mini")


def test_beits_public_files_were_pretrained_on_all_of_imagenet() -> None:
    with torch.device("meta"):
        beit = timm.create_model("beit_base_patch16_224", num_classes=0, global_pool="token").state_dict()
    origin = settle("beit_vit_base", in_file(beit))
    assert (origin.pretrain_data, origin.said_by["pretrain_data"]) == ("IN22K+DALLE", "registry")
    labelled = settle("beit_vit_base", in_file(beit | head(21_841, 768)))
    assert (labelled.pretrain_data, labelled.said_by["pretrain_data"]) == ("IN22K+DALLE, then IN22K w/ labels", "file")
    assert labelled.remarks == ("the file has a head for 21,841 classes: these weights have seen labels",)
    assert settle("beit_vit_base", in_file(beit), pretrain_data="IN1K+DALLE").pretrain_data == "IN1K+DALLE"
    assert settle("supervised_vit_mini", in_file(mini(learned(6, 6, 128)) | head(21_843))).pretrain_data == (
        "IN21K w/ labels"
    )


@pytest.mark.parametrize(
    "config, method, data",
    [
        ({"model_type": "vit_mae"}, "MAE", None),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, None, None),  # Google's, DINO's and others'
        ({"architecture": "vit_base_patch16_224", "pretrained_cfg": {"tag": "mae"}}, "MAE", "IN1K"),
        ({"architecture": "vit_base_patch16_224", "pretrained_cfg": {"tag": "augreg_in1k"}}, "supervised", "IN1K w/ l"),
        (
            {"architecture": "vit_x", "pretrained_cfg": {"tag": "orig_in21k_ft_in1k"}},
            "supervised",
            "IN21K w/ labels, then IN1K w/ labels",
        ),
        (
            {"architecture": "beit_base_patch16_224", "pretrained_cfg": {"tag": "in22k_ft_in22k"}},
            "BEiT",
            "IN22K+DALLE, then IN22K w/ labels",
        ),
        ({"architecture": "beit_base_patch16_224"}, "BEiT", None),
        ({"architecture": "beitv2_base_patch16_224", "pretrained_cfg": {"tag": "in1k"}}, "BEiT v2", "IN1K"),
        (
            {"architecture": "beitv2_base_patch16_224", "pretrained_cfg": {"tag": "in1k_ft_in22k_in1k"}},
            "BEiT v2",
            "IN1K, then IN22K w/ labels, then IN1K w/ labels",
        ),
        ({"architecture": "vit_x", "pretrained_cfg": None}, None, None),
        ([], None, None),
    ],
)
def test_the_hubs_description_beside_the_file(
    tmp_path: Path, config: object, method: str | None, data: str | None
) -> None:
    state = {"pos_embed": torch.zeros(1)}
    for file, encoding in (("model.safetensors", "utf-8"), ("pytorch_model.bin", "utf-8-sig")):
        (tmp_path / "config.json").write_text(json.dumps(config), encoding=encoding)
        origin = settle("vit_mini_patch8_48", in_file(state, tmp_path / file))
        assert origin.method == (method or "custom") and origin.pretrain_data.startswith(data or "unstated")
        if method not in (None, "MAE"):
            with pytest.raises(InputError, match=f"config.json beside the file says: {method}"):
                settle("mae_vit_mini", in_file(state, tmp_path / file))
    assert settle("vit_mini_patch8_48", in_file(state, tmp_path / "other.pth")).method == "custom"
    (tmp_path / "config.json").write_text("{")
    assert settle("vit_mini_patch8_48", in_file(state, tmp_path / "model.safetensors")).method == "custom"


@pytest.mark.parametrize(
    ("backbone", "architecture", "told"),
    [
        (
            "beit_vit_base",
            "beitv2_base_patch16_224",
            "config.json beside the file says: BEiT v2 on IN1K, then IN1K w/ ",
        ),
        (
            "beit_vit_base",
            "beit3_base_patch16_224",
            "says architecture beit3_base_patch16_224, which is none of BEiT's",
        ),
        ("mae_vit_mini", "eva02_base_patch14_224", "says architecture eva02_base_patch14_224, which is none of MAE's"),
        ("mocov3_vit_base", "deit_base_patch16_224", "says architecture deit_base.*none of MoCo v3's"),
    ],
)
def test_another_methods_architecture_is_a_contradiction(
    tmp_path: Path, backbone: str, architecture: str, told: str
) -> None:
    """timm's beitv2_base_patch16_224 has the names and shapes of its BEiT."""
    config = {"architecture": architecture, "pretrained_cfg": {"tag": "in1k_ft_in1k"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    file = in_file({"pos_embed": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=told):
        settle(backbone, file)
    insisted = settle(backbone, file, method=find_backbone(backbone).method)
    assert re.search(told + ".* as declared", insisted.remarks[0])


def test_architectures_of_the_method_are_no_contradiction(tmp_path: Path) -> None:
    for backbone, architecture in (
        ("mae_vit_mini", "vit_base_patch16_224"),
        ("beit_vit_base", "beit_base_patch16_224"),
        ("supervised_vit_mini", "deit3_base_patch16_224"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture}))
        assert settle(backbone, in_file({"pos_embed": torch.zeros(1)}, tmp_path / "model.safetensors")).remarks == ()


def test_beit_v2_is_told_from_beit_by_what_its_pretraining_leaves(tmp_path: Path) -> None:
    """microsoft/unilm, beit2/modeling_pretrain.py:281, `cls_pt_layers`."""
    state = beit_mini().state_dict() | {"lm_head.weight": torch.zeros(8, 64)}
    second = state | {"cls_pt_layers.0.norm1.weight": torch.zeros(64)}
    assert settle("beit_vit_base", in_file(state)).method == "BEiT"
    with pytest.raises(InputError, match="its tensors are named as BEiT v2's"):
        settle("beit_vit_base", in_file(second))
    report = load_weights(beit_mini(), in_file(second), METHODS["BEiT"])
    assert report.dropped["cls_pt_layers.0.norm1.weight"].endswith("only for pre-training")


def test_a_method_in_a_file_is_recorded_as_the_tables_have_it() -> None:
    encoder = in_file(mini(mae(6, 6, 128)), method="mae", pretrain_data="shapes")
    assert settle("vit_mini_patch8_48", encoder).method == "MAE"


def test_a_safetensors_files_header_counts_as_its_word(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    words = {"format": "pt", "method": "MAE", "pretrain_data": "shapes", "grid": "4×9"}
    save_file(mini(mae(4, 9, 128)), tmp_path / "encoder.safetensors", metadata=words)
    checkpoint = read_checkpoint(tmp_path / "encoder.safetensors")
    assert checkpoint.grid == (4, 9) and "format" not in checkpoint.extras
    assert settle("vit_mini_patch8_48", checkpoint).pretrain_data == "shapes"
    assert read_checkpoint(save({"model": mini(mae(6, 6, 128)), "grid": "6×6"}, tmp_path)).grid == (6, 6)


@pytest.mark.parametrize(
    ("name", "method", "data"),
    [
        ("vit_tiny_patch16_224.augreg_in21k", "supervised", "IN21K w/ labels"),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "supervised", "IN21K w/ labels, then IN1K w/ labels"),
        ("deit3_base_patch16_224.fb_in22k_ft_in1k", "supervised", "IN21K w/ labels, then IN1K w/ labels"),
        ("convnext_tiny.fb_in22k_ft_in1k", "supervised", "IN21K w/ labels, then IN1K w/ labels"),
        ("deit_base_distilled_patch16_224.fb_in1k", "supervised", "IN1K w/ labels"),
        (
            "vit_base_patch16_clip_224.laion2b_ft_in12k_in1k",
            "CLIP",
            "LAION-2B, then IN12K w/ labels, then IN1K w/ labels",
        ),
        ("eva_giant_patch14_clip_224.laion400m", "custom", "LAION-400M"),
        ("eva02_large_patch14_clip_224.merged2b", "custom", "unstated"),
    ],
)
def test_what_timms_tags_say(name: str, method: str, data: str) -> None:
    """Labels of the second data set count as well; EVA-CLIP is no plain CLIP."""
    entry = find_backbone(name, with_checkpoint=True)
    assert (entry.method, entry.pretrain_data) == (method, data)


def test_eva_clip_and_siglip_of_open_clip_are_no_clip() -> None:
    trunk = prefixed(mini(learned(6, 6, 128)), "visual.trunk.")
    for beside, method in (("visual.head.proj.weight", "CLIP"), ("logit_bias", "custom")):
        assert settle("vit_mini_patch8_48", in_file(trunk | {beside: torch.zeros(1)})).method == method
    for eva in ("q_bias", "q_proj.weight"):
        file = in_file(trunk | {f"visual.trunk.blocks.0.attn.{eva}": torch.zeros(1)})
        assert settle("eva_giant_patch14_clip_224", file).method == "custom"


def test_a_clip_whose_gelu_nobody_tells_is_remarked(tmp_path: Path) -> None:
    """LAION's files have the names and shapes of OpenAI's, which also hold three numbers."""
    with torch.device("meta"):
        state = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=0).state_dict()
    state["pos_embed"] = learned(14, 14, 768)
    remark = "the file does not tell which GELU it has: read with OpenAI's quick one, as trained on WIT"
    assert settle("clip_vit_base", in_file(state)).remarks == (remark,)
    assert settle("clip_vit_base", in_file(state), pretrain_data="LAION-2B").remarks[0].endswith("on LAION-2B")
    assert settle("vit_base_patch16_clip_quickgelu_224.openai", in_file(state)).remarks == ()
    assert settle("clip_vit_base", in_file(state | {"input_resolution": torch.tensor(224)})).remarks == ()
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    assert settle("clip_vit_base", in_file(state, tmp_path / "open_clip_pytorch_model.bin")).remarks == ()
