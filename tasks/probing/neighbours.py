"""Nearest neighbours of features by cosine, the same on every machine.   Q queries, N kept features, C channels

A product in single precision finds candidates, a few more than are wanted; these are compared again in double
precision, and equal ones are taken in the order of their index. Batches, devices and processes round the product
differently, which may change the order of candidates, never the answer: where what was left out could have belonged
to it, or the product is coarser than single precision, the query is compared with everything again.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from backbones.training.progress_line import progress_line

QUERIES, KEPT = 1024, 65_536
"""Of how many queries and kept features a product is computed at once, whatever the batch: 256 MiB."""

SPARE = 16
"""Candidates above those that are wanted."""

_COMPARED = 1024  # queries whose candidates are compared again at once
_CHOSEN = 256  # queries whose candidates are taken from the product at once
_AT_ONCE = 256  # features that are brought to unit length at once, few enough for a processor's cache
_PRECISE = 8192  # kept features that are in memory in double precision at once
_UNSURE = 64  # queries that are compared with everything at once

_LANES, _DEPTH = 4, 8  # so many times so many features, of which the best is looked at first
_ROUNDING = 2.0**-40  # of similarities in double precision, whose last bits differ between devices


def nearest(queries_QC: Tensor, kept_NC: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most similar of the kept features for each query: similarities (Q, count) and indices (Q, count).

    Both are of finite features that are not zero; those of unit length need not be normalised before. Similarities are
    cosines in float64 in -1…1, the highest first, equal ones by their index. Raises ValueError for a count above N.
    """
    if not 1 <= count <= len(kept_NC):
        raise ValueError(f"{count} neighbours of {len(kept_NC)} features: expected 1 to {len(kept_NC)}")
    lengths_N = _lengths(kept_NC)
    rough_QK, indices_QK = _candidates(queries_QC, kept_NC, lengths_N, min(count + SPARE, len(kept_NC)))
    cosines_QK = _cosines(queries_QC, kept_NC, lengths_N, indices_QK)
    similarities, indices = _ordered(cosines_QK, indices_QK, count)
    if rough_QK.shape[1] < len(kept_NC):
        error = _rounding_error(queries_QC.shape[1])
        is_coarse = (cosines_QK - rough_QK).abs().amax(1) > error  # of single precision in name alone
        unsure = is_coarse | (similarities[:, -1] <= rough_QK.amin(1) + error)
        for rows in unsure.nonzero()[:, 0].split(_UNSURE):
            of_all = _all_cosines(queries_QC[rows], kept_NC, lengths_N)
            values, order = of_all.sort(dim=1, descending=True, stable=True)
            similarities[rows], indices[rows] = values[:, :count], order[:, :count]
    return similarities, indices


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
    return torch.cat([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in features.split(_AT_ONCE)])


def _candidates(queries_QC: Tensor, kept_NC: Tensor, lengths_N: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most similar by a product in single precision: similarities and indices (Q, count), in any order."""
    units = [_unit(block, _lengths(block)) for block in queries_QC.split(QUERIES)]
    none = [unit.new_empty((len(unit), 0)) for unit in units]
    best = [(values, values.long()) for values in none]
    products = kept_NC.new_empty(QUERIES * min(KEPT, len(kept_NC)), dtype=torch.float32)
    blocks = range(0, len(kept_NC), KEPT)
    with progress_line("neighbours", len(units) * len(blocks), "blocks") as line:
        for start in blocks:
            kept = _unit(kept_NC[start : start + KEPT], lengths_N[start : start + KEPT])
            for number, unit in enumerate(units):
                product = torch.mm(unit, kept.T, out=products[: len(unit) * len(kept)].view(len(unit), len(kept)))
                values, places = _together(_highest(part, count) for part in product.split(_CHOSEN))
                best[number] = _best_of(best[number], (values, places + start), count)
                line.update(start // KEPT * len(units) + number + 1)
    return _together(best)


def _unit(features: Tensor, lengths: Tensor) -> Tensor:
    """Of unit length in single precision."""
    units = torch.empty_like(features, dtype=torch.float32)
    for unit, values, length in zip(*(each.split(_AT_ONCE) for each in (units, features, lengths)), strict=True):
        unit.copy_(values / length[:, None])
    return units


def _together(parts: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Of one part of the queries after the other."""
    values, places = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(places)


def _best_of(some: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    if not some[0].shape[1]:
        return others
    values, places = (torch.cat(parts, 1) for parts in zip(some, others, strict=True))
    values, order = values.topk(min(count, values.shape[1]), 1, sorted=False)
    return values, places.gather(1, order)


def _highest(values_QN: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`topk`, which looks at groups first, then at lanes of groups: the best of each of those hold all that are wanted.

    A group has `_LANES` lanes side by side, a lane `_DEPTH` values far apart, which the processor compares at once.
    """
    groups = values_QN.shape[1] // (_DEPTH * _LANES)
    if groups <= count:
        return values_QN.topk(min(count, values_QN.shape[1]), 1, sorted=False)
    width, device = groups * _LANES, values_QN.device
    lanes_QW = values_QN[:, : _DEPTH * width].unflatten(1, (_DEPTH, width)).amax(1)
    groups_QK = lanes_QW.unflatten(1, (groups, _LANES)).amax(2).topk(count, 1, sorted=False).indices
    lanes_QM = (groups_QK[:, :, None] * _LANES + torch.arange(_LANES, device=device)).flatten(1)
    lanes_QK = _best_at(lanes_QW, lanes_QM, count)[1]
    places_QM = (lanes_QK[:, :, None] + torch.arange(_DEPTH, device=device) * width).flatten(1)
    if _DEPTH * width < values_QN.shape[1]:
        rest = torch.arange(_DEPTH * width, values_QN.shape[1], device=device)
        places_QM = torch.cat([places_QM, rest.expand(len(values_QN), -1)], 1)
    return _best_at(values_QN, places_QM, count)


def _best_at(values_QN: Tensor, places_QM: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest of the values at these places, and their places."""
    values_QK, order = values_QN.gather(1, places_QM).topk(count, 1, sorted=False)
    return values_QK, places_QM.gather(1, order)


def _cosines(queries_QC: Tensor, kept_NC: Tensor, lengths_N: Tensor, indices_QK: Tensor) -> Tensor:
    """With the kept features of these indices, in double precision with the last bits taken away: (Q, K).

    One kept feature after the other meets the queries whose candidate it is: each is read once, not once a query.
    """
    precise_QC, query_lengths_Q = queries_QC.double(), _lengths(queries_QC)
    pairs = [_Pairs.of(indices, len(kept_NC)) for indices in indices_QK.split(_COMPARED)]
    precise = kept_NC.new_empty((min(_PRECISE, len(kept_NC)), kept_NC.shape[1]), dtype=torch.float64)
    for number, kept in enumerate(kept_NC.split(_PRECISE)):
        kept = precise[: len(kept)].copy_(kept)
        for queries, each in zip(precise_QC.split(_COMPARED), pairs, strict=True):
            each.multiply(queries, kept, number)
    products_QK = torch.cat([each.in_order() for each in pairs]).view_as(indices_QK)
    return _rounded(products_QK / (lengths_N[indices_QK] * query_lengths_Q[:, None]))


@dataclass(frozen=True)
class _Pairs:
    """Queries and their candidates, by the candidates' index.

    wanted:   the kept feature of each pair, ascending
    asking:   its query
    places:   where it stands among all candidates of one query after the other
    borders:  before which pair each block of `_PRECISE` kept features begins, and the last one ends
    products: of both, in double precision
    """

    wanted: Tensor
    asking: Tensor
    places: Tensor
    borders: list[int]
    products: Tensor

    @staticmethod
    def of(indices_QK: Tensor, kept: int) -> "_Pairs":
        wanted, places = indices_QK.flatten().sort(stable=True)
        borders = torch.searchsorted(wanted, torch.arange(0, kept + _PRECISE, _PRECISE, device=wanted.device))
        products = torch.empty(len(wanted), dtype=torch.float64, device=wanted.device)
        return _Pairs(wanted, places // indices_QK.shape[1], places, borders.tolist(), products)

    def multiply(self, queries_QC: Tensor, kept_NC: Tensor, number: int) -> None:
        """Those of the block of kept features of this number."""
        here, start = slice(self.borders[number], self.borders[number + 1]), number * _PRECISE
        if here.start < here.stop:
            numbers = torch.arange(start, start + len(kept_NC) + 1, device=self.wanted.device)
            rows = torch.searchsorted(self.wanted[here], numbers)
            places = _sparse(rows, self.asking[here], (len(kept_NC), len(queries_QC)))
            self.products[here] = torch.sparse.sampled_addmm(places, kept_NC, queries_QC.T, beta=0.0).values()

    def in_order(self) -> Tensor:
        return torch.empty_like(self.products).scatter_(0, self.places, self.products)


def _sparse(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """A matrix with zeros at these places, which PyTorch calls a beta whenever the first one is made."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state", UserWarning)
        values = torch.zeros(len(columns), dtype=torch.float64, device=columns.device)
        return torch.sparse_csr_tensor(rows, columns, values, shape, check_invariants=False)


def _all_cosines(queries_QC: Tensor, kept_NC: Tensor, lengths_N: Tensor) -> Tensor:
    """As `_cosines`, with all that are kept: (Q, N)."""
    products = [queries_QC.double() @ kept.double().T for kept in kept_NC.split(_PRECISE)]
    return _rounded(torch.cat(products, 1) / (lengths_N * _lengths(queries_QC)[:, None]))


def _rounded(similarities: Tensor) -> Tensor:
    return torch.round(similarities / _ROUNDING) * _ROUNDING


def _ordered(similarities_QK: Tensor, indices_QK: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest first, equal ones by index, the first `count` of them."""
    indices_QK, order = indices_QK.sort(dim=1)
    similarities_QK, best = similarities_QK.gather(1, order).sort(dim=1, descending=True, stable=True)
    return similarities_QK[:, :count], indices_QK.gather(1, best)[:, :count]


def _rounding_error(channels: int) -> float:
    """At most, of a product of unit vectors in single precision: their channels' roundings all in one direction.

    N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 3.1: n u / (1 - n u), where n counts the
    roundings of both vectors to single precision too.
    """
    most = (channels + 2) * torch.finfo(torch.float32).eps / 2
    return most / (1 - most)
