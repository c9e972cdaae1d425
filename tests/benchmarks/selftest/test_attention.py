"""The self-test's lines about attention: they pass as it stands, and find relative positions that are wrong by 1 %."""

from pathlib import Path

import pytest

from benchmarks.commands import selftest
from benchmarks.selftest import attention
from benchmarks.selftest.attention import ATTENTION
from benchmarks.selftest.lines import Bench, Line
from tests.support.in_process import call
from tests.support.selftest_lines import BY_NAME


@pytest.mark.parametrize("line", ATTENTION, ids=lambda line: line.name)
def test_sound_attention_passes(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SIDE", {"cpu": 272})
    monkeypatch.setattr(attention, "IMAGES", {"cpu": 1})
    found = line.run(Bench("cpu", tmp_path, tmp_path))
    assert found.fine, found.measured
    assert 0 < float(found.figures["fp32_output_error"] or 0) < 2e-6
    assert 1e-4 < float(found.figures["bf16_output_error"] or 0) < 1e-2


def test_positions_that_are_wrong_by_a_hundredth_fail_their_line_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [BY_NAME["first"], *ATTENTION[:2], BY_NAME["last"]]
    monkeypatch.setattr(selftest, "LINES", lines)
    monkeypatch.setattr(selftest, "COURSE", "tests.support.broken_positions:" + "LINES")
    monkeypatch.setattr("benchmarks.selftest.course._draw", lambda data: None)
    result = call("doctor", "--train", "--device", "cpu", "--minutes", 5, "--out", tmp_path)
    assert result.exit_code == 1
    assert "3 lines ok, 1 failed: attention-fpn" in result.output.splitlines()
