"""Lines about the autoencoder and the classifier: the device's losses and gradients beside the processor's."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from backbones.images.normalisation import IMAGENET
from backbones.training.precision import Precision
from benchmarks.selftest.exactness import Tolerance, exact_products, in_double, judged, model_errors, relative
from benchmarks.selftest.lines import Bench, Found, Line

BLOCKS = 4
"""Of a ViT-B: real widths, and no more depth than shows a fault."""

TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(loss=1e-5, whole=2e-5, each=2e-4),
    "fp16": Tolerance(loss=5e-4, whole=5e-3, each=1e-2),
    "bf16": Tolerance(loss=2e-3, whole=3e-2, each=6e-2),
}
"""Single precision rounds by 6e-8, of which a few blocks make 2e-7 on a CPU; TF32, or a constant of lower precision,
would make some 1e-3. fp16 rounds by 5e-4 and bfloat16 by 4e-3, which makes 5e-3 of the gradients on a CPU. The worst
parameter's are off by 1e-3 (fp16) and 8e-3 (bf16) on an H100."""


def autoencoder(bench: Bench) -> Found:
    """MAE's loss and gradients under one and the same mask."""
    from backbones import create_mae

    model = create_mae("mae_vit_base_patch16", depth=BLOCKS, decoder_depth=2).train()
    images, noise = torch.randn(4, 3, 224, 224), torch.rand(4, 196)

    def loss_of(model: nn.Module, device: str) -> Tensor:
        loss: Tensor = model(images.to(device), noise=noise.to(device))[0]
        return loss

    return judged(model_errors(model, lambda model: model, loss_of, bench.device), TOLERANCES)


def classifier(bench: Bench) -> Found:
    """Loss and gradients of a batch under mixup and cutmix, and the predictions' own losses."""
    from backbones import create_backbone
    from tasks.classification.augmentation import BatchAugmentation
    from tasks.classification.classifier import ClassificationStep, add_head
    from tasks.classification.recipe import FineTuningAugmentation

    network = create_backbone("random_vit_base")
    network.blocks = network.blocks[:BLOCKS]  # type: ignore[index]
    head = add_head(network, 1000, "avg").get_submodule("head")
    nn.init.normal_(head.get_parameter("weight"), std=0.02)  # else all gradients but its own are next to nothing
    # What random erasing fills in is drawn by the device, from numbers of its own.
    augmentation = BatchAugmentation(FineTuningAugmentation(random_erasing=0), 1000, IMAGENET)
    step = ClassificationStep(network, augmentation, "fp32").train()
    images, labels = torch.randint(256, (4, 3, 224, 224), dtype=torch.uint8), torch.randint(1000, (4,))

    def loss_of(step: nn.Module, device: str) -> Tensor:
        np.random.seed(0)  # mixup's draws
        loss: Tensor = step(images.to(device), labels.to(device), "loss")["loss"]
        return loss

    def predicted(step: nn.Module, device: str) -> Tensor:
        with torch.no_grad(), exact_products():
            losses: Tensor = step.eval()(images.to(device), labels.to(device), "predict")[0]["loss"]
        return losses

    double = copy.deepcopy(step)
    exact = predicted(in_double(double, double.network), "cpu")
    found = judged(model_errors(step, lambda step: step.get_submodule("network"), loss_of, bench.device), TOLERANCES)
    error = relative(predicted(step, bench.device), exact)
    return replace(
        found,
        fine=found.fine and error <= TOLERANCES["fp32"].loss,
        measured=f"{found.measured}; fp32 predictions {error:.1e}",
        figures={**found.figures, "fp32_prediction_error": error},
    )


WHOLE_IMAGES = (
    Line(
        "mae-parity",
        "autoencoder's loss and gradients against double precision on the CPU",
        {"cuda": 10, "cpu": 10},
        autoencoder,
    ),
    Line(
        "classifier-parity",
        "classifier's loss and gradients under mixup, and predictions, against double precision on the CPU",
        {"cuda": 10, "cpu": 15},
        classifier,
    ),
)
