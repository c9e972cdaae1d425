"""How many images share batch norm's statistics and a draw of mixup, and when a run may go on with others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from mmengine.model import BaseModel
from timm.layers import EvoNorm2dB0, EvoNorm2dS0, FrozenBatchNormAct2d
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from backbones.errors import InputError
from backbones.training.job import Job, Outcome, run_job
from backbones.training.step_images import StepImages, count_step_images, step_deviations, step_notes
from tasks.batch_norm import SynchronisedBatchNorm
from tests.support.points_runs import Points, PointsRecipe, recipe


class Mixing(PointsRecipe):
    """The same settings, of a training that mixes images."""

    @property
    def mixes_images(self) -> bool:
        return True


def mixing(**settings: Any) -> Mixing:
    return Mixing.model_validate(recipe(**settings).model_dump())


class InPlaceABNSync(nn.Module):
    """What inplace_abn has of that name, as far as it is seen from outside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))


class Stubborn(nn.Module):
    """Batch norm that is never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def train(self, mode: bool = True) -> "Stubborn":
        super().train(mode)
        self.norm.eval()
        return self


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: nn.LayerNorm(4), None),
        (lambda: nn.GroupNorm(2, 4), None),
        (lambda: FrozenBatchNorm2d(4), None),
        (Stubborn, None),
        (lambda: nn.BatchNorm1d(4), 2),
        (lambda: nn.BatchNorm2d(4, affine=False), 2),
        (lambda: nn.BatchNorm2d(4, track_running_stats=False).eval(), 2),
        (lambda: nn.SyncBatchNorm(4), 6),
        (lambda: SynchronisedBatchNorm(4), 6),
        (lambda: nn.Sequential(SynchronisedBatchNorm(4), nn.BatchNorm2d(4)), 2),
        (lambda: EvoNorm2dB0(4), 2),
        (lambda: EvoNorm2dS0(4), None),
        (lambda: FrozenBatchNormAct2d(4), None),
        (lambda: nn.InstanceNorm2d(4, track_running_stats=True), None),
        (lambda: InPlaceABNSync(4), 6),
        (lambda: timm.create_model("resnet18", num_classes=2), 2),
        (lambda: timm.create_model("vit_tiny_patch16_224", num_classes=2), None),
    ],
)
def test_batch_norm_is_found_in_any_model(build: Callable[[], nn.Module], expected: int | None) -> None:
    """Twelve images in two steps of three processes: six a step, two a process."""
    settings = recipe(optimizer={"batch_size": 12})
    found = count_step_images(build().train(), settings, accumulation=2, processes=3)
    assert found == StepImages(0, 6, expected, None)


def test_a_draw_of_mixup_is_for_one_process() -> None:
    settings = mixing(optimizer={"batch_size": 12})
    assert count_step_images(nn.Identity(), settings, accumulation=2, processes=3) == StepImages(0, 6, None, 2)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], []),
        ([(16, None)], []),
        ([(4, None)], ["batch norm over 4 images (reference 16)"]),
        ([(16, None), (4, None)], ["batch norm over 16 then 4 images (reference 16)"]),
        ([(None, 16)], []),
        ([(None, 256), (None, 32)], []),
        ([(None, 8)], ["mixup drawn for 8 images (reference 16 to 256)"]),
        ([(None, 1024)], ["mixup drawn for 1024 images (reference 16 to 256)"]),
    ],
)
def test_what_departs_from_the_reference(counts: list[tuple[int | None, int | None]], expected: list[str]) -> None:
    parts = [StepImages(since, 16, *count) for since, count in enumerate(counts)]
    assert step_deviations(parts, 16) == expected


class Normalised(BaseModel):
    """Predict the sum of a point's coordinates, with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.network = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def forward(self, points: Tensor, corrupt: object = None, mode: str = "loss") -> dict[str, Tensor]:
        return {"loss": (self.network(points)[:, 0] - points.sum(1)).square().mean()}


def train(directory: Path, settings: Any = None, **runtime: Any) -> Outcome:
    model = Normalised()
    groups = [{"params": list(model.network.parameters())}]
    settings = settings or recipe(runtime=runtime)
    return run_job(Job(model, Points(), groups, settings, directory, seed=0, title="test"))


def cut_back(directory: Path) -> None:
    """Leave the run as it was after its fourth update, of eight."""
    (directory / "checkpoints/iteration_8.pth").unlink()


def test_a_step_that_deviates_is_told_when_it_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = train(tmp_path, batch_per_device=3)
    assert outcome.step_images == (StepImages(0, 3, 3, None),)
    assert capsys.readouterr().err.startswith("deviates: batch norm over 3 images (reference 6)\n")


def test_a_run_does_not_go_on_with_other_statistics(tmp_path: Path) -> None:
    train(tmp_path)
    cut_back(tmp_path)
    with pytest.raises(InputError, match="batch norm over 3 images instead of 6") as caught:
        train(tmp_path, batch_per_device=3)
    for advice in ("steps of 6 images", "runtime.activation_checkpointing=true", "runtime.allow_changed_steps=true"):
        assert advice in str(caught.value)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["iteration_4.pth"]
    assert train(tmp_path).step_images == (StepImages(0, 6, 6, None),)


def test_insisted_on_it_goes_on_and_tells_both(tmp_path: Path) -> None:
    train(tmp_path)
    cut_back(tmp_path)
    outcome = train(tmp_path, batch_per_device=3, allow_changed_steps=True)
    assert outcome.step_images == (StepImages(0, 6, 6, None), StepImages(4, 3, 3, None))
    assert step_deviations(outcome.step_images, 6) == ["batch norm over 6 then 3 images (reference 6)"]
    assert step_notes(outcome.step_images) == [
        "resumed otherwise: batch norm over 6 images from update 1 on, 3 images from update 5 on"
    ]
    assert train(tmp_path).step_images == outcome.step_images  # complete: nothing is trained any more


def test_a_complete_training_may_be_evaluated_by_any_number(tmp_path: Path) -> None:
    expected = train(tmp_path).step_images
    assert train(tmp_path, batch_per_device=3).step_images == expected


def test_a_checkpoint_that_does_not_tell_is_gone_on_with(tmp_path: Path) -> None:
    train(tmp_path)
    cut_back(tmp_path)
    path = tmp_path / "checkpoints/iteration_4.pth"
    content = torch.load(path, weights_only=True)
    del content["tally"]["step_images"]
    torch.save(content, path)
    outcome = train(tmp_path, batch_per_device=3)
    assert outcome.step_images == (StepImages(4, 3, 3, None),)
    assert step_notes(outcome.step_images) == ["not known: how many images shared batch norm or mixup before update 5"]


def test_a_checkpoint_of_a_version_that_did_not_find_the_layer_is_gone_on_with(tmp_path: Path) -> None:
    train(tmp_path)
    cut_back(tmp_path)
    path = tmp_path / "checkpoints/iteration_4.pth"
    content = torch.load(path, weights_only=True)
    content["tally"]["step_images"][0]["batch_norm"] = None
    torch.save(content, path)
    assert train(tmp_path).step_images == (StepImages(0, 6, None, None), StepImages(4, 6, 6, None))


@pytest.mark.parametrize(("first", "then", "goes_on"), [(24, 8, False), (8, 24, False), (16, 32, True), (4, 4, True)])
def test_draws_of_mixup_that_count_as_equal_may_follow_each_other(
    tmp_path: Path, first: int, then: int, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the batch is, the draws are what is looked at; batch norm is not."""

    def count(images: int) -> None:
        monkeypatch.setattr("backbones.training.job.count_step_images", lambda *_: StepImages(0, 6, None, images))

    count(first)
    train(tmp_path)
    cut_back(tmp_path)
    count(then)
    if not goes_on:
        with pytest.raises(InputError, match=f"mixup drawn for {then} images instead of {first}"):
            train(tmp_path)
        return
    draws = [part.mixup for part in train(tmp_path).step_images]
    assert draws == list(dict.fromkeys([first, then]))
