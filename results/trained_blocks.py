"""Columns of models of which the last blocks were trained: "ViT-B, last 4 blocks"."""

import re

_TRAINED = re.compile(r"(?P<model>.*), (?:head only|last (?P<blocks>\d+) blocks?)")


def trained_column(model: str, blocks: int) -> str:
    """The table's column of a model of which so many blocks were trained; 0 for the head behind them alone."""
    if not blocks:
        return f"{model}, head only"
    return f"{model}, last {blocks} block{'s' if blocks > 1 else ''}"


def read_column(column: str) -> tuple[str, int] | None:
    """The model and the number of blocks of such a column; None for another."""
    said = _TRAINED.fullmatch(column)
    return (said["model"], int(said["blocks"] or 0)) if said else None


def in_order_of_blocks(column: str) -> str:
    """The column as it sorts: 2 blocks before 12, and whatever is no such column as it is."""
    said = read_column(column)
    return f"{said[0]}, {said[1]:06}" if said else column
