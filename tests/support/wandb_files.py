"""What Weights & Biases has written of a run that is offline: records in LevelDB's log format (its log_format.md)."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER = struct.Struct("<IHB")
"""Of a piece of a record: a checksum, the piece's bytes, and whether it is all, first, middle or last of it."""

BLOCK, BEGINNING = 32768, 7
"""Bytes of a block, which no header crosses, and of the file's own header."""

ALL, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """All that were written whole, as wandb's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, record = path.read_bytes(), BEGINNING, b""
    while at + HEADER.size <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER.size:
            at += left
            continue
        _, size, kind = HEADER.unpack_from(content, at)
        at += HEADER.size
        record, at = record + content[at : at + size], at + size
        if kind in (ALL, LAST):
            yield Record.FromString(record)
            record = b""


def files(folder: Path) -> list[Path]:
    """One for each part of a run, the oldest first."""
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def history(path: Path) -> list[dict[str, Any]]:
    """The figures that were logged, as they came, without what wandb adds."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.append({name: value for name, value in row.items() if not name.startswith("_")})
    return rows


def run_of(path: Path) -> Any:
    """What the run is called, its group and its id."""
    return next(record.run for record in records(path) if record.WhichOneof("record_type") == "run")


def summary(path: Path) -> dict[str, Any]:
    """The latest values that were set as the run's outcome."""
    values: dict[str, Any] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            values |= {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update
            }
    return values
