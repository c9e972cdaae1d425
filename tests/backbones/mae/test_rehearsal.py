"""The masked autoencoder on a GPU that is only claimed, and that faults which are planted there are found."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

import backbones.linear
import backbones.pretraining.steps
from backbones.images.normalisation import IMAGENET, Normalisation
from backbones.mae.model import MaskedAutoencoder, create_mae
from backbones.pretraining.steps import MaskedAutoencoderStep
from backbones.training import precision
from backbones.training.precision import Precision, wrap_optimizer
from tests.support.claimed_gpu import Kernels
from tests.support.rehearsal import TWO_DEVICES, rehearsal

PRODUCTS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def pretraining(**options: Any) -> MaskedAutoencoderStep:
    return MaskedAutoencoderStep(create_mae("mae_vit_mini_patch8", **options), 0.75, IMAGENET)


def update(step: MaskedAutoencoderStep, kind: Precision = "bf16") -> Tensor:
    """One, of a batch that comes from the CPU; the loss."""
    step.to("cuda")
    optimizer = torch.optim.AdamW(param_groups_weight_decay(step.network, 0.05), fused=True)
    wrapper = wrap_optimizer(optimizer, kind, accumulation=1, clip_grad_norm=1.0)
    images = torch.zeros(4, 3, *step.network.patch_embed.img_size, dtype=torch.uint8)
    loss: Tensor = step.train().train_step({"images": images, "corrupt": {}}, wrapper)["loss"]
    return loss


def rehearse(step: MaskedAutoencoderStep, kind: Precision = "bf16") -> Kernels:
    with rehearsal() as gpu:
        loss = update(step, kind)
    assert (loss.device.type, loss.dtype, loss.shape) == ("cuda", torch.float32, ())
    assert gpu.trained == {PRODUCTS[kind]}
    return gpu


@pytest.mark.parametrize("kind", PRODUCTS)
def test_an_update_in_each_precision(kind: Precision) -> None:
    rehearse(pretraining(norm_pix_loss=kind != "fp32"), kind)


@pytest.mark.parametrize(
    "options", [{"mask_sampling": "block"}, {"mask_sampling": "grid", "mask_tokens_in_encoder": True}]
)
def test_an_update_of_an_ablation(options: dict[str, Any]) -> None:
    rehearse(pretraining(**options))


def test_an_update_whose_activations_are_computed_again() -> None:
    step = pretraining()
    step.network.set_grad_checkpointing(True)
    rehearse(step)


@torch.no_grad()
def test_evaluation_gives_prediction_and_mask() -> None:
    model = create_mae("mae_vit_mini_patch8").eval()
    with rehearsal() as gpu, torch.autocast("cuda", torch.bfloat16):
        model.to("cuda")
        loss, prediction, mask = model(torch.zeros(2, 3, 48, 48, device="cuda"), noise=torch.rand(2, 36).to("cuda"))
        encoded = model.forward_features(torch.zeros(2, 3, 48, 48, device="cuda"))
    assert prediction is not None
    assert {each.device.type for each in (loss, prediction, mask, encoded)} == {"cuda"}
    assert (loss.dtype, prediction.dtype, prediction.shape) == (torch.float32, torch.bfloat16, (2, 36, 192))
    assert gpu.evaluated == {torch.bfloat16}


# ---- Planted faults


def test_a_constant_without_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def normalise(images: Tensor, normalisation: Normalisation) -> Tensor:
        return images / 255 - torch.tensor(normalisation.mean).view(3, 1, 1)

    monkeypatch.setattr(backbones.pretraining.steps, "normalise", normalise)
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        rehearse(pretraining())


def test_a_batch_that_is_left_on_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseDataPreprocessor, "cast_data", lambda self, data: data)
    with pytest.raises(RuntimeError, match="given 1 tensor"):
        rehearse(pretraining())


def test_a_mask_that_is_drawn_on_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indices on the CPU, which PyTorch itself would bring to the GPU, step by step."""

    def noise(self: MaskedAutoencoder, images: int, device: torch.device) -> Tensor:
        return torch.rand(images, 36)

    monkeypatch.setattr(MaskedAutoencoder, "draw_noise", noise)
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        rehearse(pretraining())


def test_a_tensor_that_does_not_move_with_the_model_is_found() -> None:
    """One that is neither parameter nor buffer."""
    step = pretraining()
    position = step.network._parameters.pop("decoder_pos_embed")
    step.network.decoder_pos_embed = position.detach()
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        rehearse(step)


def test_a_loss_that_is_not_in_single_precision_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(self: MaskedAutoencoder, predicted: Tensor, target: Tensor) -> Tensor:
        difference = predicted - target.to(predicted.dtype)
        return (difference * difference).mean()

    monkeypatch.setattr(MaskedAutoencoder, "_loss", loss)
    with pytest.raises(TypeError, match=r"a loss in torch\.bfloat16"):
        rehearse(pretraining())


def test_steps_without_autocast_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "autocast", lambda kind, device: nullcontext())
    with pytest.raises(AssertionError):
        rehearse(pretraining())


def test_a_layer_that_leaves_autocast_is_found() -> None:
    class Exact(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cuda", enabled=False):
                return super().forward(x.float())

    step = pretraining()
    step.network.decoder_pred = Exact(64, 192)
    with pytest.raises(AssertionError):
        rehearse(step)


@pytest.mark.skipif(not backbones.linear._HAS_ONEDNN, reason="oneDNN's product is for AVX-512")
def test_an_operator_that_only_processors_have_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones.linear, "_gains", lambda x, weight: True)
    with pytest.raises(NotImplementedError, match="has no kernel for a GPU"):
        rehearse(pretraining(), "fp32")
