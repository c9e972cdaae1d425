"""Reading checkpoint files, and strict loading of the published layouts into timm's models."""

import argparse
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.inspection import describe
from backbones.mae.model import create_mae
from backbones.registry import create_backbone
from backbones.weights.checkpoints import file_sha256, read_checkpoint
from backbones.weights.loading import LoadReport, load_weights
from backbones.weights.methods import METHODS
from backbones.weights.recognition import recognise

State = dict[str, Tensor]


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter values of its own, so that exchanging any two of a shape changes the features."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def vit_mini(**options: object) -> nn.Module:
    import backbones.vit_sizes  # noqa: F401

    return randomised(timm.create_model("vit_mini_patch8_48", num_classes=0, **options))


def beit_mini(**options: object) -> nn.Module:
    """timm's BEiT with the sizes of the mini ViT."""
    sizes = {"img_size": 48, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2, "num_classes": 0}
    return timm.create_model("beit_base_patch16_224", **(sizes | {"global_pool": "token"} | options))


def images(count: int = 2, size: int = 48) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def save(content: object, folder: Path, name: str = "checkpoint.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def renamed(state: State, *rules: tuple[str, str]) -> State:
    result = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


def load(path: Path, backbone: str = "mae_vit_mini", image_size: int | None = None) -> tuple[nn.Module, LoadReport]:
    """Load through the front door and check that the report accounts for every key of the file and of the model."""
    model = create_backbone(backbone, path, image_size).eval()
    report = model.load_report
    check_account(report, path, model)
    return model, report


def check_account(report: LoadReport, path: Path, model: nn.Module) -> None:
    used = {key for keys in report.used.values() for key in keys}
    assert used | report.dropped.keys() == read_checkpoint(path).state_dict.keys()
    assert not used & report.dropped.keys()
    assert report.used.keys() | report.initialised.keys() == model.state_dict().keys()
    assert not report.used.keys() & report.initialised.keys()
    assert all(report.dropped.values()) and all(report.initialised.values())


def assert_same_features(model: nn.Module, source: nn.Module, tolerance: float = 0.0) -> None:
    with torch.no_grad():
        difference = (model.forward_features(images()) - source.forward_features(images())).abs().max().item()
    assert difference <= tolerance


# Published layouts


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


HF_SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "image_size": 48,
    "patch_size": 8,
    "layer_norm_eps": 1e-6,
}


def hf_files(model: nn.Module, folder: Path) -> list[Path]:
    """The model as transformers publishes it, and with the names that it has in memory."""
    model.save_pretrained(folder)
    return [folder / "model.safetensors", save(model.state_dict(), folder, "in_memory.pth")]


def test_hugging_face_vit_mae(tmp_path: Path) -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    decoder = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    theirs = randomised(ViTMAEForPreTraining(ViTMAEConfig(**HF_SIZES, **decoder, decoder_intermediate_size=64)))
    theirs.config.mask_ratio = theirs.vit.config.mask_ratio = 0.0
    in_order = torch.arange(36.0).expand(2, 36)  # nothing masked, and nothing shuffled
    with torch.no_grad():
        expected = theirs.vit(images(), noise=in_order).last_hidden_state
        for path in hf_files(theirs, tmp_path):
            model, report = load(path)
            assert (model.forward_features(images()) - expected).abs().max() <= 1e-5
            assert report.dropped["decoder.decoder_pred.weight"] == "the decoder, only for pre-training"
            assert report.converted["blocks.0.attn.qkv.weight"] == "query, key and value joined"
            assert len(report.used["blocks.0.attn.qkv.bias"]) == 3


def test_hugging_face_vit(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    theirs = randomised(ViTForImageClassification(ViTConfig(**HF_SIZES)))
    with torch.no_grad():
        expected = theirs.vit(images()).last_hidden_state
        for path in hf_files(theirs, tmp_path):
            model, report = load(path, "supervised_vit_mini")
            assert (model.forward_features(images()) - expected).abs().max() <= 1e-5
            assert report.dropped.keys() == {"classifier.weight", "classifier.bias"}


def test_hugging_face_beit(tmp_path: Path) -> None:
    from transformers import BeitConfig, BeitForMaskedImageModeling

    sizes = HF_SIZES | {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
    config = BeitConfig(**sizes, vocab_size=16, use_mask_token=True, use_shared_relative_position_bias=True)
    theirs = randomised(BeitForMaskedImageModeling(config))
    with torch.no_grad():
        expected = theirs.layernorm(theirs.beit(images()).last_hidden_state)
        for path in hf_files(theirs, tmp_path):
            model = beit_mini().eval()
            check_account(load_weights(model, read_checkpoint(path), METHODS["BEiT"]), path, model)
            assert (model.forward_features(images()) - expected).abs().max() <= 1e-5


# Other image sizes and precisions


def test_position_embeddings_are_interpolated_as_in_maes_fine_tuning(tmp_path: Path) -> None:
    source = vit_mini()
    model, report = load(save(source.state_dict(), tmp_path), image_size=96)
    grid = source.pos_embed[:, 1:].reshape(1, 6, 6, 128).permute(0, 3, 1, 2)
    larger = F.interpolate(grid, size=(12, 12), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.pos_embed[:, 1:], larger)
    assert torch.equal(model.pos_embed[:, 0], source.pos_embed[:, 0])
    assert report.converted == {"pos_embed": "6×6 → 12×12"}
    assert model(images(size=96)).shape == (2, 128)


def test_position_biases_are_interpolated(tmp_path: Path) -> None:
    source = randomised(beit_mini())
    model = beit_mini(img_size=80).eval()
    report = load_weights(model, read_checkpoint(save(source.state_dict(), tmp_path)), METHODS["BEiT"])
    table = "blocks.0.attn.relative_position_bias_table"
    assert report.converted == {table: "6×6 → 10×10", table.replace("0", "1"): "6×6 → 10×10"}
    old, new = source.state_dict()[table], model.state_dict()[table]
    assert torch.equal(new[-3:], old[-3:])  # the class token's
    assert torch.equal(new[:-3].reshape(19, 19, 2)[9, 9], old[:-3].reshape(11, 11, 2)[5, 5])  # distance zero
    torch.testing.assert_close(new[:-3].reshape(19, 19, 2)[0, 0], old[:-3].reshape(11, 11, 2)[0, 0])  # the farthest


def test_half_precision_is_widened_and_said_so(tmp_path: Path) -> None:
    source = vit_mini().half()
    model, report = load(save(source.state_dict(), tmp_path))
    assert model.norm.weight.dtype == torch.float32
    assert set(report.converted.values()) == {"float16 → float32"}


# What does not fit


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


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    state = vit_mini().state_dict()
    state["blocks.1.mlp.fc1.bias"][3] = float("nan")
    with pytest.raises(InputError, match=r"infinite or undefined numbers in blocks.1.mlp.fc1.bias"):
        create_backbone("mae_vit_mini", save(state, tmp_path))


class Runs:
    """Creates a file when it is unpickled without restriction."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("new_layout", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, new_layout: bool) -> None:
    path, trace = tmp_path / "bad.pth", tmp_path / "trace"
    torch.save({"model": Runs(trace)}, path, _use_new_zipfile_serialization=new_layout)
    with pytest.raises(InputError, match=r"refused, nothing of it was run. .* it asks for posix.mkdir"):
        read_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it was a live one


def test_a_plain_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "bad.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Runs(trace)))
    with pytest.raises(InputError, match="nothing of it was run"):
        read_checkpoint(path)
    assert not trace.exists()


def test_tolerated_company_is_not_built(tmp_path: Path) -> None:
    """`getattr` on the list of what is tolerated must not be the real one."""

    class Reaches:
        def __reduce__(self) -> tuple[object, ...]:
            return getattr, ("text", "upper")

    checkpoint = read_checkpoint(save({"model": {"weight": torch.ones(2)}, "extra": Reaches()}, tmp_path))
    assert checkpoint.extras == {"extra": "not read"}


def test_mmengine_training_checkpoints_are_read(tmp_path: Path) -> None:
    from mmengine.logging.history_buffer import HistoryBuffer

    content = {"state_dict": {"weight": torch.ones(2)}, "message_hub": {"loss": HistoryBuffer([1.0], [1])}}
    checkpoint = read_checkpoint(save(content | {"random": np.random.default_rng(0).integers(9, size=3)}, tmp_path))
    assert checkpoint.container == "state_dict"
    assert checkpoint.extras == {"message_hub": "dict of 1", "random": "not read"}


@pytest.mark.parametrize("layout", ["zip", "stream", "safetensors"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.999])
def test_truncated_files(tmp_path: Path, layout: str, kept: float) -> None:
    path, state = tmp_path / "whole", vit_mini().state_dict()
    if layout == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=layout == "zip")
    assert read_checkpoint(path).state_dict.keys() == state.keys()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError, match="truncated"):
        read_checkpoint(path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    text, empty, binary = tmp_path / "text.pth", tmp_path / "empty.pth", tmp_path / "binary.pth"
    text.write_text("<!DOCTYPE html>\n<html>not found</html>\n")
    empty.touch()
    binary.write_bytes(bytes(range(128, 256)) * 8)
    (tmp_path / "folder").mkdir()
    save({"weight": torch.ones(1)}, tmp_path / "folder", "inside.pth")
    for path, expected in (
        (text, "a text file"),
        (empty, "the file is empty"),
        (binary, "neither a PyTorch nor a safetensors file|restricted reader"),
        (tmp_path / "folder", "is a directory.*It holds inside.pth"),
        (tmp_path / "absent.pth", "no such checkpoint file"),
        (save({"optimizer": {}, "epoch": 3}, tmp_path, "no_weights.pth"), r"no weights found.*\(optimizer, epoch\)"),
        (save([1, 2], tmp_path, "list.pth"), "no weights found in it, but list of 2"),
        (save({}, tmp_path, "nothing.pth"), "no weights found in it, but dict of 0"),
    ):
        with pytest.raises(InputError, match=expected) as caught:
            read_checkpoint(path)
        assert str(path) in str(caught.value)


# Facts about a file


def test_hash_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    checkpoint = read_checkpoint(save({"model": {"weight": torch.ones(3, 2)}, "epoch": 7}, tmp_path))
    assert checkpoint.size == (tmp_path / "checkpoint.pth").stat().st_size
    assert checkpoint.parameters == 6
    assert checkpoint.extras == {"epoch": "7"}


def test_inspection_says_what_it_is_and_where_it_fits(tmp_path: Path) -> None:
    mae = create_mae("mae_vit_mini_patch8")
    description = describe(read_checkpoint(save({"model": mae.state_dict()}, tmp_path)), "mae_vit_mini")
    found = description.recognised
    assert (found.method, found.family, found.width, found.depth) == ("MAE", "ViT", 128, 4)
    assert (found.patch, found.grid, found.image_size, found.has_decoder) == (8, 6, 48, True)
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
    assert (beit.method, beit.family, beit.grid) == ("BEiT", "BEiT", 14)
    assert recognise({"nothing": torch.zeros(1)}).family is None
