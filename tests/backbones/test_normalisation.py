"""How each backbone's pixels are normalised: whose constants they are, and what beats what."""

import json
import sys
from pathlib import Path

import pytest
import timm
import torch

from backbones import find_backbone, list_backbones, normalisation_of, register_backbone
from backbones.errors import InputError
from backbones.images.normalisation import HALF, IMAGENET, Normalisation
from backbones.registry import BackboneEntry, _entries
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.origin import Declared
from tasks.data_sets import pretraining_name
from tests.support.checkpoint_examples import beit_mini, save, vit_mini

CLIP = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""openai/CLIP, clip/clip.py, `_transform`."""

DARK = Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
TASKS = ("classification", "detection", "segmentation")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which a test may register a backbone of its own."""
    monkeypatch.setattr(sys.modules["backbones.registry"], "_entries", dict(_entries))
    return "mine_vit"


def register(name: str, method: str = "Mine", **options: object) -> BackboneEntry:
    register_backbone(name, method=method, model="ViT-B", **options)(lambda image_size, drop_path: vit_mini())
    return find_backbone(name)


def written(folder: Path, state: dict[str, torch.Tensor], **beside: object) -> Checkpoint:
    return read_checkpoint(save({"model": state, **beside}, folder))


@pytest.mark.parametrize("task", TASKS)
def test_registered_methods_have_imagenets_but_clip_and_beit_of_its_public_files(task: str) -> None:
    registered = [entry for entry in list_backbones() if entry.method != "CLIP"]
    names = {entry.name for entry in registered if normalisation_of(entry, task=task) != IMAGENET}
    assert names == (set() if task == "segmentation" else {"beit_vit_base", "beit_vit_large"})
    in1k = Declared(pretrain_data="IN1K+DALLE")
    assert normalisation_of(find_backbone("beit_vit_base"), None, task, declared=in1k) == IMAGENET


def test_the_declared_method_has_its_own() -> None:
    entry = find_backbone("vit_base_patch16_224")
    assert (normalisation_of(entry), normalisation_of(entry, declared=Declared("MAE"))) == (HALF, IMAGENET)


@pytest.mark.parametrize("declared", ["MetaCLIP", "BEiT+", "supervised"])
def test_a_declared_name_that_says_nothing_of_pixels_changes_none(declared: str) -> None:
    """CLIP's and BEiT's weights had ImageNet's under a new name: the row's name decided a number."""
    for name, expected in (("clip_vit_base", CLIP), ("beit_vit_base", HALF), ("mae_vit_base", IMAGENET)):
        assert normalisation_of(find_backbone(name), task="classification", declared=Declared(declared)) == expected


def test_under_a_new_name_a_file_is_still_recognised(tmp_path: Path) -> None:
    entry, file = find_backbone("vit_base_patch16_224", True), written(tmp_path, vit_mini().state_dict(), method="MAE")
    assert normalisation_of(entry, file) == normalisation_of(entry, file, declared=Declared("MAE+")) == IMAGENET


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_base_patch16_224", HALF),
        ("vit_base_patch16_224.augreg_in21k", HALF),
        ("vit_base_patch16_224.mae", IMAGENET),
        ("vit_base_patch16_224.dino", IMAGENET),
        ("deit_base_patch16_224", IMAGENET),
        ("vit_base_patch16_clip_224.openai", CLIP),
        ("vit_base_patch16_clip_224", CLIP),
        ("tf_efficientnet_lite0", HALF),
        ("resnet50", IMAGENET),
        ("vit_mini_patch8_48", IMAGENET),
    ],
)
def test_timms_models_have_timms(name: str, expected: Normalisation) -> None:
    assert normalisation_of(find_backbone(name)) == expected


def test_all_of_timms_models_have_one() -> None:
    for name in timm.list_models():
        config = timm.get_pretrained_cfg(name)
        assert normalisation_of(find_backbone(name)).as_dict() == {"mean": config.mean, "std": config.std}


def test_a_tag_that_timm_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match=r"vit_base_patch16_224.mea.*tag"):
        normalisation_of(find_backbone("vit_base_patch16_224.mea"))


def test_a_plug_in_brings_its_own_or_has_imagenets(plugin: str) -> None:
    assert normalisation_of(register(plugin, mean=DARK.mean, std=list(DARK.std))) == DARK
    assert normalisation_of(register("mine_too")) == IMAGENET
    assert normalisation_of(register("mine_beit", method="BEiT", mean=DARK.mean, std=DARK.std)) == DARK


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mean": (0.5, 0.5, 0.5)}, "belong together"),
        ({"std": (0.5, 0.5, 0.5)}, "belong together"),
        ({"mean": (0.5, 0.5), "std": (0.5, 0.5, 0.5)}, r"mean \[0.5, 0.5\]: expected three numbers"),
        ({"mean": (0.5, 0.5, float("nan")), "std": (0.5, 0.5, 0.5)}, "from 0 to 1"),
        ({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.0, 0.5)}, "above 0"),
        ({"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}, "divided by 255"),
    ],
)
def test_a_plug_in_with_what_cannot_be_meant_is_refused(plugin: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=f"backbone {plugin}.*{told}"):
        register(plugin, **options)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("IN1K+DALLE", dict.fromkeys(TASKS, IMAGENET)),
        ("IN22K+DALLE", {"classification": HALF, "detection": HALF, "segmentation": IMAGENET}),
    ],
)
def test_beits_depends_on_its_data_and_on_the_task(plugin: str, data: str, expected: dict[str, Normalisation]) -> None:
    """microsoft/unilm, beit/README.md:119; beit/semantic_segmentation/configs/_base_/datasets/ade20k.py:5."""
    entry = register(plugin, method="BEiT", pretrain_data=data)
    assert {task: normalisation_of(entry, task=task) for task in TASKS} == expected


def test_the_recipe_beats_the_file_which_beats_the_registration(plugin: str, tmp_path: Path) -> None:
    entry = register(plugin, mean=DARK.mean, std=DARK.std)
    plain = written(tmp_path, vit_mini().state_dict())
    stated = written(tmp_path, vit_mini().state_dict(), mean=CLIP.mean, std=list(CLIP.std))
    assert normalisation_of(entry, plain) == DARK
    assert normalisation_of(entry, stated) == CLIP
    assert normalisation_of(entry, stated, "detection", HALF) == HALF


@pytest.mark.parametrize(
    "beside",
    [{"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}, {"mean": 0.5, "std": 0.5}, {"mean": "x"}],
)
def test_what_else_a_file_calls_mean_is_passed_over(tmp_path: Path, beside: dict[str, object]) -> None:
    checkpoint = written(tmp_path, vit_mini().state_dict(), **beside)
    assert normalisation_of(find_backbone("mae_vit_mini"), checkpoint) == IMAGENET


def test_a_file_under_timms_name_has_its_methods_where_that_can_be_told(tmp_path: Path) -> None:
    """MoCo v3 in timm's ViT, whose own weights have 0.5; a bare encoder could be timm's."""
    entry = find_backbone("vit_tiny_patch16_224", with_checkpoint=True)
    state = vit_mini().state_dict()
    moco = written(tmp_path, {f"module.base_encoder.{name}": tensor for name, tensor in state.items()})
    mae = written(tmp_path, state | {"decoder_embed.weight": torch.zeros(2, 2)})
    own = written(tmp_path, state, method="MAE", autoencoder="mae_vit_tiny_patch16")
    assert [normalisation_of(entry, file) for file in (moco, mae, own)] == [IMAGENET] * 3
    assert normalisation_of(entry, written(tmp_path, state)) == HALF


def test_timms_tag_is_above_what_weights_look_like(tmp_path: Path) -> None:
    """LAION-2B's ViT-L/14 has 0.5 (open_clip, src/open_clip/pretrained.py, and timm), CLIP itself has not."""
    state = {f"visual.trunk.{name}": tensor for name, tensor in vit_mini().state_dict().items()}
    name, file = "vit_large_patch14_clip_224", written(tmp_path, state)
    found = [normalisation_of(find_backbone(name + tag, True), file) for tag in ("", ".laion2b", ".laion400m_e32")]
    assert found == [CLIP, HALF, CLIP]
    entry, stated = find_backbone(f"{name}.laion2b", True), written(tmp_path, state, method="MAE")
    assert normalisation_of(entry, stated) == normalisation_of(entry, file, declared=Declared("MAE")) == IMAGENET


def test_siglip_has_timms(tmp_path: Path) -> None:
    """0.5 by open_clip's src/open_clip/pretrained.py (`_slpcfg`); its file was taken for CLIP's."""
    state = {f"visual.trunk.{name}": tensor for name, tensor in vit_mini().state_dict().items()}
    siglip = written(tmp_path, state | {"logit_scale": torch.zeros(()), "logit_bias": torch.zeros(())})
    for name in ("vit_base_patch16_siglip_224", "vit_base_patch16_siglip_224.webli"):
        assert normalisation_of(find_backbone(name, with_checkpoint=True), siglip) == HALF


def test_a_beit_under_timms_name_has_timms_but_on_ade20k(tmp_path: Path) -> None:
    """Which data it was pre-trained on its names do not tell; BEiT v2's ran under ImageNet's, as timm says."""
    checkpoint = written(tmp_path, beit_mini().state_dict() | {"lm_head.weight": torch.zeros(2, 2)})
    first, second = (find_backbone(f"{name}_base_patch16_224", with_checkpoint=True) for name in ("beit", "beitv2"))
    assert normalisation_of(first, checkpoint, "classification") == HALF
    assert normalisation_of(first, checkpoint, "segmentation") == IMAGENET
    assert normalisation_of(second, checkpoint, "classification") == IMAGENET


# What lies beside a file of the hub's name


def on_the_hub(folder: Path, state: dict[str, torch.Tensor], **descriptions: object) -> Checkpoint:
    """A file under the hub's name, and the JSON files beside it."""
    for name, content in descriptions.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return read_checkpoint(save(state, folder, "pytorch_model.bin"))


def timms(name: str, **pixels: object) -> dict[str, object]:
    """What timm writes of one of its models."""
    architecture, _, tag = name.partition(".")
    return {"architecture": architecture, "num_classes": 21843, "pretrained_cfg": {"tag": tag, **pixels}}


HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
GOOGLES = {"head.weight": torch.zeros(21_843, 2), "head.bias": torch.zeros(21_843)}


@pytest.mark.parametrize("name", ["supervised_vit_mini", "vit_base_patch16_224.dino"])
@pytest.mark.parametrize("beside", [HALVES, {}], ids=["says", "a tag alone"])
def test_googles_vits_have_half_where_config_json_says_so(tmp_path: Path, name: str, beside: dict[str, object]) -> None:
    checkpoint = on_the_hub(
        tmp_path, vit_mini().state_dict(), config=timms("vit_base_patch16_224.augreg_in21k", **beside)
    )
    assert normalisation_of(find_backbone(name, with_checkpoint=True), checkpoint) == HALF


@pytest.mark.parametrize("name", ["supervised_vit_mini", "vit_base_patch16_224.dino"])
def test_a_head_of_googles_classes_has_half(tmp_path: Path, name: str) -> None:
    """Every model of timm with 21,843 classes has it; ImageNet-22K has 21,841 for those of other authors."""
    entry = find_backbone(name, with_checkpoint=True)
    assert normalisation_of(entry, written(tmp_path, vit_mini().state_dict() | GOOGLES)) == HALF
    others = {key: tensor[:21_841] for key, tensor in GOOGLES.items()}
    assert normalisation_of(entry, written(tmp_path, vit_mini().state_dict() | others)) == IMAGENET
    assert normalisation_of(find_backbone("mae_vit_mini"), written(tmp_path, vit_mini().state_dict() | GOOGLES)) == (
        IMAGENET
    )


def test_transformers_says_it_in_preprocessor_config(tmp_path: Path) -> None:
    entry, state = find_backbone("supervised_vit_mini"), vit_mini().state_dict()
    said = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    config = {"model_type": "vit"}
    assert normalisation_of(entry, on_the_hub(tmp_path, state, config=config, preprocessor_config=said)) == HALF
    for other in (said | {"do_normalize": False}, {"image_mean": 0.5, "image_std": "x"}, []):
        assert normalisation_of(entry, on_the_hub(tmp_path, state, preprocessor_config=other)) == IMAGENET
    own = read_checkpoint(save({"model": state, "mean": DARK.mean, "std": DARK.std}, tmp_path, "pytorch_model.bin"))
    assert normalisation_of(entry, own) == DARK
    elsewhere = read_checkpoint(save(state, tmp_path, "weights.pth"))
    assert normalisation_of(entry, elsewhere) == IMAGENET


def test_open_clip_says_it_in_its_own_description(tmp_path: Path) -> None:
    """CLIPA's has ImageNet's (open_clip, src/open_clip/pretrained.py, `_apcfg`)."""
    described = {"model_cfg": {"embed_dim": 8}, "preprocess_cfg": {"mean": IMAGENET.mean, "std": IMAGENET.std}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    state = {f"visual.trunk.{name}": tensor for name, tensor in vit_mini().state_dict().items()}
    for name in ("vit_large_patch14_clip_224", "clip_vit_large"):
        entry = find_backbone(name, with_checkpoint=True)
        assert (
            normalisation_of(entry, read_checkpoint(save(state, tmp_path, "open_clip_pytorch_model.bin"))) == IMAGENET
        )
        assert normalisation_of(entry, read_checkpoint(save(state, tmp_path, "other.bin"))) == CLIP


def test_the_hubs_word_is_above_the_registration_but_beits_code_rules_on_ade20k(plugin: str, tmp_path: Path) -> None:
    entry = register(plugin, mean=DARK.mean, std=DARK.std)
    clip = timms("vit_base_patch16_224.bamboo", mean=CLIP.mean, std=CLIP.std)
    assert normalisation_of(entry, on_the_hub(tmp_path, vit_mini().state_dict(), config=clip)) == CLIP
    beit = timms("beit_base_patch16_224.in22k_ft_in22k", **HALVES)
    checkpoint = on_the_hub(tmp_path, beit_mini().state_dict(), config=beit)
    found = {task: normalisation_of(find_backbone("beit_vit_base"), checkpoint, task) for task in TASKS}
    assert found == {"classification": HALF, "detection": HALF, "segmentation": IMAGENET}


def test_beit_v2_has_imagenets(tmp_path: Path) -> None:
    """timm's mean of every beitv2_*; under timm's name of BEiT the file's own word is above it."""
    entry = find_backbone("beit_base_patch16_224", with_checkpoint=True)
    state = beit_mini().state_dict() | {
        "cls_pt_layers.0.norm1.weight": torch.zeros(2),
        "lm_head.weight": torch.zeros(2),
    }
    assert normalisation_of(entry, written(tmp_path, state)) == IMAGENET
    config = timms("beitv2_base_patch16_224.in1k_ft_in1k")
    assert normalisation_of(entry, on_the_hub(tmp_path, beit_mini().state_dict(), config=config)) == IMAGENET
    assert normalisation_of(find_backbone("beit_vit_base"), declared=Declared("BEiT v2")) == IMAGENET


# Spelling


@pytest.mark.parametrize("name", ["DeiT", "deit", "MoCo-v3", "mocov3", "dino", "mae", "beit_v2"])
def test_the_spelling_of_a_method_decides_nothing(name: str) -> None:
    assert normalisation_of(find_backbone("vit_base_patch16_224"), declared=Declared(name)) == IMAGENET


@pytest.mark.parametrize("data", ["imagenet1k", "ImageNet-1K", "IN1K", "in1k", "in1k+dalle"])
def test_the_spelling_of_the_data_decides_nothing(tmp_path: Path, data: str) -> None:
    entry = find_backbone("beit_vit_base")
    stated = written(tmp_path, beit_mini().state_dict(), method="beit", pretrain_data=data)
    declared = Declared("beit", data)
    assert normalisation_of(entry, stated, spell=pretraining_name) == IMAGENET
    assert normalisation_of(entry, declared=declared, spell=pretraining_name) == IMAGENET
