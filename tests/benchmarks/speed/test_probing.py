"""What the probes' speed is compared with."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.speed import probing


def test_the_bare_product_finds_its_memory_once_as_the_search_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is new to the process costs a CPU a sixth of the product: 100,000 page faults in place of 25,000."""
    monkeypatch.setattr(probing, "QUERIES", 3)
    monkeypatch.setattr(probing, "KEPT", 5)
    queries, kept = probing.random_features(7, "cpu", 0), probing.random_features(11, "cpu", 1)
    places, multiply = set(), torch.mm

    def watched(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        places.add(out.data_ptr())
        return multiply(left, right, out=out)

    monkeypatch.setattr(torch, "mm", watched)
    total = probing.bare_product(queries, kept)
    assert len(places) == 1
    assert float(total) == pytest.approx(float((queries[::3] @ kept[::5].T).sum()), abs=1e-5)


def test_the_bare_product_waits_for_no_block() -> None:
    """A fake tensor has no numbers to wait for."""
    with FakeTensorMode():
        probing.bare_product(torch.rand(1500, 8), torch.rand(20, 8))
