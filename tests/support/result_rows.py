"""Rows of results.csv, as many as a test wants, with the columns that it gives."""

import pandas as pd

from results.summary import COLUMNS


def make_rows(count: int, **columns: object) -> pd.DataFrame:
    """So many rows; a column that is not given is empty, and one that is not of the contract is added."""
    empty = {
        name: pd.Series([""] * count if kind == "string" else [None] * count, dtype=kind)
        for name, kind in COLUMNS.items()
    }
    return pd.DataFrame(empty).assign(**columns)
