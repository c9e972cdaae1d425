"""What came out of the runs: records, the store of run directories, statistics, and the paper's tables.

The names below are loaded when they are first used, so importing this room costs nothing: the command line does it on
every call.
"""

import importlib
from typing import TYPE_CHECKING, Any

from results.errors import ResultsError

if TYPE_CHECKING:
    from results.metrics import METRICS, MetricKind, find_metric
    from results.record import Metric, Record, cell_key, environment
    from results.reference import ReferenceRow, reference_rows
    from results.selection import select_records
    from results.statistics import (
        PairedDifference,
        Statistic,
        bootstrap_interval,
        paired_difference,
        paired_statistic_difference,
        proportion_interval,
        seed_difference,
        seed_interval,
        statistic_interval,
        weighted_proportion_interval,
    )
    from results.store import find_records, find_runs, read_record, run_directory, runs_of_cell
    from results.summary import load_results, read_results_csv, results_csv, to_frame
    from results.table_formats import render, render_all
    from results.tables import Table, build_table, build_tables

__all__ = [
    "METRICS",
    "Metric",
    "MetricKind",
    "PairedDifference",
    "Record",
    "ReferenceRow",
    "ResultsError",
    "Statistic",
    "Table",
    "bootstrap_interval",
    "build_table",
    "build_tables",
    "cell_key",
    "environment",
    "find_metric",
    "find_records",
    "find_runs",
    "load_results",
    "paired_difference",
    "paired_statistic_difference",
    "proportion_interval",
    "read_record",
    "read_results_csv",
    "reference_rows",
    "render",
    "render_all",
    "results_csv",
    "run_directory",
    "runs_of_cell",
    "seed_difference",
    "seed_interval",
    "select_records",
    "statistic_interval",
    "to_frame",
    "weighted_proportion_interval",
]

_HOME = {
    "metrics": ("METRICS", "MetricKind", "find_metric"),
    "record": ("Metric", "Record", "cell_key", "environment"),
    "reference": ("ReferenceRow", "reference_rows"),
    "selection": ("select_records",),
    "statistics": (
        "PairedDifference",
        "Statistic",
        "bootstrap_interval",
        "paired_difference",
        "paired_statistic_difference",
        "proportion_interval",
        "seed_difference",
        "seed_interval",
        "statistic_interval",
        "weighted_proportion_interval",
    ),
    "store": ("find_records", "find_runs", "read_record", "run_directory", "runs_of_cell"),
    "summary": ("load_results", "read_results_csv", "results_csv", "to_frame"),
    "table_formats": ("render", "render_all"),
    "tables": ("Table", "build_table", "build_tables"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"results.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
