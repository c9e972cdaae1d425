"""Choosing records by what they say of themselves."""

import difflib
from collections.abc import Sequence

from results.errors import ResultsError
from results.latest import latest_of_each_key
from results.measurements import checkpoint_name, simplified
from results.record import Record

FIELDS = (
    *("task", "dataset", "method", "pretrain_data", "model", "backbone", "arch", "checkpoint_sha256", "seed", "recipe"),
    *("suite", "key", "device", "world_size", "precision", "backbench_version", "git_commit", "checkpoint"),
    *("checkpoint_part", "trained"),
)
"""By what records can be chosen; `checkpoint` is the name of the file of weights, as footnotes have it, and `trained`
the key of the run that an evaluation alone is of, or "elsewhere"; empty where the run trained the network itself."""


def select_records(
    records: Sequence[Record], conditions: Sequence[str] = (), only_reference: bool = False
) -> list[Record]:
    """The records that meet every condition, in their order; of what was run anew all, or none if the latest does not.

    conditions:     "FIELD=VALUE", such as "method=MAE"; case and punctuation of the value do not matter, and of several
                    for one field one has to hold
    only_reference: leave out those that deviate from their reference recipe

    Raises ResultsError for a condition of another form, for an unknown field, and where none of the records is left.
    """
    wanted: dict[str, set[str]] = {}
    for condition in conditions:
        field, value = _parse(condition)
        wanted.setdefault(field, set()).add(simplified(value))
    standing = latest_of_each_key(records)
    chosen = {
        record.key
        for record in standing
        if not (only_reference and record.deviations)
        and all(simplified(_text(record, field)) in values for field, values in wanted.items())
    }
    if records and not chosen:
        raise ResultsError(_describe_nothing(standing, conditions, list(wanted), only_reference))
    return [record for record in records if record.key in chosen]


def _describe_nothing(
    records: Sequence[Record], conditions: Sequence[str], fields: Sequence[str], only_reference: bool
) -> str:
    asked = [f"--where {condition}" for condition in conditions] + ["--only-reference"] * only_reference
    found = [f"{field} {', '.join(sorted({_text(record, field) for record in records}))}" for field in fields]
    found += [f"{sum(bool(record.deviations) for record in records)} that deviate"] * only_reference
    return f"{' '.join(asked)}: none of the {len(records)} runs. They have {'; '.join(found)}"


def _parse(condition: str) -> tuple[str, str]:
    field, equals, value = condition.partition("=")
    if not equals:
        raise ResultsError(f'--where {condition}: expected FIELD=VALUE, for example "method=MAE"')
    if field not in FIELDS:
        near = difflib.get_close_matches(field, FIELDS, n=1)
        hint = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(FIELDS)}"
        raise ResultsError(f'--where {condition}: records have no field "{field}". {hint}')
    return field, value


def _text(record: Record, field: str) -> str:
    value = checkpoint_name(record) if field == "checkpoint" else getattr(record, field)
    return "" if value is None else str(value)
