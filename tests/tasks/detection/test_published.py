"""Others' detectors, saved and evaluated by their own code, and read and evaluated by ours: the same detections."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from pycocotools import mask as masks
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from backbones.registry import find_backbone
from backbones.trained.loading import load_trained
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.conversion import Weights
from benchmarks.planning.recipe import load_recipe
from benchmarks.running.evaluating import run_evaluation
from results import Record
from tasks.detection.detector import Detector
from tasks.detection.naming import read_detectron2, require_categories
from tasks.detection.published import recognise
from tasks.detection.recipe import DetectionRecipe
from tasks.detection.task import create_detector
from tasks.registry import TASKS
from tasks.trained import PublishedNetwork, TrainedNetwork, require_classes
from tests.support import detectors_of_others as others


def evaluated(file: Path, data: Path, out: Path, *overrides: str) -> tuple[Record, list[dict[str, Any]]]:
    cell = run_evaluation(
        "mini_detection", data, file, out, overrides=[*others.SETTINGS, *overrides], backbone=others.BACKBONE
    )
    return cell.record, json.loads((cell.directory / "detections.json").read_text())


def differences(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> dict[str, float]:
    """The largest, of scores, of boxes in pixels, and the share of the masks' pixels that differ."""
    key = lambda each: (each["image_id"], -round(each["score"], 4), each["category_id"])  # noqa: E731
    found, expected = sorted(found, key=key), sorted(expected, key=key)
    assert len(found) == len(expected) > 20
    for one, other in zip(found, expected, strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
    pairs = [*zip(found, expected, strict=True)]
    pixels = [masks.decode(one["segmentation"]) != masks.decode(other["segmentation"]) for one, other in pairs]
    return {
        "detections": len(pairs),
        "score": max(abs(one["score"] - other["score"]) for one, other in pairs),
        "box": max(float(np.abs(np.subtract(one["bbox"], other["bbox"])).max()) for one, other in pairs),
        "mask": float(np.concatenate([each.ravel() for each in pixels]).mean()),
    }


@pytest.mark.parametrize(
    ("name", "build", "save", "suffix"),
    [
        ("detectron2's ViTDet, .pkl", others.vitdet, others.save_pkl, "jpg"),
        ("MIMDet's ViT with FPN, .pth", others.mimdet, others.save_pth, "png"),
    ],
)
def test_the_same_detections(
    name: str, build: Callable[[], nn.Module], save: Callable[[nn.Module, Path], Path], suffix: str, tmp_path: Path
) -> None:
    model, data = build(), others.odd_images(tmp_path / "coco", suffix)
    record, found = evaluated(save(model, tmp_path), data, tmp_path / "runs")
    worst = differences(found, others.found_by_detectron2(model, data))
    print(f"\n{name}: {worst}")
    assert worst["score"] < 1e-4 and worst["box"] < 1e-4 * max(max(shape) for shape in others.SHAPES)
    assert worst["mask"] < 1e-4
    assert record.trained == "elsewhere"
    assert record.precision == "fp32" and not any(line.startswith("precision") for line in record.deviations)
    assert any("does not name its 3 categories" in note for note in record.notes)
    assert record.load_report is not None and record.load_report["initialised"] == {}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return others.vitdet().state_dict()


@pytest.fixture(scope="module")
def older(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As files of a few years ago have it."""
    anchors = {"proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4)}
    mean, std = ([255 * each for each in values] for values in (IMAGENET.mean, IMAGENET.std))
    return {"pixel_mean": torch.tensor(mean).view(3, 1, 1), "pixel_std": torch.tensor(std), **state, **anchors}


def packaged(name: str, known: PublishedNetwork | None = None, *overrides: str) -> DetectionRecipe:
    """A packaged recipe, with what a file decides of it."""
    own = [f"{key}={json.dumps(value)}" for key, value in known.settings.items()] if known else []
    return cast("DetectionRecipe", load_recipe(name, [*own, *overrides], TASKS).recipe)


def read(
    state: Mapping[str, Tensor], folder: Path, name: str = "file.pth", *overrides: str, categories: int = 3
) -> Detector:
    """As `evaluate` does: recognised, built, loaded."""
    torch.save({"model": dict(state), "iteration": 9}, folder / name)
    checkpoint = read_checkpoint(folder / name)
    known = recognise(checkpoint, packaged("mini_detection"), others.BACKBONE)
    recipe = packaged("mini_detection", known, *overrides)
    detector, _, _ = create_detector(recipe, known.backbone, None, categories, 0, IMAGENET, empty=True)
    load_trained(detector, checkpoint, known.steps, known.kind)
    return detector


@pytest.mark.parametrize("build", [others.vitdet, others.mimdet])
def test_the_same_maps_in_double_precision(build: Callable[[], Any], tmp_path: Path) -> None:
    """Where rounding hides nothing."""
    theirs = build()
    ours = read(theirs.state_dict(), tmp_path).eval().double()
    images = torch.randn(
        1, 3, others.SIZE, others.SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        found, expected = ours.backbone(images), theirs.double().backbone(images)
    assert found.keys() == expected.keys()
    for name, level in expected.items():
        torch.testing.assert_close(found[name], level, rtol=0, atol=1e-11)


@pytest.mark.parametrize("sides", [(128, 128), (90, 50)])
def test_other_sizes_and_thresholds_are_detectron2s(sides: tuple[int, int], tmp_path: Path) -> None:
    """A larger image in a larger square, and one that does not fill its; more patches than the tables are made for."""
    model = others.vitdet()
    look = ["score_threshold=0.3", "nms_threshold=0.7", "detections=25", f"resize={[*sides]}"]
    overrides = [f"model.proposals={others.PROPOSALS}", *(f"inference.{each}" for each in look)]
    ours = read(model.state_dict(), tmp_path, "file.pth", *overrides).eval()
    model.backbone._square_pad = max(others.SIZE, sides[0])
    predictor: Any = model.roi_heads.box_predictor
    predictor.test_score_thresh, predictor.test_nms_thresh, predictor.test_topk_per_image = 0.3, 0.7, 25
    data = others.odd_images(tmp_path / "coco")
    found, expected = (others.found_by_detectron2(each, data, sides) for each in (ours, model))
    worst = differences(found, expected)
    print(f"\nat {sides}: {worst}")
    assert worst["detections"] <= 75 and min(each["score"] for each in found) > 0.3
    assert worst["score"] < 1e-4 and worst["box"] < 0.01 and worst["mask"] < 1e-4


@pytest.mark.parametrize(
    ("arch", "width", "depth", "heads"),
    [
        ("mae_vit_base", 768, 12, 12),
        pytest.param("mae_vit_large", 1024, 24, 16, marks=pytest.mark.slow),
        ("mae_vit_huge", 1280, 32, 16),
    ],
)
def test_the_names_and_shapes_of_released_sizes(
    arch: str, width: int, depth: int, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """detectron2, configs/common/models/mask_rcnn_vitdet.py and projects/ViTDet/configs/COCO; without their numbers."""
    config = LazyConfig.load(str(others.CONFIGS / "mask_rcnn_vitdet.py")).model
    quarter = depth // 4
    windowed = [block for block in range(depth) if (block + 1) % quarter]
    config.backbone.net.update(embed_dim=width, depth=depth, num_heads=heads, window_block_indexes=windowed)
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))  # of which numbers are asked
    with torch.device("meta"):
        theirs = instantiate(config)
        recipe = packaged(f"coco_simple_{arch.removeprefix('mae_')}")
        ours, _, _ = create_detector(recipe, arch, None, 80, 0, IMAGENET, empty=True)
    weights = Weights.from_file(theirs.state_dict())
    for step in (read_detectron2, require_categories):
        step(weights, ours)
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert {name: tensor.shape for name, tensor in weights.tensors.items()} == shapes
    assert set(weights.dropped) == set()


def test_pth_and_older_files_hold_the_same(older: dict[str, Tensor], tmp_path: Path) -> None:
    model = others.vitdet()
    path = others.save_pth(model, tmp_path)
    new = read(read_checkpoint(path).state_dict, tmp_path).state_dict()
    old = read(older, tmp_path, "old.pth").state_dict()
    assert new.keys() == old.keys() and all(torch.equal(new[name], old[name]) for name in new)
    assert (
        sum(tensor.numel() for tensor in new.values())
        == sum(tensor.numel() for tensor in model.state_dict().values()) - others.WIDTH
    )  # the position of the class token


NAME = "backbone.net.blocks.3.mlp.fc1.weight"
MASKS = "roi_heads.mask_head.predictor.weight"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda s: s | {NAME.replace("fc1", "fc3"): s.pop(NAME)},
            r"(?s)1 of the network's .* not in the file: .*fc1.*1 of",
        ),
        (lambda s: s.pop(MASKS), f"not in the file: {MASKS}"),
        (lambda s: s.update(more=torch.ones(1)), "have no place in the network: more"),
        (lambda s: s[NAME].fill_(math.nan), "infinite or undefined numbers"),
        (lambda s: s.update({NAME: s[NAME][:5]}), r"fc1.weight \(5, 32\) instead of \(128, 32\)"),
        (
            lambda s: s.update(pixel_mean=torch.tensor([103.53, 116.28, 123.675])),
            r"pixel_mean is \[103.53, .* red first",
        ),
        (lambda s: s.update({"backbone.net.pos_embed": torch.zeros(1, 23, 32)}), "for no square of patches"),
        (
            lambda s: s.update({"backbone.net.blocks.1.attn.rel_pos_h": torch.zeros(7, 16)}),
            r"its blocks attend to \[4, 6\] patches a side",
        ),
        (lambda s: s.update({"roi_heads.box_head.0.conv1.weight": torch.ones(1)}), "a Cascade Mask R-CNN, of whose"),
    ],
)
def test_one_that_is_not_whole(
    state: dict[str, Tensor], change: Callable[[dict[str, Tensor]], Any], why: str, tmp_path: Path
) -> None:
    copy = {name: tensor.clone() for name, tensor in state.items()}
    result = change(copy)
    with pytest.raises(InputError, match=why) as caught:
        read(result if isinstance(result, dict) else copy, tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "file.pth"))


def test_other_categories_than_the_datas(state: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it finds 3 categories, and the data have 5. Give data of the categories"):
        read(state, tmp_path, categories=5)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("backbone.bottom_up.encoder.blocks.0.norm1.weight", "MIMDet's own detector"),
        ("roi_heads.box_head.fc1.weight", "on a backbone that is not ViTDet's"),
        ("rpn_head.rpn_conv.weight", "mmdetection's"),
        (
            "blocks.0.norm1.weight",
            "no detector that is known here, .* Weights of a backbone alone are fine-tuned first",
        ),
    ],
)
def test_what_is_no_such_detector(name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=what):
        read({name: torch.ones(2)}, tmp_path)


def outline(width: int, depth: int, categories: int = 80) -> dict[str, Tensor]:
    """What is looked at of a released file of that size."""
    tables = [127 if (block + 1) % (depth // 4) == 0 else 27 for block in range(depth)]
    names = {f"backbone.net.blocks.{block}.attn.rel_pos_h": torch.zeros(rows, 2) for block, rows in enumerate(tables)}
    return names | {
        "backbone.net.patch_embed.proj.weight": torch.zeros(width, 1, 1, 1),
        "backbone.simfp_2.0.weight": torch.zeros(1),
        "roi_heads.box_predictor.cls_score.weight": torch.zeros(categories + 1, 1),
    }


def recognised(state: Mapping[str, Tensor], path: Path, backbone: str | None = None) -> PublishedNetwork:
    torch.save(dict(state), path)
    return recognise(read_checkpoint(path), packaged("coco_simple_vit_base"), backbone)


@pytest.mark.parametrize(
    ("width", "depth", "name", "model", "expected"),
    [
        (768, 12, "model_final_61ccd1.pkl", "base", (51.6, 45.9)),
        (1024, 24, "model_final_6146ed.pkl", "large", (55.5, 49.2)),
        (1280, 32, "model_final_7224f1.pkl", "huge", (56.7, 50.2)),
    ],
)
def test_released_files_are_known_by_their_names(
    width: int, depth: int, name: str, model: str, expected: tuple[float, float], tmp_path: Path
) -> None:
    """And are evaluated as they were, which is the packaged recipe."""
    known = recognised(outline(width, depth), tmp_path / name)
    assert (known.backbone, known.method, known.pretrain_data) == (f"mae_vit_{model}", "MAE", "IN1K")
    assert known.expected == dict(zip(("AP_box", "AP_mask"), expected, strict=True))
    assert packaged(f"coco_simple_vit_{model}", known) == packaged(f"coco_simple_vit_{model}")
    assert [known.classes[0], known.classes[-1], len(known.classes)] == ["person", "toothbrush", 80]
    other = recognised(outline(width, depth), tmp_path / "mine.pth")
    assert (other.method, other.expected, other.classes) == ("custom", {}, ())
    assert find_backbone(other.backbone).arch == find_backbone(known.backbone).arch
    lvis = recognised(outline(width, depth, 1203), tmp_path / name)
    assert (lvis.expected, lvis.classes) == ({}, ())


def test_a_released_head_on_other_data_of_80_categories(tmp_path: Path) -> None:
    known = recognised(outline(768, 12), tmp_path / "model_final_61ccd1.pkl")
    trained = TrainedNetwork(known.backbone, read_checkpoint(tmp_path / "model_final_61ccd1.pkl"), known)
    require_classes(trained, known.classes)
    with pytest.raises(InputError, match="was trained for other classes than the data have"):
        require_classes(trained, [*known.classes[:-1], "toaster"])


def test_a_trunk_of_no_known_size_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"12 blocks of 100 channels, as no ViT .* Say which model it is"):
        recognised(outline(100, 12), tmp_path / "file.pth")
    assert recognised(outline(100, 12), tmp_path / "file.pth", "mae_vit_base").backbone == "mae_vit_base"
