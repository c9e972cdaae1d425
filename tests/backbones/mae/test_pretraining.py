"""Pre-training: it learns, its encoder loads in timm, its pictures show what they claim, broken images are named."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from backbones.errors import InputError
from backbones.images.crops import evaluation_crop, horizontal_flip, random_resized_crop
from backbones.images.folders import find_images
from backbones.images.normalisation import HALF, IMAGENET, Normalisation
from backbones.images.pixels import normalise
from backbones.images.reading import read_image
from backbones.mae.model import create_mae
from backbones.mae.reconstructions import reconstruct
from backbones.pretraining.images import UnlabelledImages
from backbones.pretraining.settings import PretrainingAugmentation
from backbones.training.randomness import mix
from benchmarks.running.cells import run_pretraining
from benchmarks.running.preparing import FinishedCell

SETTINGS = [
    "optimizer.batch_size=40",
    "optimizer.base_lr=4e-3",
    "schedule.epochs=6",
    "runtime.workers=0",
    "runtime.log_every=8",
    "runtime.pictures_every=3",
]


@pytest.fixture(scope="module")
def data(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unlabelled images, one of them truncated, one of them text."""
    root = tmp_path_factory.mktemp("pretraining") / "images"
    root.mkdir()
    images = find_images(mini / "unlabelled")
    for path in images:
        (root / path.name).symlink_to(path)
    for path, content in ((images[7], images[7].read_bytes()[:-200]), (images[100], b"no image at all, but text")):
        (root / path.name).unlink()
        (root / path.name).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def cell(data: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedCell:
    """A finished pre-training of the mini model."""
    return run_pretraining("mae_vit_mini", data, tmp_path_factory.mktemp("runs"), seed=3, overrides=SETTINGS)


@pytest.fixture(scope="module")
def images(mini: Path) -> Tensor:
    """Three of the images, uint8 (3, 3, 48, 48)."""
    paths = find_images(mini / "unlabelled")[:3]
    return torch.stack([evaluation_crop(read_image(path), 48) for path in paths])


def losses(cell: FinishedCell) -> list[float]:
    return [json.loads(line)["loss"] for line in (cell.directory / "log.jsonl").read_text().splitlines()]


def test_the_loss_falls(cell: FinishedCell) -> None:
    found = losses(cell)
    assert len(found) == 6
    assert found[-1] < found[0] - 0.1
    assert cell.record.train_loss == pytest.approx(found[-1])
    (metric,) = cell.record.metrics
    assert (metric.name, metric.value) == ("reconstruction_loss", cell.record.train_loss)


def test_the_encoder_loads_in_timm(cell: FinishedCell, images: Tensor) -> None:
    """By timm's own loader, and with the features of the autoencoder's encoder."""
    path = cell.directory / "checkpoints/encoder.pth"
    model: Any = timm.create_model("vit_mini_patch8_48", num_classes=0, checkpoint_path=str(path)).eval()
    content = torch.load(path, weights_only=True)
    assert model.state_dict().keys() == content["model"].keys()
    assert (content["arch"], content["method"], content["image_size"]) == ("vit_mini_patch8_48", "MAE", 48)
    assert content["grid"] == "6×6"

    autoencoder = create_mae("mae_vit_mini_patch8").eval()
    whole = torch.load(cell.directory / "checkpoints/autoencoder.pth", weights_only=True)
    autoencoder.load_state_dict(whole["model"])
    with torch.no_grad():
        features = autoencoder.forward_features(normalise(images, IMAGENET))
        torch.testing.assert_close(model.forward_features(normalise(images, IMAGENET)), features, rtol=1e-5, atol=1e-5)
        fresh: Any = timm.create_model("vit_mini_patch8_48", num_classes=0).eval()
        assert not torch.allclose(fresh.forward_features(normalise(images, IMAGENET)), features, atol=0.1)


def test_the_exported_weights_are_those_of_the_last_checkpoint(cell: FinishedCell) -> None:
    folder = cell.directory / "checkpoints"
    last = torch.load(folder / "iteration_48.pth", weights_only=True)["model"]
    whole = torch.load(folder / "autoencoder.pth", weights_only=True)["model"]
    assert {f"network.{name}" for name in whole} <= last.keys()
    assert all(torch.equal(last[f"network.{name}"], tensor) for name, tensor in whole.items())


def test_less_memory_or_smaller_steps_change_nothing(cell: FinishedCell, data: Path, tmp_path: Path) -> None:
    """The same run, its activations computed again; and one of smaller steps, which nothing looks at."""
    again = [*SETTINGS, "runtime.activation_checkpointing=true"]
    found = run_pretraining("mae_vit_mini", data, tmp_path / "again", seed=3, overrides=again)
    assert found.record.key == cell.record.key
    assert losses(found) == losses(cell)
    assert found.record.checkpoint_sha256 == cell.record.checkpoint_sha256
    smaller = [
        "optimizer.batch_size=40",
        "schedule.epochs=1",
        "schedule.warmup_epochs=0",
        "runtime.batch_per_device=20",
    ]
    record = run_pretraining("mae_vit_mini", data, tmp_path / "smaller", seed=3, overrides=smaller).record
    assert (record.images_per_step, record.batch_norm_images, record.mixup_images) == (20, None, None)
    assert not [deviation for deviation in record.deviations if "reference 40" in deviation]


def test_broken_images_are_replaced_and_named(cell: FinishedCell, data: Path, mini: Path) -> None:
    paths = find_images(mini / "unlabelled")
    broken = [data / paths[7].name, data / paths[100].name]
    assert [entry.split(":")[0] for entry in cell.record.corrupt_images] == [str(path) for path in broken]
    assert cell.record.corrupt_images[1].endswith("text, not an image")

    damaged = find_images(data)
    without = [*damaged[:7], damaged[8], *damaged[8:]]
    replaced, expected = (UnlabelledImages(p, 48, PretrainingAugmentation(), 0)[(7, 0)] for p in (damaged, without))
    assert list(replaced["corrupt"]) == [str(broken[0])]
    assert expected["corrupt"] == {}
    assert torch.equal(replaced["images"], expected["images"])


def test_too_many_broken_images_are_refused(mini: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for number, path in enumerate(find_images(mini / "unlabelled")[:60]):
        (root / path.name).write_bytes(path.read_bytes() if number % 2 else b"text")
    with pytest.raises(InputError, match=r"of 60 training images are unreadable, the first is .*text"):
        run_pretraining("mae_vit_mini", root, tmp_path / "out", seed=0, overrides=[*SETTINGS, "schedule.epochs=2"])
    assert not list(tmp_path.glob("out/**/record.json"))


def test_crops_depend_on_seed_epoch_and_index_alone(mini: Path) -> None:
    paths = find_images(mini / "unlabelled")
    first, again, other = (UnlabelledImages(paths, 48, PretrainingAugmentation(), seed) for seed in (0, 0, 1))
    reference = first[(5, 2)]["images"]
    assert reference.shape == (3, 48, 48) and reference.dtype == torch.uint8
    assert torch.equal(again[(5, 2)]["images"], reference)
    for different in (first[(5, 3)], other[(5, 2)], first[(6, 2)]):
        assert not torch.equal(different["images"], reference)


@pytest.mark.parametrize("tries", [10, 1])
def test_crops_take_as_many_tries_as_the_settings_say(tmp_path: Path, tries: int) -> None:
    """Ten by default, as torchvision's RandomResizedCrop in the reference's main_pretrain.py, line 124."""
    augment = PretrainingAugmentation() if tries == 10 else PretrainingAugmentation(crop_tries=tries)
    Image.effect_noise((50, 30), 80).convert("RGB").save(tmp_path / "wide.png")
    dataset = UnlabelledImages([tmp_path / "wide.png"], 24, augment, 0)
    pixels = read_image(tmp_path / "wide.png")
    for epoch in range(20):
        rng = Random(mix(0, "image", epoch, 0))
        expected = random_resized_crop(pixels, 24, (0.2, 1.0), (3 / 4, 4 / 3), rng, tries)
        assert torch.equal(dataset[(0, epoch)]["images"], horizontal_flip(expected, rng))


def test_pictures_are_saved_at_intervals_and_at_the_end(cell: FinishedCell) -> None:
    pictures = sorted((cell.directory / "pictures").iterdir())
    assert [path.name for path in pictures] == ["reconstruction_24.png", "reconstruction_48.png"]
    sizes = {Image.open(path).size for path in pictures}
    columns, rows = 6, 4  # eight images, three panels each
    assert sizes == {(columns * (48 + 2) + 2, rows * (48 + 2) + 2)}
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


@pytest.mark.parametrize("normalisation", [IMAGENET, HALF], ids=lambda each: each.label)
@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_a_reconstruction_leaves_visible_patches_as_they_are(
    images: Tensor, norm_pix_loss: bool, normalisation: Normalisation
) -> None:
    torch.manual_seed(0)
    model = create_mae("mae_vit_mini_patch8", norm_pix_loss=norm_pix_loss).train()
    noise = torch.rand(3, 36)
    panels = reconstruct(model, images, 0.75, noise, normalisation).view(3, 3, 3, 48, 48)
    assert model.training
    pixels = images / 255
    masked = noise.argsort(1).argsort(1) >= 9
    mask = masked.view(3, 1, 6, 6).repeat_interleave(8, 2).repeat_interleave(8, 3).expand(3, 3, 48, 48)
    original, hidden, painted = panels.unbind(1)
    torch.testing.assert_close(original, pixels, atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden[~mask], pixels[~mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(painted[~mask], pixels[~mask], atol=1e-5, rtol=0)
    colour = torch.tensor(normalisation.mean).view(3, 1, 1).expand_as(hidden)
    torch.testing.assert_close(hidden[mask], colour[mask])
    assert (painted[mask] - pixels[mask]).abs().mean() > 0.01
    assert panels.min() >= 0 and panels.max() <= 1


def test_a_perfect_prediction_paints_the_original(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture undoes the normalisation of the target patches."""
    model = create_mae("mae_vit_mini_patch8")
    patches = model.patchify(normalise(images, IMAGENET))
    deviation = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    target = (patches - patches.mean(-1, keepdim=True)) / deviation
    mask = (torch.rand(3, 36) < 0.75).float()
    monkeypatch.setattr(model, "forward", lambda *arguments: (torch.zeros(()), target, mask))
    panels = reconstruct(model, images, 0.75, torch.rand(3, 36), IMAGENET).view(3, 3, 3, 48, 48)
    torch.testing.assert_close(panels[:, 2], images / 255, atol=1e-4, rtol=0)
