"""Nearest neighbours against scikit-learn's, and the same whatever comes with a query."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from tasks.probing import neighbours
from tasks.probing.neighbours import nearest


def features(count: int, seed: int, channels: int = 24) -> Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 20, 200, 3000])
def test_they_are_scikit_learns(count: int) -> None:
    queries, kept = features(70, 0), features(3000, 1)
    similarities, indices = nearest(queries, kept, count)
    peer = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(kept.double().numpy())
    distances, expected = peer.kneighbors(queries.double().numpy())
    torch.testing.assert_close(similarities, 1 - torch.from_numpy(distances), atol=1e-11, rtol=0)
    assert torch.equal(indices, torch.from_numpy(expected))


def test_equal_ones_are_taken_by_index_also_where_the_candidates_do_not_suffice() -> None:
    kept = features(4000, 0)
    kept[torch.arange(3900, 100, -19)] = kept[7].clone()  # 200 equal ones, of which some are wanted
    similarities, indices = nearest(kept[7:8] * 3, kept, 50)
    equal = (kept == kept[7]).all(1).nonzero()[:, 0]
    assert len(equal) == 201 and torch.equal(indices[0], equal[:50])
    assert (similarities == 1).all()


def test_they_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, kept = features(40, 0), features(5000, 1)
    kept[2500:] = kept[:2500]
    similarities, indices = nearest(queries, kept, 30)
    for split in (1, 7, 40):
        parts = [nearest(block, kept, 30) for block in queries.split(split)]
        assert torch.equal(torch.cat([part[0] for part in parts]), similarities)
        assert torch.equal(torch.cat([part[1] for part in parts]), indices)
    for name, size in {"QUERIES": 3, "KEPT": 640, "_COMPARED": 5, "_PRECISE": 700, "_UNSURE": 2}.items():
        monkeypatch.setattr(neighbours, name, size)
        again = nearest(queries, kept, 30)
        assert torch.equal(again[0], similarities) and torch.equal(again[1], indices)


def test_a_rough_product_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device that rounds otherwise: candidates in another order, of which some are missing."""
    queries, kept = features(20, 0), features(2000, 1)
    kept[1000:] = kept[:1000] + 1e-7 * features(1000, 2)
    expected = nearest(queries, kept, 40)
    rounded = neighbours._candidates

    def rough(*arguments: object) -> tuple[Tensor, Tensor]:
        values, indices = rounded(*arguments)  # type: ignore[arg-type]
        order = (values + 2e-7 * torch.randn_like(values)).argsort(1, descending=True)
        return values.gather(1, order), indices.gather(1, order)

    monkeypatch.setattr(neighbours, "_candidates", rough)
    again = nearest(queries, kept, 40)
    assert torch.equal(again[0], expected[0]) and torch.equal(again[1], expected[1])


def test_a_product_coarser_than_single_precision_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `torch.set_float32_matmul_precision("medium")`, which code of a backbone may call."""
    queries, kept = features(50, 0), features(1, 1) + 0.003 * features(5000, 2)  # close to each other
    expected = nearest(queries, kept, 20)
    unit = neighbours._unit
    monkeypatch.setattr(neighbours, "_unit", lambda *each: unit(*each).bfloat16().float())
    again = nearest(queries, kept, 20)
    assert torch.equal(again[0], expected[0]) and torch.equal(again[1], expected[1])


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 24])
def test_single_precision_rounds_by_no_more_than_is_allowed_for(channels: int) -> None:
    queries, kept = features(400, 0, channels), features(20_000, 1, channels)
    exact = F.normalize(queries.double()) @ F.normalize(kept.double()).T
    rough = F.normalize(queries.double()).float() @ F.normalize(kept.double()).float().T
    assert (rough - exact).abs().max() <= neighbours._rounding_error(channels)


def test_no_queries_and_too_many_neighbours() -> None:
    similarities, indices = nearest(features(0, 0), features(5, 1), 5)
    assert similarities.shape == indices.shape == (0, 5)
    with pytest.raises(ValueError, match="6 neighbours of 5 features: expected 1 to 5"):
        nearest(features(2, 0), features(5, 1), 6)
