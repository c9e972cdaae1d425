"""The self-test's lines for a process in which relative positions are wrong by 1 %, from when it imports this."""

from typing import Any

from torch import Tensor

from backbones.adapters.relative_position import TableBias
from benchmarks.selftest import attention
from benchmarks.selftest.attention import ATTENTION
from tests.support.selftest_lines import BY_NAME

LINES = (BY_NAME["first"], *ATTENTION[:2], BY_NAME["last"])

attention.SIDE, attention.IMAGES = {"cpu": 272}, {"cpu": 1}  # one patch more than a window

_sound: Any = TableBias._table_for


def _wrong(self: TableBias, grid: tuple[int, int]) -> Tensor:
    table: Tensor = 1.01 * _sound(self, grid)
    return table


TableBias._table_for = _wrong  # type: ignore[method-assign]
