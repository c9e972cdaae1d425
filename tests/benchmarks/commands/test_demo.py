"""What the demo does before it trains anything: a share of whatever processors and GPUs there are."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmarks.commands import demo
from benchmarks.launching.slots import share_out


@pytest.mark.parametrize(
    ("gpus", "at_once"), [((), 2), (("0",), 1), (("0", "1", "2"), 3), (("MIG-a",), 1), (tuple("01234567"), 8)]
)
def test_the_demo_takes_whatever_gpus_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: tuple[str, ...], at_once: int
) -> None:
    carry_out = Mock(return_value=1)
    for name in ("draw_mini", "plan_suite", "require_sound"):
        monkeypatch.setattr(demo, name, Mock())
    monkeypatch.setattr(demo, "find_gpus", lambda: gpus)
    monkeypatch.setattr(demo, "carry_out_suite", carry_out)
    assert demo.run_demo(tmp_path, 1) == 1
    slots = share_out(carry_out.call_args.kwargs["jobs"], gpus)
    assert slots.at_once == at_once
    assert all("--processes" not in slot.arguments for slot in slots.slots)
