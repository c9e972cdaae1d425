"""How the self-test measures errors, and its lines about models: they pass as it stands, and find planted faults."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.selftest.exactness import (
    exact_products,
    gradient_error,
    in_double,
    precisions,
    scaled_gradients,
    smooth,
)
from benchmarks.selftest.lines import Bench
from benchmarks.selftest.whole_images import WHOLE_IMAGES

AUTOENCODER, CLASSIFIER = WHOLE_IMAGES


def test_a_gradient_is_measured_by_itself_and_with_all_others() -> None:
    exact = {"large": torch.full((100,), 3.0), "small": torch.full((1,), 1.0)}
    found = {"large": exact["large"] * 1.001, "small": exact["small"] * 1.5}
    whole, each, worst = gradient_error(found, exact)
    assert (each, worst) == (pytest.approx(0.5), "small")
    assert whole == pytest.approx((100 * 0.003**2 + 0.5**2) ** 0.5 / 901**0.5)


def test_what_vanishes_is_measured_against_a_share_of_what_does_not() -> None:
    exact = {"large": torch.full((99,), 1.0), "none": torch.zeros(1)}
    found = {"large": exact["large"], "none": torch.full((1,), 1e-5)}
    assert gradient_error(found, exact)[1] == pytest.approx(1e-4, rel=0.01)


def test_a_small_gradient_is_measured_by_itself() -> None:
    """A thousandth of the others, as some of the detector's heads have it, and off by a hundredth."""
    exact = {"large": torch.full((99,), 1.0), "small": torch.full((9,), 1e-3), "none": torch.full((1,), 1e-15)}
    found = exact | {"small": exact["small"] * 1.01, "none": torch.full((1,), 1e-6)}
    assert gradient_error(found, exact)[1:] == (pytest.approx(0.01, rel=0.01), "small")


def test_a_gradient_that_is_no_number_is_the_worst_and_within_no_tolerance() -> None:
    exact = {"a": torch.ones(2), "b": torch.ones(2)}
    whole, each, worst = gradient_error({"a": torch.tensor([1.0, torch.nan]), "b": torch.zeros(2)}, exact)
    assert worst == "a" and each != each and whole != whole


def test_gradients_on_one_side_only_are_an_error() -> None:
    with pytest.raises(ValueError, match="gradients of b on one side only"):
        gradient_error({"a": torch.ones(1)}, {"a": torch.ones(1), "b": torch.ones(1)})


def test_tf32_is_off_within_the_block_only() -> None:
    before = torch.backends.cudnn.allow_tf32
    with exact_products():
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_double_takes_single_precision_and_a_smooth_model_has_no_relu() -> None:
    model = smooth(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    assert isinstance(model[1], nn.GELU)  # type: ignore[index]
    assert in_double(model, model)(torch.ones(1, 2)).dtype == torch.float64


def test_a_smooth_model_averages_where_rounding_would_choose_the_largest() -> None:
    """Of nearly equal values a GPU chose others than double precision: UPerNet's gradients were off by 3e-4 there."""
    first = torch.tensor([[[[1.0 + torch.finfo(torch.float32).eps, 1.0, 3.0]]]])
    second = first[..., [1, 0, 2]]

    def gradient(model: nn.Module, values: torch.Tensor) -> torch.Tensor:
        values = values.clone().requires_grad_()
        return torch.autograd.grad(model(values).sum(), values)[0]

    pooling = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True))
    assert not torch.equal(gradient(pooling, first), gradient(pooling, second))
    averaging = smooth(nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)))
    assert torch.equal(gradient(averaging, first), gradient(averaging, second))
    torch.testing.assert_close(averaging(first), torch.tensor([[[[1.0, 3.0]]]]))


@pytest.mark.slow
def test_the_autoencoder_passes_and_a_decoder_that_is_off_by_a_thousandth_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench("cpu", tmp_path, tmp_path)
    assert AUTOENCODER.run(bench).fine
    import backbones.mae.model as model

    sound: Any = model._last_block
    wrong = lambda block, x, skip: sound(block, x if x.dtype == torch.float64 else x * (1 + 1e-3), skip)  # noqa: E731
    monkeypatch.setattr(model, "_last_block", wrong)
    found = AUTOENCODER.run(bench)
    assert not found.fine
    assert float(found.figures["fp32_gradient_error"] or 0) > 1e-4


@pytest.mark.slow
def test_the_classifier_passes(tmp_path: Path) -> None:
    found = CLASSIFIER.run(Bench("cpu", tmp_path, tmp_path))
    assert found.fine, found.measured
    assert float(found.figures["fp32_prediction_error"] or 0) < 1e-6


@pytest.mark.parametrize(("units", "expected"), [(True, ("fp32", "bf16", "fp16")), (False, ("fp32", "fp16"))])
def test_bf16_is_left_out_where_a_gpu_only_emulates_it(
    units: bool, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: bool(including_emulation) or units
    )
    assert precisions("cuda") == expected
    assert precisions("cpu") == ("fp32", "bf16")


def test_gradients_in_half_precision_are_scaled_until_none_overflows() -> None:
    """A block's attention over 4,096 tokens overflowed on a GPU under a scale that others needed."""
    large, small = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    (of_large,) = scaled_gradients((large.half() * 1000).float(), [large], torch.full((3,), 100.0), "fp16")
    (of_small,) = scaled_gradients((small.half() * 1e-4).float(), [small], torch.full((3,), 1e-5), "fp16")
    torch.testing.assert_close(of_large, torch.full((3,), 1e5), rtol=1e-3, atol=0)
    torch.testing.assert_close(of_small, torch.full((3,), 1e-9), rtol=1e-2, atol=0)
