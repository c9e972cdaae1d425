"""What `evaluate` makes of a file of a whole segmentor, and files of the restated code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.trained.loading import load_trained
from benchmarks.planning.evaluations import PlannedEvaluation, plan_evaluation
from tasks.segmentation.segmentor import Segmentor
from tasks.segmentation.task import create_segmentor
from tasks.trained import PublishedNetwork, TrainedNetwork
from tests.support.mmseg_examples import as_mmseg
from tests.support.mmseg_files import RECIPE, randomise
from tests.support.restated_segmentors import RestatedSegmentor, Variant

CLASSES = ["wall", "sky", "tree", "road", "bed", "person", "door"]


def planned(path: Path, backbone: str | None, overrides: Sequence[str] = ()) -> PlannedEvaluation:
    """Under a recipe that agrees with the file in nothing."""
    recipe = path.parent / "small.yaml"
    recipe.write_text(RECIPE)
    return plan_evaluation(str(recipe), path.parent, path, overrides=[*overrides], backbone=backbone)


def trained_of(plan: PlannedEvaluation) -> TrainedNetwork:
    assert isinstance(plan.known, PublishedNetwork) and plan.weights
    return TrainedNetwork(plan.backbone, plan.weights, plan.known)


def own_segmentor(plan: PlannedEvaluation, classes: int) -> Segmentor:
    settings: Any = plan.recipe
    segmentor, *_ = create_segmentor(settings, plan.backbone, None, classes, 0, plan.normalisation, empty=True)
    trained = trained_of(plan)
    load_trained(segmentor, trained.checkpoint, trained.steps, trained.kind)
    return segmentor.eval()


def restated(variant: Variant = Variant()) -> RestatedSegmentor:  # noqa: B008
    """With random weights and batch statistics."""
    torch.manual_seed(1)
    with as_mmseg():
        model = RestatedSegmentor(variant, len(CLASSES))
    randomise(model)
    return model


def write_file(path: Path, weights: Mapping[str, Tensor], classes: list[str] | None = CLASSES) -> Path:
    """As mmcv before 2.0 saves it beside an optimizer."""
    meta = {"mmseg_version": "0.11.0", **({"CLASSES": tuple(classes), "PALETTE": [[0, 0, 0]]} if classes else {})}
    torch.save({"meta": meta, "state_dict": dict(weights), "optimizer": {"state": {}, "param_groups": []}}, path)
    return path
