"""Nearest neighbours of features by cosine, the same on every machine.   Q queries, N kept features, C channels

A product in single precision finds candidates, a few more than are wanted; these are compared again in double
precision, and equal ones are taken in the order of their index. Batches, devices and processes round the product
differently, which may change the order of candidates, never the answer: where what was left out could have belonged
to it, the query is compared with everything again.
"""

import torch
from torch import Tensor

QUERIES, KEPT = 512, 65_536
"""Of how many queries and kept features a product is computed at once, whatever the batch: 128 MiB."""

SPARE = 16
"""Candidates above those that are wanted."""

_COMPARED = 8  # queries whose candidates' features are in hand at once, within a processor's cache

_GROUP = 16  # features of which the best is looked at first: the whole product need not be sorted
_ROUNDING = 2.0**-40  # of similarities in double precision, whose last bits differ between devices


def nearest(queries_QC: Tensor, kept_NC: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most similar of the kept features for each query: similarities (Q, count) and indices (Q, count).

    Both are of finite features that are not zero; those of unit length need not be normalised before. Similarities are
    cosines in float64 in -1…1, the highest first, equal ones by their index. Raises ValueError for a count above N.
    """
    if not 1 <= count <= len(kept_NC):
        raise ValueError(f"{count} neighbours of {len(kept_NC)} features: expected 1 to {len(kept_NC)}")
    lengths_N = _lengths(kept_NC)
    found = [_nearest(block_QC, kept_NC, lengths_N, count) for block_QC in queries_QC.split(QUERIES)]
    if not found:
        empty = queries_QC.new_empty((0, count), dtype=torch.float64)
        return empty, empty.long()
    similarities, indices = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(indices)


def votes(similarities_QK: Tensor, labels_QK: Tensor, classes: int, temperature: float) -> Tensor:
    """The class of each query by its neighbours, each of which votes with exp(similarity / temperature): (Q,).

    Of classes with as many votes the first is taken. As facebookresearch/dino, eval_knn.py, votes; the largest
    similarity of a query is subtracted first, which changes no class and keeps small temperatures finite.
    """
    predictions = []
    for similarities, labels in zip(similarities_QK.split(QUERIES), labels_QK.split(QUERIES), strict=True):
        weights_BK = ((similarities - similarities[:, :1]) / temperature).exp()
        tally_BC = weights_BK.new_zeros((len(weights_BK), classes)).scatter_add_(1, labels, weights_BK)
        predictions.append(tally_BC.argmax(1))
    return torch.cat(predictions)


def _lengths(features: Tensor) -> Tensor:
    return torch.linalg.vector_norm(features, dim=1, dtype=torch.float64)


def _nearest(queries_QC: Tensor, kept_NC: Tensor, lengths_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
    unit_QC = (queries_QC / _lengths(queries_QC)[:, None]).float()
    rough_QK, indices_QK = _candidates(unit_QC, kept_NC, lengths_N, min(count + SPARE, len(kept_NC)))

    similarities_QK = torch.cat(
        [
            _cosines(queries, kept_NC, lengths_N, chosen)
            for queries, chosen in zip(queries_QC.split(_COMPARED), indices_QK.split(_COMPARED), strict=True)
        ]
    )
    similarities, indices = _ordered(similarities_QK, indices_QK, count)
    if rough_QK.shape[1] < len(kept_NC):
        unsure = similarities[:, -1] <= rough_QK[:, -1] + _rounding_error(queries_QC.shape[1])
        for row in unsure.nonzero()[:, 0].tolist():
            query_1C, everything_N = queries_QC[row : row + 1], torch.arange(len(kept_NC), device=kept_NC.device)
            of_all_N = torch.cat(
                [_cosines(query_1C, kept_NC, lengths_N, block[None])[0] for block in everything_N.split(KEPT)]
            )
            values, order = of_all_N.sort(descending=True, stable=True)
            similarities[row], indices[row] = values[:count], order[:count]
    return similarities, indices


def _candidates(unit_QC: Tensor, kept_NC: Tensor, lengths_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most similar by a product in single precision: (Q, count) similarities, the highest first, and indices."""
    best_QK = unit_QC.new_empty((len(unit_QC), 0))
    indices_QK = best_QK.long()
    for start in range(0, len(kept_NC), KEPT):
        block_NC = (kept_NC[start : start + KEPT] / lengths_N[start : start + KEPT, None]).float()
        values, places = _highest(unit_QC @ block_NC.T, count)
        best_QK, indices_QK = torch.cat([best_QK, values], 1), torch.cat([indices_QK, places + start], 1)
        best_QK, order = best_QK.topk(min(count, best_QK.shape[1]), 1)
        indices_QK = indices_QK.gather(1, order)
    return best_QK, indices_QK


def _highest(values_QN: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`topk`, which sorts only groups whose best is among the best of groups: those hold all that are wanted."""
    groups = values_QN.shape[1] // _GROUP
    if groups <= count:
        return values_QN.topk(min(count, values_QN.shape[1]), 1)
    whole_QGM = values_QN[:, : groups * _GROUP].unflatten(1, (_GROUP, groups))
    chosen_QK = whole_QGM.amax(1).topk(count, 1).indices
    members = torch.arange(_GROUP, device=values_QN.device)[:, None] * groups
    places_QM = (chosen_QK[:, None] + members).flatten(1)
    rest = torch.arange(groups * _GROUP, values_QN.shape[1], device=values_QN.device)
    places_QM = torch.cat([places_QM, rest.expand(len(values_QN), -1)], 1)
    values, order = values_QN.gather(1, places_QM).topk(count, 1)
    return values, places_QM.gather(1, order)


def _cosines(queries_QC: Tensor, kept_NC: Tensor, lengths_N: Tensor, indices_QK: Tensor) -> Tensor:
    """With the kept features of these indices, in double precision with the last bits taken away: (Q, K)."""
    precise_QC = queries_QC.double()
    products_QK = (kept_NC[indices_QK] * precise_QC[:, None]).sum(2)
    lengths_QK = lengths_N[indices_QK] * _lengths(queries_QC)[:, None]
    return torch.round(products_QK / lengths_QK / _ROUNDING) * _ROUNDING


def _ordered(similarities_QK: Tensor, indices_QK: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest first, equal ones by index, the first `count` of them."""
    indices_QK, order = indices_QK.sort(dim=1)
    similarities_QK, best = similarities_QK.gather(1, order).sort(dim=1, descending=True, stable=True)
    return similarities_QK[:, :count], indices_QK.gather(1, best)[:, :count]


def _rounding_error(channels: int) -> float:
    """At most, of a product of unit vectors in single precision: their channels' roundings all in one direction.

    N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 3.1: n u / (1 - n u).
    """
    most = channels * torch.finfo(torch.float32).eps / 2
    return most / (1 - most)
