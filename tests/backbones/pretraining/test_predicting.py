"""What `backbench predict` has an autoencoder paint."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from backbones.errors import InputError
from backbones.images.crops import evaluation_crop
from backbones.images.normalisation import IMAGENET
from backbones.images.pixels import normalise
from backbones.images.reading import read_image
from backbones.mae.model import create_mae
from backbones.pretraining.predicting import load_predictor
from backbones.pretraining.settings import ObjectiveRecipe
from backbones.weights.checkpoints import read_checkpoint
from tests.support.commands import run_directory
from tests.support.in_process import pretrain, refusal, success


@pytest.fixture(scope="module")
def run(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pre-training's directory."""
    out = tmp_path_factory.mktemp("runs")
    success(*pretrain(mini, out))
    return run_directory(out)


@pytest.fixture(scope="module")
def image(mini: Path) -> Path:
    return sorted((mini / "val").rglob("*.jpg"))[0]


def said(run: Path, image: Path, out: Path, *options: object) -> tuple[dict[str, float], bytes]:
    """What the document has of the image, and its picture."""
    success("predict", run, image, "--out", out, *options)
    (entry,) = json.loads((out / "predictions.json").read_text())["images"]
    return entry, Image.open(out / entry["picture"]).tobytes()


def test_the_loss_is_the_autoencoders(run: Path, image: Path, tmp_path: Path) -> None:
    entry, _ = said(run, image, tmp_path)
    model = create_mae("mae_vit_mini_patch8", image_size=48).eval()
    model.load_state_dict(torch.load(run / "checkpoints/autoencoder.pth", weights_only=True)["model"])
    pixels = normalise(evaluation_crop(read_image(image), 48)[None], IMAGENET)
    with torch.no_grad():
        loss, _, mask = model(pixels, 0.75, model.draw_noise(1, generator=torch.Generator().manual_seed(0)))
    assert entry["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert entry["hidden"] == mask.sum() == 27


def test_seed_and_mask_ratio_decide_what_is_hidden(run: Path, image: Path, tmp_path: Path) -> None:
    first, again = said(run, image, tmp_path), said(run, image, tmp_path)
    other, more = said(run, image, tmp_path, "--seed", 1), said(run, image, tmp_path, "--mask-ratio", 0.9)
    assert first == again and first[1] != other[1]
    assert (first[0]["hidden"], other[0]["hidden"], more[0]["hidden"]) == (27, 27, 33)


def test_a_ratio_that_hides_all_is_refused(run: Path, image: Path, tmp_path: Path) -> None:
    assert "mask" in refusal("predict", run, image, "--out", tmp_path, "--mask-ratio", 1)


def test_what_paints_nothing_is_refused(run: Path) -> None:
    recipe = ObjectiveRecipe.model_construct(model=type("Model", (), {"arch": "mine"})())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"mine is no masked autoencoder, so it paints nothing. Fine-tune"):
        load_predictor(recipe, read_checkpoint(run / "weights.safetensors"), IMAGENET)
