"""A file in the wrong model of timm's: refused, with the right one's name, also where the shapes agree."""

import json
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from backbones.errors import InputError
from backbones.registry import create_backbone
from backbones.weights.arithmetic import require_same_arithmetic
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.loading import match_weights
from backbones.weights.methods import METHODS
from backbones.weights.recognition import Recognised, recognise
from tests.support.authors_files import CLIP, Kind
from tests.support.checkpoint_examples import State, images, save
from tests.support.restated import WIDTH, clip_shapes, random_state, vit_shapes
from tests.support.small_architectures import clip, clip_quickgelu, dinov2, dinov2_registers, vit

SMALL = "tests.support.small_architectures:"
DINOV2_MASK = {"mask_token": torch.zeros(1, 768)}


def of_timm(name: str) -> State:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=0).state_dict()


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_224",
        "vit_base_patch16_clip_224",
        "vit_base_patch14_reg4_dinov2",
        "vit_huge_patch14_gap_224",
        "deit3_base_patch16_224",
        "beit_base_patch16_224",
        "swin_small_patch4_window7_224",
        "convnext_base",
        "hiera_base_224",
    ],
)
def test_timms_own_files_are_called_by_their_names(name: str) -> None:
    assert recognise(of_timm(name)).timm_name == name


def test_what_only_the_authors_files_tell() -> None:
    """timm's own leave it out."""
    state = of_timm("vit_base_patch14_dinov2")
    found = recognise(state | DINOV2_MASK)
    assert (found.timm_name, found.method) == ("vit_base_patch14_dinov2", "DINOv2")
    block = {"cls_pt_layers.0.norm1.weight": torch.zeros(768), "lm_head.weight": torch.zeros(8192, 768)}
    found = recognise(of_timm("beit_base_patch16_224") | block)
    assert (found.timm_name, found.method) == ("beitv2_base_patch16_224", "BEiT v2")
    found = recognise(of_timm("beit_base_patch16_224") | {"lm_head.weight": torch.zeros(768, 768)})
    assert (found.timm_name, found.method) == ("beit_base_patch16_224", "data2vec")
    student = recognise(of_timm("vit_base_patch16_224") | {"masked_embed": torch.zeros(1, 768)})
    assert (student.timm_name, student.method) == ("vit_base_patch16_224", "iBOT")
    simmim = {f"encoder.{name}": tensor for name, tensor in of_timm("beit_base_patch16_224").items()}
    pixels = {"encoder.mask_token": torch.zeros(1, 1, 768), "decoder.0.weight": torch.zeros(768, 768, 1, 1)}
    assert recognise(simmim | pixels).method == "SimMIM"


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name) for kind in CLIP[:3]])
def test_clip_is_recognised(kind: Kind, tmp_path: Path) -> None:
    found = recognise(read_checkpoint(kind.write(tmp_path)[0]).state_dict)
    assert (found.method, found.family, found.width, found.depth) == ("CLIP", "ViT", WIDTH, 2)
    assert found.variant == ("clip_quickgelu" if "OpenAI" in kind.name else "clip")


def test_fixed_positions_without_a_class_token_are_i_jepas() -> None:
    assert Recognised(family="ViT", variant="gap", positions="column first").likely_method == "I-JEPA"
    assert Recognised(family="ViT", positions="column first").likely_method == "MAE"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("vit_base_patch14_reg4_dinov2", "vit_base_patch14_dinov2"),
        ("deit3_base_patch16_224", "vit_base_patch16_224"),
        ("vit_base_patch16_clip_224", "vit_base_patch16_224"),
        ("beit_base_patch16_224", "vit_base_patch16_224"),
        ("hiera_base_224", "swin_base_patch4_window7_224"),
        ("vit_base_patch16_gap_224", "vit_base_patch16_224"),
    ],
)
def test_the_right_model_is_named(theirs: str, ours: str) -> None:
    checkpoint = Checkpoint(Path("weights.pth"), "", 0, "torch", "", of_timm(theirs), {})
    with torch.device("meta"):
        model = timm.create_model(ours, num_classes=0)
    with pytest.raises(InputError) as refused:
        match_weights(model, checkpoint, METHODS["custom"])
    assert theirs in str(refused.value) or "timm's reader for SwinTransformer makes no sense" in str(refused.value)


def test_openais_clip_needs_the_quick_gelu(tmp_path: Path) -> None:
    path, _ = CLIP[1].write(tmp_path)
    with pytest.raises(InputError, match="activation is quick_gelu, and this model's gelu: the weights would load"):
        create_backbone(f"{SMALL}clip", path)
    checkpoint = read_checkpoint(path)
    with torch.device("meta"):
        timms = timm.create_model("vit_base_patch16_clip_224", num_classes=0)
    with pytest.raises(InputError, match=r"Use --backbone vit_base_patch16_clip_quickgelu_224=FILE"):
        require_same_arithmetic(timms, checkpoint)


@pytest.mark.parametrize(
    ("config", "model", "says"),
    [
        ({"model_type": "clip", "vision_config": {}}, clip, "activation is quick_gelu"),
        ({"model_type": "clip", "vision_config": {"hidden_act": "gelu"}}, clip_quickgelu, "activation is gelu"),
        ({"model_type": "vit", "num_attention_heads": 4}, vit, "number of attention heads is 4, and this model's 2"),
        ({"model_type": "vit", "layer_norm_eps": 1e-5}, vit, r"epsilon of the norms is 1e-05, and this model's 1e-06"),
        ({"model_type": "vit", "layer_norm_eps": 1e-12, "hidden_act": "gelu", "num_attention_heads": 2}, vit, None),
    ],
)
def test_what_the_hubs_description_says(config: object, model: type, says: str | None, tmp_path: Path) -> None:
    """transformers' ViT has an epsilon of 1e-12, timm's of 1e-6: that much is nothing."""
    from safetensors.torch import save_file

    built: nn.Module = model(None, 0.0)
    save_file(built.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    if says is None:
        require_same_arithmetic(built, checkpoint)
        return
    with pytest.raises(InputError, match=says):
        create_backbone(f"{SMALL}{model.__name__}", checkpoint)


@pytest.mark.parametrize(("quick", "fits"), [(True, clip_quickgelu), (False, clip)])
def test_what_open_clips_description_says(quick: bool, fits: type, tmp_path: Path) -> None:
    path = save(random_state(clip_shapes()), tmp_path, "open_clip_pytorch_model.bin")
    settings = {"model_cfg": {"embed_dim": 24} | ({"quick_gelu": True} if quick else {})}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    create_backbone(f"{SMALL}{fits.__name__}", path)
    with pytest.raises(InputError, match="its activation is"):
        create_backbone(f"{SMALL}{(clip if quick else clip_quickgelu).__name__}", path)


@pytest.mark.parametrize(("model", "antialias"), [(dinov2, False), (dinov2_registers, True)])
def test_dinov2_interpolates_positions_as_its_code_does(model: type, antialias: bool, tmp_path: Path) -> None:
    """With antialiasing only where there are registers (transformers' modules of both do the same)."""
    import transformers

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 48, "patch_size": 8}
    name = "Dinov2WithRegisters" if antialias else "Dinov2"
    theirs = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes)).eval()
    nn.init.normal_(theirs.embeddings.position_embeddings)
    path = save(theirs.state_dict(), tmp_path)
    ours = create_backbone(f"{SMALL}{model.__name__}", path, image_size=32).eval()
    assert ours.load_report.converted["pos_embed"] == "6×6 → 4×4"
    with torch.no_grad():
        expected = theirs(images(2, 32)).last_hidden_state
        assert (ours.forward_features(images(2, 32)) - expected).abs().max() <= 1e-5


def test_sources_are_traced_through_timms_reader(tmp_path: Path) -> None:
    """DINOv2's class token with registers is made of two of the file's keys."""
    state = random_state(vit_shapes(scale="ls1.gamma", registers=4)) | {"mask_token": torch.zeros(1, WIDTH)}
    report = create_backbone(f"{SMALL}dinov2_registers", save(state, tmp_path)).load_report
    assert report.used["cls_token"] == ("cls_token", "pos_embed") and report.used["pos_embed"] == ("pos_embed",)
    assert report.used["reg_token"] == ("register_tokens",)
    assert report.converted.keys() == {"cls_token", "pos_embed"}
    assert report.dropped == {"mask_token": "stands for hidden patches, only in pre-training"}


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    import numpy as np

    np.savez(tmp_path / "vit.npz", cls=np.array([{"not": "a number"}], dtype=object))
    with pytest.raises(InputError, match=r"vit\.npz: numpy arrays that cannot be read .*numpy\.savez"):
        read_checkpoint(tmp_path / "vit.npz")


def test_a_program_is_read_and_never_run(tmp_path: Path) -> None:
    """Its pickle may name modules and tensors, and nothing else."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("program/constants.pkl", b"")
        archive.writestr("program/data.pkl", b"cos\nsystem\n(S'touch run'\ntR.")
    with pytest.raises(InputError, match=r"TorchScript program .*it asks for os\.system.*nothing of it was run"):
        read_checkpoint(tmp_path / "program.pt")
