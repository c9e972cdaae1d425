"""Encoders and classifiers in other libraries' names: these load all of them and compute the same; and the way back."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.adapters import build_pyramid
from backbones.errors import InputError
from backbones.exporting.encoders import export_classifier, export_encoder
from backbones.exporting.products import About, Product, Target, write_product
from backbones.images.normalisation import HALF
from backbones.mae.model import MaskedAutoencoder, create_mae
from backbones.registry import create_backbone
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.statements import read_statement
from tasks.classification.classifier import add_head
from tests.support import restated, small_architectures
from tests.support.checkpoint_examples import randomised

CLASSES = ("ant", "bee", "cat")
ABOUT = About("MAE", "IN1K", "ViT-B", HALF)
WITH_CLASSES = About("MAE", "IN1K, then mini w/ labels", "ViT-B", HALF, CLASSES)


def autoencoder() -> MaskedAutoencoder:
    made: Any = randomised(create_mae("mae_vit_mini_patch8"))
    return made


def classifier(backbone: nn.Module, pool: Any) -> nn.Module:
    return randomised(add_head(backbone, len(CLASSES), pool))


def vit_mini() -> nn.Module:
    return create_backbone("random_vit_mini")


def images(side: int = 48) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))


def written(product: Product, out: Path) -> Path:
    write_product(product, out)
    return out


def loaded(kind: str, folder: Path) -> Any:
    """A model of transformers, for which nothing was made up, left over or of another shape."""
    import transformers

    model, report = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def from_timm(folder: Path) -> nn.Module:
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def comes_back(path: Path, backbone: str, expected: dict[str, Tensor]) -> None:
    """The file is a backbone's, and its tensors are those that went out."""
    state = create_backbone(backbone, path).state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@torch.no_grad()
def test_an_encoder_loads_as_automodel_and_sees_what_it_saw(tmp_path: Path) -> None:
    model = autoencoder()
    folder = written(export_encoder(model, ABOUT, "transformers"), tmp_path / "vit")
    theirs = loaded("AutoModel", folder)
    assert type(theirs).__name__ == "ViTModel"
    expected = model.forward_features(images())
    found = theirs(images())
    close(found.last_hidden_state, expected)
    close(found.pooler_output, expected[:, 0])
    oblong = torch.randn(1, 3, 40, 72)
    assert theirs(oblong, interpolate_pos_encoding=True).last_hidden_state.shape == (1, 1 + 5 * 9, 128)
    comes_back(folder, "mae_vit_mini", model.encoder_state_dict())
    statement = read_statement(read_checkpoint(folder))
    assert (statement.method, statement.pretrain_data, statement.model) == ("MAE", "IN1K", "ViT-B")


@torch.no_grad()
def test_pixels_are_prepared_as_in_the_evaluation(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor

    folder = written(export_encoder(autoencoder(), ABOUT, "transformers"), tmp_path / "vit")
    prepared = AutoImageProcessor.from_pretrained(folder)(Image.new("RGB", (97, 61), (255, 0, 51)), return_tensors="pt")
    pixels = prepared["pixel_values"]
    assert pixels.shape == (1, 3, 48, 48)
    close(pixels.mean((0, 2, 3)), torch.tensor([1.0, -1.0, -0.6]))
    assert json.loads((folder / "preprocessor_config.json").read_text())["size"] == {"shortest_edge": 54}


@torch.no_grad()
def test_an_autoencoder_with_its_decoder_is_a_vit_mae(tmp_path: Path) -> None:
    model = autoencoder()
    folder = written(export_encoder(model, ABOUT, "transformers", decoder=True), tmp_path / "vit_mae")
    theirs = loaded("ViTMAEForPreTraining", folder)
    noise = torch.rand(2, 36, generator=torch.Generator().manual_seed(2))
    found = theirs(images(), noise=noise)
    loss, prediction, mask = model(images(), noise=noise)
    close(found.loss, loss)
    close(found.logits, prediction)
    assert torch.equal(found.mask, mask)
    comes_back(folder, "mae_vit_mini", model.encoder_state_dict())


@pytest.mark.parametrize(
    ("pool", "kind"), [("token", "ViTForImageClassification"), ("avg", "BeitForImageClassification")]
)
@torch.no_grad()
def test_a_classifier_of_transformers_gives_the_same_logits(tmp_path: Path, pool: str, kind: str) -> None:
    model = classifier(vit_mini(), pool)
    folder = written(export_classifier(model, WITH_CLASSES, "transformers"), tmp_path / "classifier")
    theirs = loaded("AutoModelForImageClassification", folder)
    assert type(theirs).__name__ == kind
    assert theirs.config.id2label == dict(enumerate(CLASSES))
    close(theirs(images()).logits, model(images()))
    assert read_statement(read_checkpoint(folder)).method == "MAE"
    again: Any = create_backbone("mae_vit_mini", folder).eval()
    assert again.load_report.method == "MAE" and not any("blocks" in name for name in again.load_report.initialised)
    own, other = (
        each.forward_intermediates(images(), indices=[3], intermediates_only=True, norm=False)[0]
        for each in (model, again)
    )
    close(other, own)


@pytest.mark.parametrize("pool", ["token", "avg"])
@torch.no_grad()
def test_a_beit_is_transformers_beit(tmp_path: Path, pool: str) -> None:
    beit = small_architectures._beit(32, use_rel_pos_bias=True, global_pool="token", use_abs_pos_emb=False)
    model = classifier(beit, pool)
    theirs = loaded(
        "AutoModelForImageClassification",
        written(export_classifier(model, WITH_CLASSES, "transformers"), tmp_path / "beit"),
    )
    close(theirs(images(32)).logits, model(images(32)))


@torch.no_grad()
def test_a_beits_encoder_is_transformers_too(tmp_path: Path) -> None:
    model = randomised(small_architectures.beit(32, 0.0))
    folder = written(export_encoder(model, About("BEiT", "IN1K", "x", HALF), "transformers"), tmp_path / "beit")
    close(loaded("AutoModel", folder)(images(32)).last_hidden_state, model.forward_features(images(32)))
    comes_back(folder, "tests.support.small_architectures:beit", model.state_dict())


@pytest.mark.parametrize("pool", ["token", "avg"])
@torch.no_grad()
def test_a_vit_of_a_name_of_our_own_is_timms(tmp_path: Path, pool: str) -> None:
    model = classifier(vit_mini(), pool)
    folder = written(export_classifier(model, WITH_CLASSES, "timm"), tmp_path / "timm")
    theirs: Any = from_timm(folder)
    assert torch.equal(theirs(images()), model(images()))
    config = theirs.pretrained_cfg
    assert (config["label_names"], config["num_classes"]) == (list(CLASSES), 3)
    assert (tuple(config["mean"]), tuple(config["std"])) == (HALF.mean, HALF.std)
    assert tuple(config["input_size"]) == (3, 48, 48)
    assert config["crop_pct"] == 0.875 and config["interpolation"] == "bicubic"


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
@torch.no_grad()
def test_models_of_timm_go_back_to_timm(tmp_path: Path, name: str) -> None:
    small = {"depths": (1, 1, 1, 1)} if name.startswith(("swin", "convnext")) else {}
    backbone = timm.create_model(name, num_classes=0, **small)
    model = classifier(backbone, "avg")
    folder = written(export_classifier(model, WITH_CLASSES, "timm"), tmp_path / "timm")
    theirs = from_timm(folder)
    assert torch.equal(theirs(images(224)), model(images(224)))
    state = theirs.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


@torch.no_grad()
def test_an_autoencoders_encoder_is_timms(tmp_path: Path) -> None:
    model = autoencoder()
    folder = written(export_encoder(model, ABOUT, "timm"), tmp_path / "timm")
    assert torch.equal(from_timm(folder)(images()), model.forward_head(model.forward_features(images())))
    comes_back(folder, "mae_vit_mini", model.encoder_state_dict())


def test_maes_file_has_the_decoder(tmp_path: Path) -> None:
    model = autoencoder()
    path = written(export_encoder(model, ABOUT, "mae"), tmp_path / "mae.pth")
    file = torch.load(path, weights_only=True)
    assert file["model"].keys() == model.state_dict().keys()
    comes_back(path, "mae_vit_mini", model.encoder_state_dict())
    again = create_mae("mae_vit_mini_patch8")
    again.load_state_dict(file["model"], strict=True)


@pytest.mark.parametrize(("pool", "norm"), [("token", "norm.weight"), ("avg", "fc_norm.weight")])
@torch.no_grad()
def test_maes_fine_tuned_file_has_its_norm_and_head(tmp_path: Path, pool: str, norm: str) -> None:
    """main_finetune.py loads such a file into models_vit's ViT, whose parameters are timm's and `fc_norm`."""
    model = classifier(small_architectures.vit(32, 0.0), pool)
    path = written(export_classifier(model, WITH_CLASSES, "mae"), tmp_path / "mae.pth")
    state = torch.load(path, weights_only=True)["model"]
    assert state.keys() & {"norm.weight", "fc_norm.weight"} == {norm}
    tokens = restated.vit_features(state, images(32))
    pooled = restated._normed(tokens[:, 1:].mean(1), state, "fc_norm", 1e-6) if pool == "avg" else tokens[:, 0]
    close(F.linear(pooled, state["head.weight"], state["head.bias"]), model(images(32)))


@torch.no_grad()
def test_mmsegmentations_backbone_begins_with_an_encoder(tmp_path: Path) -> None:
    from mmseg.models.backbones import MAE

    model = autoencoder()
    path = written(export_encoder(model, ABOUT, "mmseg"), tmp_path / "mmseg.pth")
    sizes = {"img_size": 48, "patch_size": 8, "embed_dims": 128, "num_layers": 4, "num_heads": 4}
    theirs = MAE(
        **sizes,
        out_indices=[3],
        norm_cfg={"type": "LN", "eps": 1e-6},
        init_values=1.0,
        init_cfg={"type": "Pretrained", "checkpoint": str(path)},
    )
    theirs.init_weights()
    theirs.eval()
    (found,) = theirs(images())
    expected = model.forward_intermediates(images(), indices=[3], intermediates_only=True, norm=False)[0]
    close(found, expected)
    comes_back(path, "mae_vit_mini", model.encoder_state_dict())


@pytest.mark.parametrize("pickled", [False, True])
@torch.no_grad()
def test_detectron2s_backbone_begins_with_an_encoder(tmp_path: Path, pickled: bool) -> None:
    from functools import partial

    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.modeling.backbone.vit import ViT

    model = autoencoder()
    product = export_encoder(model, ABOUT, "detectron2", pickled=pickled)
    path = written(product, tmp_path / ("vit.pkl" if pickled else "vit.pth"))
    sizes = {"img_size": 48, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4, "pretrain_img_size": 48}
    holder: Any = nn.Module()
    holder.backbone = nn.Module()
    holder.backbone.net = ViT(**sizes, norm_layer=partial(nn.LayerNorm, eps=1e-6))
    checkpointer = DetectionCheckpointer(holder)
    assert checkpointer.load(str(path)).keys() >= {"method", "pretrain_data"}
    expected = build_pyramid(model, "simple", image_size=48, window=None, relative_position=False).trunk(images())[-1]
    close(holder.backbone.net.eval()(images())["last_feat"], expected)
    assert any("pretrain_img_size=48" in remark for remark in product.remarks)


def refused(model: nn.Module, target: Target, *, whole: bool) -> str:
    with pytest.raises(InputError) as refusal:
        export_classifier(model, WITH_CLASSES, target) if whole else export_encoder(model, ABOUT, target)
    return str(refusal.value)


def test_what_a_target_does_not_have_is_refused() -> None:
    swin, dinov2 = small_architectures.swin(32, 0.0), small_architectures.dinov2_registers(32, 0.0)
    assert "SwinTransformer is no plain ViT" in refused(swin, "transformers", whole=False)
    assert "which the original ViT has not" in refused(dinov2, "mae", whole=False)
    assert "a classifier cannot be handed on to mmseg" in refused(classifier(vit_mini(), "avg"), "mmseg", whole=True)
    quick = small_architectures.clip_quickgelu(32, 0.0)
    assert "cannot be handed on" in refused(quick, "transformers", whole=False)
    with pytest.raises(InputError, match="--decoder"):
        export_encoder(autoencoder(), ABOUT, "timm", decoder=True)


def test_a_model_that_timm_would_build_otherwise_is_refused() -> None:
    """The weights fit, and mean something else."""
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1)
    model.blocks[0].mlp.act = nn.Tanh()
    assert "makes something else of the same weights" in refused(model, "timm", whole=False)
