"""What networks in files of others see of an image, whose they are said to be, and what is expected of them."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torchvision import models

from backbones.errors import InputError
from benchmarks.planning.evaluations import PlannedEvaluation, plan_evaluation
from benchmarks.running.evaluating import origin_of
from results.reference import reference_value
from tasks.classification import published
from tasks.classification.others.expected import _MAE, _of_torchvision
from tasks.classification.samples import view_of
from tests.support.checkpoint_examples import save
from tests.support.small_classifiers import MAE, PEERS, VIT

MITE = "vit_mite_patch8_32"
BY_NAME = {peer.name: peer for peer in PEERS}


def plan_of(weights: Path, backbone: str | None, *overrides: str, recipe: str = "imagenet_vit_base") -> Any:
    return plan_evaluation(recipe, Path("images"), weights, overrides=list(overrides), backbone=backbone)


def is_seen_whole(plan: PlannedEvaluation, folder: Path) -> bool:
    """Whether the network sees a white image white, with no borders."""
    Image.new("RGB", (50, 40), "white").save(folder / "white.png")
    return bool((view_of(plan.recipe).read(folder / "white.png") == 255).all())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "resized", "interpolation"),
    [(224, 256, "bilinear"), (384, 384, "bicubic"), (240, 256, "bilinear"), (512, 512, "bilinear")],
)
def test_a_vit_of_torchvisions_is_shown_what_its_positions_are_for(
    size: int, resized: int, interpolation: str, tmp_path: Path
) -> None:
    """At 384 pixels as torchvision's own weights of that size are, which were trained end to end."""
    sizes: dict[str, int] = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 32}
    network = models.VisionTransformer(image_size=size, num_classes=8, **sizes)
    plan = plan_of(save(network.state_dict(), tmp_path), "vit_base_patch16_224")
    shown = plan.recipe.inference
    assert (plan.recipe.model.image_size, shown.resized, shown.interpolation) == (size, resized, interpolation)
    assert is_seen_whole(plan, tmp_path)


@pytest.mark.parametrize("size", [48, 320])
@pytest.mark.parametrize("name", ["torchvision, resnet18", "transformers, ViTForImageClassification"])
def test_images_of_another_size_are_cut_out_as_those_of_the_files(name: str, size: int, tmp_path: Path) -> None:
    weights, _ = BY_NAME[name].write(tmp_path)
    theirs, ours = (
        plan_of(weights, BY_NAME[name].backbone, *setting) for setting in ((), (f"model.image_size={size}",))
    )
    before, now = (view_of(plan.recipe) for plan in (theirs, ours))
    assert now.size == size and now.shape == before.shape
    assert now.side == int(size * before.side / before.size)
    assert is_seen_whole(ours, tmp_path)
    own = plan_of(weights, BY_NAME[name].backbone, f"model.image_size={before.size}")
    assert own.recipe == theirs.recipe


def test_no_image_is_resized_to_less_than_is_cut_out(tmp_path: Path) -> None:
    weights, _ = MAE.write(tmp_path)
    for overrides in (("inference.resized=30",), ("inference.resized=40", "model.image_size=48")):
        with pytest.raises(InputError, match=r"inference\.resized \(\d+\) is smaller than model\.image_size \(\d+\)"):
            plan_of(weights, MITE, *overrides)
    # 40 is less than the recipe's 224 pixels, and enough for the 32 of the file
    assert view_of(plan_of(weights, MITE, "inference.resized=40").recipe).side == 40


def test_a_folder_of_the_hub_that_would_be_given_borders_is_refused(tmp_path: Path) -> None:
    folder, _ = VIT.write(tmp_path)
    pixels = folder / "preprocessor_config.json"
    crop = '"do_center_crop": true, "crop_size": {"height": 40, "width": 40}, '
    pixels.write_text("{" + crop + pixels.read_text().lstrip()[1:])
    with pytest.raises(InputError, match="not known how to do this here"):
        plan_of(folder, MITE)


def test_a_resnet_is_nobodys_unless_something_tells_whose(tmp_path: Path) -> None:
    """The names are the same in timm's, torchvision's and MoCo v3's code."""
    state = timm.create_model("resnet18", num_classes=1000).state_dict()
    linear = {f"module.{name}": tensor for name, tensor in state.items()}
    timms = save({"state_dict": state, "arch": "resnet18"}, tmp_path, "timm.pth.tar")
    mocos = save({"state_dict": linear, "arch": "resnet18", "best_acc1": 74.6}, tmp_path, "moco.pth.tar")
    for weights in (timms, mocos):
        plan = plan_of(weights, None)
        assert (plan.known.method, plan.known.pretrain_data) == ("custom", "unstated")
        assert any("--backbone, resnet18.tv_in1k" in remark for remark in origin_of(plan).remarks)
    told = plan_of(timms, "resnet18.a1_in1k")
    assert (told.recipe.model.image_size, told.known.remark) == (288, "")


@pytest.mark.parametrize(
    ("weights", "row"),
    [
        (models.ResNet18_Weights.IMAGENET1K_V1, ("supervised", "IN1K w/ labels", "")),
        (models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1, ("SWAG", "unstated", "")),
    ],
)
def test_what_torchvision_published_is_known_by_its_bytes(
    weights: Any, row: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = _of_torchvision()[weights.url.removesuffix(".pth")[-8:]]
    monkeypatch.setattr(published, "find_classifier", lambda checkpoint: known)
    with torch.device("meta"):
        state = models.get_model(known.arch).state_dict()
    told = plan_of(save({name: torch.zeros(each.shape) for name, each in state.items()}, tmp_path), None).known
    assert (told.method, told.pretrain_data, told.remark) == row


@pytest.mark.parametrize(
    ("name", "pools"),
    [
        ("timm, vit_mite_patch8_32", "token"),
        ("timm, hub folder, average", "avg"),
        ("timm, deit_tiny_distilled_patch16_224.fb_in1k", "token"),
        ("torchvision, resnet18", "avg"),
    ],
)
def test_how_a_network_pools_is_recorded_and_not_for_the_call_to_choose(name: str, pools: str, tmp_path: Path) -> None:
    peer = BY_NAME[name]
    weights, _ = peer.write(tmp_path)
    plan = plan_of(weights, peer.backbone)
    assert plan.recipe.model.pool == pools
    plan.known.build(plan.recipe, 8)
    other = {"avg": "token", "token": "avg"}[pools]
    with pytest.raises(InputError, match=rf'key "model\.pool": .* has {pools}'):
        plan.known.build(plan_of(weights, peer.backbone, f"model.pool={other}").recipe, 8)


@pytest.mark.parametrize("file", _MAE)
@pytest.mark.parametrize("variant", ["c", "a", "r", "sketch"])
def test_maes_own_files_have_their_numbers_on_other_data(
    file: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, _ = MAE.write(tmp_path)
    monkeypatch.setattr(published, "find_classifier", lambda checkpoint: _MAE[file])
    recipe, metric = f"imagenet_{variant}", "mCE" if variant == "c" else "top1"
    plan = plan_of(weights, MITE, recipe=recipe)
    size = f"ViT-{file.removesuffix('.pth').rpartition('_')[2][0].upper()}"
    paper = reference_value("robustness", f"imagenet-{variant}", metric, "MAE", "IN1K", size)
    assert plan.published == {metric: paper}
    remarks = " ".join(origin_of(plan).remarks)
    assert "mae/blob/main/README.md" in remarks and "--set precision=fp16" in remarks
    assert ("does not say how images were cropped" in remarks) == (variant == "c")
    assert plan_of(weights, MITE, "inference.crop_ratio=0.9", recipe=recipe).published == {}
    assert plan_of(weights, MITE, recipe="imagenet_v2").published == {}
