"""The published number that a run's own is to be held against."""

from collections.abc import Collection, Mapping
from typing import Any

from results.measurements import simplified
from results.paper_tables import ROBUSTNESS
from results.record import Metric, Record
from results.reference import reference_value

NO_PRETRAINING = "none"
"""What the tables call the pre-training data of a network that had none."""


def with_expected(
    record: Record, recipe_deviations: Collection[str] = (), published: Mapping[str, float] | None = None
) -> Record:
    """The record with what is expected of each of its metrics, see `expected_value`.

    published: of the very weights that it evaluated, by metric, on all of the recipe's data
    """

    def expected(metric: Metric) -> float | None:
        if not published:
            return expected_value(record, metric, recipe_deviations)
        whole = record.dataset == record.recipe_settings.get("dataset") and not record.evaluated_part(metric)
        return published.get(metric.name) if whole else None

    metrics = [metric.model_copy(update={"expected": expected(metric)}) for metric in record.metrics]
    return record.model_copy(update={"metrics": metrics})


def expected_value(record: Record, metric: Metric, recipe_deviations: Collection[str] = ()) -> float | None:
    """What the literature has for a record's method, pre-training data and model under its recipe; None for nothing.

    A recipe's own `expect` is a number of one method on one pre-training set, which its `expect_of` names, and says
    nothing of others. Where it is also the number of the paper's table, the recipe is the table's own, and the table's
    cell of the record's method is expected. Nothing is expected of a run that deviates otherwise than its recipe does
    as it stands (`recipe_deviations`), is of other data than the recipe's, or was evaluated on a part of them.
    """
    if record.table == ROBUSTNESS and record.trained and set(record.deviations) == set(recipe_deviations):
        return _of_robustness(record, metric)
    settings = record.recipe_settings
    if set(record.deviations) != set(recipe_deviations):
        return None
    if record.dataset != settings.get("dataset") or record.evaluated_part(metric):
        return None
    place, row = (record.table, record.dataset, metric.name), (record.method, record.pretrain_data, record.model)
    return expected_number(settings, place, row)


def expected_number(
    settings: Mapping[str, Any], place: tuple[str, str, str], row: tuple[str, str, str]
) -> float | None:
    """What the literature has at a place (table, data set, metric) for a row (method, pre-training data, model), under
    a recipe of these settings as they stand; see `expected_value`. What was not pre-trained has none under a recipe
    that fine-tunes what was: the table's number of it is of a recipe of its own (weights.yaml, "scratch")."""
    own, named = _mapping(settings, "expect").get(place[2]), _mapping(settings, "expect_of")
    if own is None:
        return None
    method, pretrain_data = str(named.get("method", "")), str(named.get("pretrain_data", ""))
    if _same(method, row[0]) and _same(pretrain_data, row[1]):
        return float(own)
    if _same(row[1], NO_PRETRAINING) or reference_value(*place, method, pretrain_data, row[2]) != own:
        return None
    return reference_value(*place, *row)


def _of_robustness(record: Record, metric: Metric) -> float | None:
    """Of a classifier that was trained here, on a whole data set, what the table's cell has."""
    if record.trained == "elsewhere" or record.evaluated_part(metric):
        return None
    place = (record.table, record.dataset, metric.name)
    return reference_value(*place, record.method, record.pretrain_data, record.model)


def _same(name: str, other: str) -> bool:
    return simplified(name) == simplified(other)


def _mapping(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = settings.get(name)
    return value if isinstance(value, Mapping) else {}
