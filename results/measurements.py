"""From records to the numbers of a table: seeds averaged, and only what is comparable compared."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import groupby
from pathlib import PurePath
from statistics import fmean
from typing import Literal

from results.latest import in_order, latest_of_each_seed
from results.metrics import MetricKind, find_metric
from results.paper_tables import ROBUSTNESS
from results.record import Metric, Record
from results.statistics import seed_interval

SETTING = "setting "
LIMIT = "limit"
"""What the protocol of an evaluation has that was to look at so many of the images only."""

HOLDOUT = "holdout"
"""What the images are called that were drawn to evaluate on where their makers did not divide them."""


@dataclass(frozen=True)
class Measurement:
    """One metric of one record."""

    record: Record
    metric: Metric

    @property
    def method(self) -> str:
        """The method whose row this belongs to: a backbone that names none is its own."""
        return self.record.method or self.record.backbone


@dataclass(frozen=True)
class Number:
    """What a table shows of one backbone under one protocol.

    The interval is over seeds where there are several, else over images; `interval` says which. It ends where its
    metric does. `note` is the text of the number's footnote, empty for none. `best` is true for the best of the numbers
    of a column that may be ranked.
    """

    value: float
    low: float | None
    high: float | None
    interval: Literal["seeds", "images", ""]
    seeds: tuple[int, ...]
    split: str
    n_eval: int | None
    note: str = ""
    best: bool = False


def measurements(records: Iterable[Record], metrics: Iterable[str]) -> list[Measurement]:
    """The given metrics of all records, in an order that does not depend on the records' own."""
    wanted = set(metrics)
    found = [Measurement(record, metric) for record in records for metric in record.metrics if metric.name in wanted]
    return sorted(found, key=lambda measurement: (_identity(measurement), measurement.record.seed))


def protocol(measurement: Measurement) -> dict[str, str]:
    """Everything that must agree before two numbers may be averaged or ranked, each with its value as text.

    A record that doesn't say which settings decide is only like those with all of its settings.
    """
    record, metric = measurement.record, measurement.metric
    settings = record.protocol
    if not settings and record.recipe_settings:
        settings = {"recipe": json.dumps(record.recipe_settings, sort_keys=True, default=str)}
    return {
        "recipe": record.recipe,
        "deviations": "; ".join(sorted(record.deviations)),
        "dataset": record.dataset,
        "split": metric.split,
        "evaluated images": str(metric.n_eval or "unknown"),
        "data fingerprint": record.data_fingerprint or "unknown",
        **{f"{SETTING}{name}": value for name, value in sorted(settings.items())},
    }


def protocol_digits(measurement: Measurement) -> str:
    """Twelve hex digits that change with anything in the `protocol` of a measurement."""
    return _digits(_protocol_text(measurement))


@lru_cache(maxsize=4096)
def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _protocol_text(measurement: Measurement) -> str:
    return _as_json(tuple(protocol(measurement).items()))


@lru_cache(maxsize=4096)
def _as_json(protocol: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(protocol), sort_keys=True)


def differences(protocols: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of what differs. Single settings are named only where recipe and deviations don't say as much."""
    names = dict.fromkeys(name for protocol in protocols for name in protocol)
    differing = [name for name in names if len({protocol.get(name) for protocol in protocols}) > 1]
    if {"recipe", "deviations"} & set(differing):
        return [name for name in differing if not name.startswith(SETTING)]
    return differing


def combine(
    column: Sequence[Measurement], runs: Mapping[str, Sequence[Record]]
) -> tuple[list[tuple[Measurement, Number]], list[str]]:
    """Average each backbone's seeds in one column of a table, and compare the backbones if they may be compared.

    `column` is in the order of `measurements` and holds one metric of one model on one data set, of no record that is
    superseded; `runs` has all records by their key, superseded ones too. Measurements that share backbone, checkpoint
    and protocol are averaged; where a seed was run twice, the number's note has both if they differ. Where protocols
    differ, those that follow the reference recipe on all images are compared among themselves, if theirs agree. An
    average over seeds that were made with different code, libraries or machines is compared with none.
    Returns the numbers, each with one of its measurements, and the names of what differs between their protocols.
    """
    found = [list(group) for _, group in groupby(column, key=_identity)]
    groups = [_latest_of_each_seed(group) for group in found]
    differing = differences([protocol(group[0]) for group in groups])
    rivals: dict[tuple[str, str], list[Measurement]] = {}
    for group in groups:
        rivals.setdefault(_row(group[0]), []).append(group[0])
    numbers = []
    for group, standing in zip(groups, found, strict=True):
        all_runs = [record for one in standing for record in runs[one.record.key]]
        repeats = unlike_repeats(all_runs, [group[0].metric.name])
        notes = _notes(group, rivals[_row(group[0])], differing)
        numbers.append(_number(group, "; ".join([*notes, *repeats])))
    ranked = _ranked(groups, differing)
    if len(ranked) > 1:
        best = _best([numbers[index] for index in ranked], find_metric(column[0].metric.name))
        numbers = [
            replace(number, best=index in ranked and f"{number.value:.1f}" == best)
            for index, number in enumerate(numbers)
        ]
    return [(group[0], number) for group, number in zip(groups, numbers, strict=True)], differing


def unlike_repeats(records: Iterable[Record], metrics: Sequence[str]) -> list[str]:
    """Of each seed that was run more than once, not with the same numbers: those of a metric, and what else differs.

    "seed 0 was run 2 times: top1 17.40, then 11.60; they differ in code (1a2b3c4d5e6f, 9f8e7d6c5b4a)". The last one
    counts. Copies of one record are one run. Evaluations of what a run trained are no runs beside it.
    """
    of_seed: dict[int, list[Record]] = {}
    for record in records:
        runs = of_seed.setdefault(record.seed, [])
        if record not in runs:
            runs.append(record)
    told = []
    for seed, runs in sorted(of_seed.items()):
        runs = in_order(runs)
        runs = [record for record in runs if bool(record.trained) == bool(runs[-1].trained)]
        for name in metrics:
            measured = [
                Measurement(record, metric) for record in runs for metric in record.metrics if metric.name == name
            ]
            values = [one.metric.value for one in measured]
            if len(set(values)) > 1:
                found = ", ".join([*unlike_origins(runs), *_unlike_protocols(measured)])
                why = f"they differ in {found}" if found else "nothing that is recorded sets them apart"
                told.append(
                    f"seed {seed} was run {len(runs)} times: {name} {', then '.join(told_apart(values))}; {why}"
                )
                break
    return told


def told_apart(values: Sequence[float]) -> list[str]:
    """Numbers with two decimals, or as many as it takes for those that differ to read differently."""
    for decimals in range(2, 17):
        shown = [f"{value:.{decimals}f}" for value in values]
        if len(set(shown)) == len(set(values)):
            return shown
    return [repr(value) for value in values]


def _unlike_protocols(measured: Sequence[Measurement]) -> list[str]:
    """In what protocols differ, with all values: 'setting precision ("bf16", "fp32")'."""
    protocols = [protocol(one) for one in measured]
    return [
        f"{name} ({', '.join(sorted({of.get(name, 'not set') or 'none' for of in protocols}))})"
        for name in differences(protocols)
    ]


def unlike_origins(records: Sequence[Record]) -> list[str]:
    """In what runs differ that should differ in the seed alone, or in nothing: "torch (2.13.0, 2.14.1)"."""
    stated: dict[str, list[str]] = {}
    have_digests = all(record.code for record in records)
    for record in records:
        commit = (record.git_commit or "")[:7] + ("-dirty" if (record.git_commit or "").endswith("-dirty") else "")
        code = " ".join(part for part in (record.backbench_version, commit) if part)
        origin = {
            "code": record.code if have_digests else code,
            **({"model code": record.model_code} if have_digests else {}),
            **record.versions,
            "device": record.device,
            "processes": str(record.world_size),
        }
        for name, value in origin.items():
            stated.setdefault(name, []).append(value or "not stated")
    for values in stated.values():
        values += ["not stated"] * (len(records) - len(values))
    return [f"{name} ({', '.join(sorted(set(values)))})" for name, values in stated.items() if len(set(values)) > 1]


@cache
def simplified(name: str) -> str:
    """A name without case and punctuation: "MoCo v3" and "mocov3" are one method, "ViT-B" and "vit_b" one model.

    A plus at the end stays: "MAE+" and "MAE" are two methods.
    """
    stem = name.strip().rstrip("+")
    plusses = name.strip()[len(stem) :]
    return re.sub(r"[\W_]", "", stem).casefold() + plusses or name


def _identity(measurement: Measurement) -> tuple[str, ...]:
    """Equal for the seeds of one cell and for nothing else."""
    record, metric = measurement.record, measurement.metric
    return (
        metric.name,
        simplified(record.model),
        *_row(measurement),
        record.backbone,
        weights_of(record),
        _pixels(measurement),
        _protocol_text(measurement),
    )


def _row(measurement: Measurement) -> tuple[str, str]:
    return simplified(measurement.method), simplified(measurement.record.pretrain_data)


def _pixels(measurement: Measurement) -> str:
    """How pixels were normalised: part of what a backbone is, not of the protocol."""
    numbers = measurement.record.normalisation
    return ", ".join(f"{name} {' '.join(map(str, numbers[name]))}" for name in sorted(numbers))


def _latest_of_each_seed(group: Sequence[Measurement]) -> list[Measurement]:
    of = {id(measurement.record): measurement for measurement in group}
    return [of[id(record)] for record in latest_of_each_seed(one.record for one in group)]


def _number(group: Sequence[Measurement], note: str) -> Number:
    metric = group[0].metric
    seeds = tuple(measurement.record.seed for measurement in group)
    if len(group) > 1:
        values = [measurement.metric.value for measurement in group]
        low, high = find_metric(metric.name).clip(*seed_interval(values))
        return Number(fmean(values), low, high, "seeds", seeds, metric.split, metric.n_eval, note)
    interval: Literal["images", ""] = "" if metric.ci_low is None else "images"
    return Number(metric.value, metric.ci_low, metric.ci_high, interval, seeds, metric.split, metric.n_eval, note)


def _notes(group: Sequence[Measurement], rivals: Sequence[Measurement], differing: Sequence[str]) -> list[str]:
    """What the footnote says: deviations, what sets the protocol apart, and which of several backbones this is.

    Also what keeps a number from being ranked: that only a part was evaluated, or that its seeds were made differently;
    and that the images to evaluate on were drawn here.
    """
    record, own = group[0].record, protocol(group[0])
    parts = sorted(record.deviations)
    own["data fingerprint"] = own["data fingerprint"][:12]
    part = _part(group[0])
    parts += [f"evaluated on {part}"] * bool(part)
    by_itself = record.trained not in ("", "elsewhere") and record.table != ROBUSTNESS  # where all are
    parts += ["evaluated by itself, after the training"] * by_itself
    parts += ["evaluated on images held out here, not on a published split"] * (group[0].metric.split == HOLDOUT)
    told = {"deviations"} | ({"evaluated images"} if part else set())
    parts += [f"{name} {own.get(name, 'not set')}" for name in differing if name not in told]
    if len({rival.record.backbone for rival in rivals}) > 1:
        parts.append(f"backbone {record.backbone}")
    if len({weights_of(rival.record) for rival in rivals}) > 1:
        parts.append(_checkpoint(record))
    if len({_pixels(rival) for rival in rivals}) > 1:
        parts.append(f"normalisation {_pixels(group[0]) or 'unknown'}")
    if unlike := unlike_origins([one.record for one in group]):
        parts.append(f"its seeds differ in {', '.join(unlike)}")
    return parts


def _part(measurement: Measurement) -> str:
    return measurement.record.evaluated_part(measurement.metric)


def _checkpoint(record: Record) -> str:
    """A checkpoint as people and programs know it: "checkpoint mae_pretrain_vit_base.pth (1a2b3c4d)".

    With the part that was chosen: "checkpoint dino.pth::student (1a2b3c4d)".
    """
    if not record.checkpoint_sha256:
        return "no checkpoint"
    digits, name = record.checkpoint_sha256[:8], checkpoint_name(record) + _part_of_weights(record)
    return f"checkpoint {name} ({digits})" if name else f"checkpoint {digits}"


def weights_of(record: Record, digits: int | None = None) -> str:
    """What tells weights apart: the digest of the file, or its first digits, and its part; "" where there are none."""
    return (record.checkpoint_sha256 or "")[:digits] + _part_of_weights(record)


def _part_of_weights(record: Record) -> str:
    return f"::{record.checkpoint_part}" if record.checkpoint_part else ""


def checkpoint_name(record: Record) -> str:
    """The name of the file of weights, without its folder; "" where there is none or the record does not say."""
    if record.checkpoint or not record.checkpoint_sha256:
        return record.checkpoint
    path = (record.load_report or {}).get("path")
    return PurePath(str(path)).name if path else ""


def _ranked(groups: Sequence[Sequence[Measurement]], differing: Sequence[str]) -> list[int]:
    """The positions of the groups that may be compared.

    All whose seeds were made alike, but for first looks at a part of the images; where protocols differ, those of them
    that deviate in nothing and were evaluated on all images.
    """
    whole = [index for index, group in enumerate(groups) if LIMIT not in group[0].record.protocol]
    alike = [index for index in whole if not unlike_origins([one.record for one in groups[index]])]
    if not differing:
        return alike
    firsts = [group[0] for group in groups]
    following = [index for index in alike if not firsts[index].record.deviations and not _part(firsts[index])]
    return [] if differences([protocol(firsts[index]) for index in following]) else following


def _best(numbers: Sequence[Number], metric: MetricKind) -> str:
    """The best number as it reads to one decimal: all that read the same are as good."""
    return f"{metric.best(number.value for number in numbers):.1f}"
