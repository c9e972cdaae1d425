"""The classification step on a GPU that is only claimed, and that faults which are planted there are found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from backbones import create_backbone
from backbones.activations import recompute_activations
from backbones.images.normalisation import IMAGENET
from backbones.training.precision import wrap_optimizer
from tasks.classification.augmentation import BatchAugmentation
from tasks.classification.classifier import ClassificationStep, add_head, parameter_groups
from tasks.classification.metric import FIELDS, ClassificationMetric
from tasks.classification.recipe import FineTuningAugmentation
from tests.support.rehearsal import TWO_DEVICES, rehearsal

CLASSES, IMAGES, SIDE = 7, 4, 64


def mini() -> nn.Module:
    return create_backbone("random_vit_mini", image_size=SIDE, drop_path=0.1)


def again() -> nn.Module:
    network = mini()
    recompute_activations(network)
    return network


def resnet() -> nn.Module:
    return timm.create_model("resnet18", num_classes=0, layers=(1, 1, 1, 1), channels=(8, 16, 24, 32))


def step(network: nn.Module, **augment: float) -> ClassificationStep:
    settings = FineTuningAugmentation(**{"random_erasing": 1.0} | augment)
    return ClassificationStep(
        add_head(network, CLASSES, "avg"), BatchAugmentation(settings, CLASSES, IMAGENET), precision="bf16"
    )


def batch() -> dict[str, Any]:
    """One as it comes from a loader."""
    return {
        "images": torch.zeros(IMAGES, 3, SIDE, SIDE, dtype=torch.uint8),
        "labels": torch.arange(IMAGES) % CLASSES,
        "numbers": torch.arange(IMAGES),
        "readable": torch.ones(IMAGES, dtype=torch.bool),
        "corrupt": {},
    }


def rehearse(model: ClassificationStep) -> dict[str, Tensor]:
    """An update and an evaluation; what the latter found of each image."""
    with rehearsal() as gpu:
        model.to("cuda")
        groups = parameter_groups(model.network, 0.05, 0.7)
        wrapper = wrap_optimizer(torch.optim.AdamW(groups, fused=True), "bf16", accumulation=1, clip_grad_norm=None)
        losses = model.train().train_step(batch(), wrapper)
        with torch.no_grad():
            (found,) = model.eval().val_step(batch())
    assert gpu.trained == gpu.evaluated == {torch.bfloat16}
    assert {each.device.type for each in (losses["loss"], *found.values())} == {"cuda"}
    assert losses["loss"].dtype == found["loss"].dtype == torch.float32
    return found


@pytest.mark.parametrize(("network", "mixes"), [(mini, True), (again, False), (resnet, True)])
def test_an_update_and_predictions(network: Callable[[], nn.Module], mixes: bool) -> None:
    found = rehearse(step(network(), mixup=0.8 * mixes, cutmix=1.0 * mixes))
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == dict.fromkeys(FIELDS, (IMAGES,))


# ---- Planted faults


class WithoutFloat(TorchFunctionMode):
    """Leaves everything in the precision that it has."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is Tensor.float else func(*args, **kwargs or {})


def test_a_loss_without_float_is_found() -> None:
    with pytest.raises(AssertionError), WithoutFloat():
        rehearse(step(mini()))


def test_targets_without_device_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def targets(self: BatchAugmentation, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images.float(), torch.zeros(len(labels), self.classes)

    monkeypatch.setattr(BatchAugmentation, "__call__", targets)
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        rehearse(step(mini()))


def test_a_metric_that_takes_arrays_from_the_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rehearse(step(mini()))
    metric = ClassificationMetric(1_000, np.ones(1_000, dtype=int), allow_unreadable=False)
    with rehearsal():
        metric.process(batch(), [found])
        assert len(metric.results) == IMAGES
        monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: np.asarray(tensor).tolist())
        with pytest.raises(TypeError, match=r"Use Tensor\.cpu"):
            metric.process(batch(), [found])
