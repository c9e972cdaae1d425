"""Strict loading of transformers' models into timm's, which compute the same."""

from pathlib import Path

import pytest
import torch
from torch import nn

from backbones.errors import InputError
from backbones.registry import create_backbone, find_backbone
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.loading import load_weights
from backbones.weights.methods import METHODS
from backbones.weights.origin import settle_origin
from backbones.weights.prefixes import looks_of
from backbones.weights.recognition import recognise
from tests.support.checkpoint_examples import beit_mini, check_account, images, load, randomised, save
from tests.support.libraries_files import LIBRARIES_FILES
from tests.support.position_examples import mae

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


def test_mae_in_transformers_names_passes_as_mae_alone(tmp_path: Path) -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    decoder = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    theirs = ViTMAEForPreTraining(ViTMAEConfig(**HF_SIZES, **decoder, decoder_intermediate_size=64))
    with torch.no_grad():
        theirs.vit.embeddings.position_embeddings.copy_(mae(6, 6, 128))
    encoder = theirs.vit.state_dict()
    for path in (*hf_files(theirs, tmp_path), save(encoder, tmp_path, "encoder.pth")):
        checkpoint = read_checkpoint(path)
        assert recognise(checkpoint.state_dict).positions == "column first"
        assert settle_origin(find_backbone("mae_vit_mini"), checkpoint).remarks == ()
        with pytest.raises(InputError, match="insist on this one: --method supervised"):
            settle_origin(find_backbone("supervised_vit_mini"), checkpoint)


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


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_biases_of_dinov3_are_left_out_where_they_are_zero(tmp_path: Path, value: float) -> None:
    """timm's DINOv3 has none, as those of the small models are zero."""
    kind = next(kind for kind in LIBRARIES_FILES if kind.name == "transformers, DINOv3, biases, in memory")
    path, _ = kind.write(tmp_path)
    state = torch.load(path)
    names = [name for name in state if name.endswith(("q_proj.bias", "v_proj.bias"))]
    path = save(state | {name: torch.full_like(state[name], value) for name in names}, tmp_path, "filled.pth")
    backbone = "tests.support.small_architectures:dinov3"
    if value:
        with pytest.raises(InputError, match=r"4 of the file's keys have no place in the model: .*q_proj\.bias"):
            create_backbone(backbone, path)
        return
    report = create_backbone(backbone, path).load_report
    assert {report.dropped[name] for name in names} == {"zero, and this model has none"}


@pytest.mark.parametrize("kind", ["siglip", "siglip_vision_model"])
def test_siglips_gelu_is_the_approximated_one(tmp_path: Path, kind: str) -> None:
    """The default, which a published config.json leaves out; timm's ViT-B and L have the exact one."""
    path, _ = next(each for each in LIBRARIES_FILES if each.name == "transformers, SigLIP").write(tmp_path)
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}", "vision_config": {{"num_attention_heads": 2}}}}')
    with pytest.raises(InputError, match=r"is gelu_pytorch_tanh, and this model's gelu: .* act_layer=\"gelu_tanh\""):
        create_backbone("tests.support.small_architectures:siglip_exact", path)


@pytest.mark.parametrize(
    ("name", "variant"),
    [("SigLIP", "siglip"), ("DINOv3, biases", "dinov3"), ("AIMv2's image encoder", "aimv2")],
)
def test_families_by_their_looks(tmp_path: Path, name: str, variant: str) -> None:
    """DINOv3 was told to be DINOv2 with registers, or BEiT."""
    path, _ = next(each for each in LIBRARIES_FILES if each.name == f"transformers, {name}").write(tmp_path)
    looks = looks_of(read_checkpoint(path))
    assert (looks.family, looks.variant, looks.naming, looks.method) == ("ViT", variant, "transformers", None)
