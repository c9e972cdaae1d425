"""The faster linear layer against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import backbones.linear
from backbones.linear import Linear, linear, replace_linear_layers

onednn = pytest.mark.skipif(not backbones.linear._HAS_ONEDNN, reason="needs a processor with AVX-512")


@pytest.fixture(autouse=True)
def wide_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small layers take the way of the wide ones."""
    monkeypatch.setattr(backbones.linear, "_LEAST_WIDTH", 8)


@onednn
@pytest.mark.parametrize("rows", [(6,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_output_and_gradients_equal_those_of_pytorch(rows: tuple[int, ...], has_bias: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(*rows, 24, requires_grad=True)
    parameters = [torch.randn(16, 24, requires_grad=True)]
    if has_bias:
        parameters.append(torch.randn(16, requires_grad=True))
    ours, expected = linear(x, *parameters), F.linear(x, *parameters)
    assert "OneDnn" in ours.grad_fn.name()
    torch.testing.assert_close(ours, expected)
    direction = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours, [x, *parameters], direction),
        torch.autograd.grad(expected, [x, *parameters], direction),
    )


@onednn
def test_views_serve_as_input_and_weight() -> None:
    x = torch.randn(2, 7, 24)[:, 3:]
    weight = torch.randn(48, 24, requires_grad=True)
    torch.testing.assert_close(linear(x, weight[16:32]), F.linear(x, weight[16:32]))
    linear(x, weight[16:32]).sum().backward()
    assert weight.grad is not None
    assert not weight.grad[:16].any() and weight.grad[16:32].all()


@pytest.mark.parametrize("x", [torch.randn(24), torch.randn(0, 24), torch.randn(3, 24).bfloat16()])
def test_other_operands_take_pytorchs_way(x: torch.Tensor) -> None:
    weight = torch.randn(16, 24, dtype=x.dtype, requires_grad=True)
    output = linear(x, weight)
    assert "OneDnn" not in output.grad_fn.name()
    assert torch.equal(output, F.linear(x, weight))


def test_autocast_takes_pytorchs_way() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(3, 24), torch.randn(16, 24)).dtype == torch.bfloat16


def test_replacing_keeps_names_and_weights() -> None:
    model = nn.Sequential(nn.Linear(24, 16), nn.GELU(), nn.Linear(16, 8, bias=False))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(3, 24)
    expected = model(x)
    replace_linear_layers(model)
    assert [type(layer) for layer in model] == [Linear, nn.GELU, Linear]
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    torch.testing.assert_close(model(x), expected)
