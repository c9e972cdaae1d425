"""Steps are compared in the precision that jobs have on the device."""

import pytest
import torch
from torch import nn

from benchmarks.speed import vit_trunk
from benchmarks.speed.comparing.precision import named, precision_on
from benchmarks.speed.comparing.turns import Turns


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_without_bf16_takes_fp16(monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str) -> None:
    """PyTorch calculates as if it had it, at a fraction of the speed."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16)
    assert precision_on("cuda") == precision and precision_on("cpu") == "fp32"
    assert (named(precision_on("cuda")), named("fp32")) == (f"{precision} autocast", "fp32")
    turns = dict.fromkeys(vit_trunk._SIDES, Turns([1.0], 1.0))
    told = [each.what for each in vit_trunk.comparisons(turns, 1024, 4, "cuda")]
    assert all(f"forward and backward, {precision} autocast" in each for each in told)


def test_a_step_on_the_cpu_is_in_single_precision() -> None:
    trunk = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    found = list[torch.dtype]()
    trunk[0].register_forward_hook(lambda module, given, output: found.append(output.dtype))
    vit_trunk.make_step(trunk, 8, 1, "cpu")()
    assert found == [torch.float32]
