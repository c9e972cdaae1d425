"""Batch norm over several processes is PyTorch's batch norm over all their images, and one layer to every library."""

import os
from pathlib import Path

import pytest
import torch
from detectron2.layers import batch_norm, get_norm
from mmcv.cnn import ConvModule
from torch import Tensor, nn

import tasks.batch_norm
from tasks.batch_norm import SynchronisedBatchNorm, dense_norm

CHANNELS = 5


def activations(offset: float = 0) -> Tensor:
    return torch.randn(8, CHANNELS, 7, 7, generator=torch.Generator().manual_seed(0)) + offset


def train(norm: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """One step under a loss in which every activation counts differently: what comes out and what is learnt."""
    x = x.clone().requires_grad_()
    found = norm(x)
    (found.sigmoid() * torch.arange(CHANNELS * 49).view(CHANNELS, 7, 7) / 100).sum().backward()
    gradients = {"x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    statistics = {"mean": norm.running_mean, "variance": norm.running_var}
    return {"found": found.detach(), **gradients, **statistics}


def test_in_one_process_it_is_batch_norm() -> None:
    found = train(SynchronisedBatchNorm(CHANNELS, eps=0.1), activations())
    torch.testing.assert_close(found, train(nn.BatchNorm2d(CHANNELS, eps=0.1), activations()), rtol=0, atol=0)


def train_in_one_of_three(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)  # the parent's threads are not in a fork
    os.environ["WORLD_SIZE"] = "3"
    store = torch.distributed.FileStore(str(directory / "store"), 3)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=3)
    share = activations().tensor_split([5, 8])[rank]
    torch.save(train(SynchronisedBatchNorm(CHANNELS), share), directory / f"{rank}.pth")
    torch.distributed.destroy_process_group()


def test_unequal_processes_normalise_as_one(tmp_path: Path) -> None:
    """Five images, three and none, as `nn.BatchNorm2d` does with all eight."""
    torch.multiprocessing.start_processes(train_in_one_of_three, (tmp_path,), nprocs=3, start_method="fork")
    expected = train(nn.BatchNorm2d(CHANNELS), activations())
    parts = [torch.load(tmp_path / f"{rank}.pth") for rank in range(3)]
    assert [len(part["found"]) for part in parts] == [5, 3, 0]
    for name in ("found", "x"):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), expected[name], rtol=1e-4, atol=1e-5)
    for name in ("weight", "bias"):
        torch.testing.assert_close(sum(part[name] for part in parts), expected[name], rtol=1e-4, atol=1e-4)
    for part in parts:
        torch.testing.assert_close(part["mean"], expected["mean"])
        # PyTorch keeps the unbiased variance, of 8 · 7 · 7 activations; detectron2 the plain one.
        plain = 0.9 + (expected["variance"] - 0.9) * (1 - 1 / (8 * 49))
        torch.testing.assert_close(part["variance"], plain)


def as_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that another process has the same activations."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(batch_norm.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(batch_norm, "differentiable_all_reduce", lambda vector: 2 * vector)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_over_processes_are_taken_in_single_precision(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """Activations whose mean is a hundred times their spread, as PyTorch's own batch norm handles them."""
    x = activations(100).to(dtype)
    expected_norm = nn.BatchNorm2d(CHANNELS)
    expected = expected_norm(x.float())
    as_two_processes(monkeypatch)
    norm = SynchronisedBatchNorm(CHANNELS)
    found = norm(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=2e-2)
    torch.testing.assert_close(norm.running_mean, expected_norm.running_mean)
    torch.testing.assert_close(norm.running_var, expected_norm.running_var, rtol=1e-2, atol=0)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    assert norm(x[:0]).shape == (0, CHANNELS, 7, 7)
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())


@pytest.mark.parametrize(("device", "expected"), [("cpu", SynchronisedBatchNorm), ("cuda", nn.SyncBatchNorm)])
def test_libraries_take_the_norm_of_each_device(
    monkeypatch: pytest.MonkeyPatch, device: str, expected: type[nn.Module]
) -> None:
    monkeypatch.setattr(tasks.batch_norm, "device_type", lambda: device)
    layer = ConvModule(3, CHANNELS, 1, norm_cfg={"type": dense_norm(), "requires_grad": True, "eps": 1e-3})
    names = ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
    assert list(layer.state_dict()) == names
    for norm, eps in ((layer.norm, 1e-3), (get_norm(dense_norm(), CHANNELS), 1e-5)):
        assert (type(norm), norm.num_features, norm.eps) == (expected, CHANNELS, eps)
