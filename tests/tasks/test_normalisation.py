"""What each task feeds its network: the images as torchvision, mmsegmentation or detectron2 would normalise them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from timm.layers import PatchEmbed
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from backbones import create_backbone, register_backbone
from backbones.images.normalisation import HALF, IMAGENET, Normalisation
from backbones.registry import _entries
from backbones.training.job import Job
from benchmarks.running.cells import run_task

DARK = Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
BACKBONE, BEIT = "dark_vit_mini", "beit_22k_vit_mini"
PLAIN = ["augment.mixup=0.0", "augment.cutmix=0.0", "augment.random_erasing=0.0", "augment.rand_augment=rand-m9"]
OVERRIDES = ["model.mean=[0.5,0.5,0.5]", "model.std=[0.5,0.5,0.5]"]
CASES = [
    pytest.param("random_vit_mini", [], IMAGENET, id="ImageNet's"),
    pytest.param(BACKBONE, [], DARK, id="the plug-in's"),
    pytest.param(BACKBONE, OVERRIDES, HALF, id="the recipe's"),
]

MakeJob = Callable[..., Job]


class StoppedError(Exception):
    """The job is there; it need not run."""


@pytest.fixture
def job_of(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    """The job that a command comes to, as the task has set it up, before its first step."""
    monkeypatch.setattr(sys.modules["backbones.registry"], "_entries", dict(_entries))

    def build(image_size: int | None, drop_path: float) -> nn.Module:
        return create_backbone("random_vit_mini", None, image_size, drop_path)

    fixed: dict[str, Any] = {"model": "ViT-mini", "needs_checkpoint": False}
    register_backbone(BACKBONE, method="Dark", mean=DARK.mean, std=DARK.std, **fixed)(build)
    register_backbone(BEIT, method="BEiT", pretrain_data="IN22K", **fixed)(build)

    def make(task: str, backbone: str, overrides: list[str], folder: str = ".") -> Job:
        jobs: list[Job] = []

        def stop(job: Job) -> None:
            jobs.append(job)
            raise StoppedError

        monkeypatch.setattr(f"tasks.{task}.task.run_job", stop)
        with pytest.raises(StoppedError):
            run_task(f"mini_{task}", mini / folder, backbone, tmp_path, seed=0, overrides=overrides)
        return jobs[0]

    return make


def seen_by(model: nn.Module, call: Callable[..., object], *arguments: object, **named: object) -> Tensor:
    """What the model's patch embedding is given by a call, the first time."""
    (embedding,) = [module for module in model.modules() if isinstance(module, PatchEmbed)]
    seen: list[Tensor] = []
    handle = embedding.proj.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    call(*arguments, **named)
    handle.remove()
    return seen[0]


def samples(dataset: Any, *draws: object) -> list[dict[str, Any]]:
    return [dataset[draw] for draw in draws]


@pytest.mark.parametrize(("backbone", "overrides", "expected"), CASES)
def test_a_classifier_is_fed_as_torchvision_would(
    job_of: MakeJob, backbone: str, overrides: list[str], expected: Normalisation
) -> None:
    job = job_of("classification", backbone, [*PLAIN, *overrides])
    assert job.evaluation is not None
    for mode, found in (
        ("loss", samples(job.dataset, (0, 0), (1, 0))),
        ("predict", samples(job.evaluation.dataset, 0, 1)),
    ):
        images = torch.stack([sample["images"] for sample in found])
        labels = torch.tensor([sample["labels"] for sample in found])
        seen = seen_by(job.model, job.model, images, labels, mode)
        reference = normalize(images / 255, list(expected.mean), list(expected.std))
        torch.testing.assert_close(seen, reference, rtol=0, atol=1e-5)
    colours = {operation.hparams["img_mean"] for operation in job.dataset.rand_augment.ops}  # type: ignore[attr-defined]
    assert colours == {tuple(round(255 * channel) for channel in expected.mean)}


@pytest.mark.parametrize(("backbone", "overrides", "expected"), CASES)
def test_a_segmentor_is_fed_as_mmsegmentation_would(
    job_of: MakeJob, backbone: str, overrides: list[str], expected: Normalisation
) -> None:
    """Its padding, which it adds after normalising, included."""
    job = job_of("segmentation", backbone, ["augment.ratio=[0.5,0.5]", *overrides], "ade20k")
    assert job.evaluation is not None
    found = samples(job.dataset, *((index, 0) for index in range(4)))
    batch = {
        name: torch.stack([torch.as_tensor(each[name]) for each in found]) for name in found[0] if name != "corrupt"
    }
    sizes = list(zip(batch["heights"].tolist(), batch["widths"].tolist(), strict=True))
    assert any(size != (96, 96) for size in sizes)
    processor = SegDataPreProcessor(
        mean=[255 * mean for mean in expected.mean],
        std=[255 * std for std in expected.std],
        size=(96, 96),
        pad_val=0,
    )
    crops = [image[:, :height, :width] for image, (height, width) in zip(batch["images"], sizes, strict=True)]
    samples_of_mmseg = [SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, *size))) for size in sizes]
    reference = processor({"inputs": crops, "data_samples": samples_of_mmseg}, training=True)["inputs"]
    seen = seen_by(job.model, job.model, "loss", **batch)
    torch.testing.assert_close(seen, reference, rtol=0, atol=1e-5)
    view = job.evaluation.dataset[0]["views"][0][None]
    with torch.no_grad():
        seen = seen_by(job.model.eval(), job.model.predict_labels, [view], view.shape[-2:])
    window = normalize(view[..., :96, :96] / 255, list(expected.mean), list(expected.std))
    torch.testing.assert_close(seen, window, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("backbone", "overrides", "expected"), CASES)
def test_a_detector_is_fed_as_detectron2_would(
    job_of: MakeJob, backbone: str, overrides: list[str], expected: Normalisation
) -> None:
    """In its pixel_mean and pixel_std, of which the padding of its images is the mean's colour."""
    job = job_of("detection", backbone, ["augment.scale=[0.5,0.5]", *overrides], "coco")
    assert job.evaluation is not None
    assert job.model.detector.pixel_mean.flatten().tolist() == pytest.approx([255 * mean for mean in expected.mean])
    assert job.model.detector.pixel_std.flatten().tolist() == pytest.approx([255 * std for std in expected.std])
    (training,) = samples(job.dataset, (0, 0))
    (evaluation,) = samples(job.evaluation.dataset, 0)
    for mode, sample in (("loss", training), ("predict", evaluation)):
        seen = seen_by(job.model.train(mode == "loss"), job.model, [sample["inputs"]], mode)
        image = sample["inputs"]["image"]
        reference = torch.zeros(1, 3, 128, 128)
        reference[0, :, : image.shape[1], : image.shape[2]] = normalize(
            image / 255, list(expected.mean), list(expected.std)
        )
        torch.testing.assert_close(seen, reference, rtol=0, atol=1e-5)


def test_a_backbone_whose_normalisation_depends_on_the_task_is_asked_for_it(job_of: MakeJob) -> None:
    assert job_of("classification", BEIT, []).model.augmentation.normalisation == HALF
    assert job_of("segmentation", BEIT, [], "ade20k").model.normalisation == IMAGENET
