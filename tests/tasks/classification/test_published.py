"""Classifiers that others trained, evaluated here and by their own code: the same logits, the same predictions."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from backbones.images.pixels import normalise
from backbones.weights.checkpoints import read_checkpoint
from benchmarks.planning.evaluations import PlannedEvaluation, plan_evaluation
from benchmarks.running.evaluating import run_evaluation
from tasks.classification.evaluating import load_classifier
from tasks.classification.samples import view_of
from tasks.trained import PublishedNetwork, TrainedNetwork
from tests.support.small_classifiers import CLASSES, MAE, PEERS, TIMM, VIT, Peer

RECIPE, CPU = "mini_classification", ["runtime.device=cpu", "runtime.workers=0", "precision=fp32"]
SIDES = [(333, 257), (41, 190), (64, 64), (33, 35), (500, 301)]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight classes of two images each, of odd sizes, in colour, grey and with a palette."""
    root = tmp_path_factory.mktemp("odd")
    for split in ("train", "val"):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = torch.randint(0, 256, (9, 11, 3), generator=torch.Generator().manual_seed(2 * label + number))
                image = Image.fromarray(pixels.byte().numpy()).resize(SIDES[(label + number) % len(SIDES)])
                kind = ("RGB", "L", "P")[label % 3]
                image.convert(kind).save(folder / f"{number}.png")
    return root


def planned(data: Path, weights: Path, backbone: str | None, *overrides: str) -> PlannedEvaluation:
    return plan_evaluation(RECIPE, data, weights, overrides=[*CPU, *overrides], backbone=backbone)


def logits_here(plan: PlannedEvaluation, files: list[Path]) -> Tensor:
    assert isinstance(plan.known, PublishedNetwork) and plan.checkpoint
    trained = TrainedNetwork(plan.backbone, read_checkpoint(plan.checkpoint), plan.known)
    recipe = plan.recipe
    step, _, _ = load_classifier(recipe, trained, CLASSES, 0, plan.normalisation)  # type: ignore[arg-type]
    images = torch.stack([view_of(recipe).read(file) for file in files])  # type: ignore[arg-type]
    with torch.no_grad():
        return step.network.eval()(normalise(images, plan.normalisation))


LARGE = (
    "timm, deit_tiny_distilled_patch16_224.fb_in1k",
    "transformers, DeiTForImageClassificationWithTeacher",
    "timm, resnet18.a1_in1k",
    "timm, levit_128s.fb_dist_in1k",
    "torchvision, swin_t",
    "torchvision, convnext_tiny",
)
MARKED = [pytest.param(peer, id=peer.name, marks=[pytest.mark.slow] * (peer.name in LARGE)) for peer in PEERS]


@pytest.mark.parametrize("peer", MARKED)
def test_the_logits_are_the_peers(peer: Peer, odd: Path, tmp_path: Path) -> None:
    weights, logits_of = peer.write(tmp_path)
    files = sorted(odd.glob("val/*/0.png"))[:6]
    theirs = torch.cat([logits_of(Image.open(file)) for file in files])
    ours = logits_here(planned(odd, weights, peer.backbone, "data.decoder=pillow"), files)
    difference = (ours - theirs).abs().max().item()
    print(f"{peer.name:45} {difference:.1e}, of logits up to {theirs.abs().max().item():.1f}")
    assert difference <= 1e-4
    assert torch.equal(ours.argmax(1), theirs.argmax(1))


@pytest.mark.parametrize("peer", [TIMM, VIT, MAE], ids=lambda peer: peer.name)
def test_the_evaluation_gives_the_peers_predictions(peer: Peer, odd: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    weights, logits_of = peer.write(tmp_path / "weights")
    cell = run_evaluation(
        *(RECIPE, odd, weights, tmp_path / "out"),
        overrides=[*CPU, "data.decoder=pillow"],
        backbone=peer.backbone,
    )
    answers = pd.read_csv(cell.directory / "per_image.csv")
    logits = torch.cat([logits_of(Image.open(odd / name)) for name in answers["image"]])
    assert answers["predictions"].tolist() == logits.argmax(1).tolist()
    assert len(answers) == 2 * CLASSES
    assert cell.record.trained == "elsewhere" and cell.record.backbone == peer.backbone
    assert any("trained elsewhere" in note for note in cell.record.notes)
    assert any("does not tell its classes" in note for note in cell.record.notes)
