"""Tables of finished runs."""

from pathlib import Path

import pytest

from tests.support.commands import read_record
from tests.support.in_process import call, refusal


@pytest.mark.parametrize(("format", "expected"), [("md", "| "), ("csv", ","), ("latex", "\\begin{tabular}")])
def test_every_format(finished: Path, format: str, expected: str) -> None:
    result = call("table", finished, "--layout", "imagenet", "--format", format)
    assert result.exit_code == 0
    assert expected in result.output
    assert f"{read_record(finished)['metrics'][0]['value']:.1f}" in result.output


def test_without_runs(tmp_path: Path) -> None:
    message = refusal("table", tmp_path / "gone", "--layout", "imagenet")
    assert message.startswith(f"{tmp_path}/gone: no such directory")
    assert "no finished runs found. Expected record.json" in refusal("table", tmp_path, "--layout", "imagenet")
