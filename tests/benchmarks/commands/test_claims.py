"""What commands do about claims: the run's, and that of results.csv."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from backbones.training import writing
from benchmarks.running import cells
from benchmarks.running.claim import CLAIM
from tests.support.commands import log_lines, run_directory
from tests.support.in_process import call, run, success


def test_time_counts_from_the_claim(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from when the call began to wait for it; and before each line of the log it is looked after."""
    claims: list[bool] = []
    checks: list[str] = []
    genuine, check = cells.begin_run, writing.check_before_writing

    def begin() -> None:
        claims.append(len(list(tmp_path.glob(f"**/{CLAIM}"))) == 1)
        genuine()

    def checked() -> None:
        checks.append("a line")
        check()

    monkeypatch.setattr(cells, "begin_run", begin)
    monkeypatch.setattr("backbones.training.progress.check_before_writing", checked)
    success(*run(small, tmp_path, runtime__log_every=1))
    assert claims == [True]
    assert len(checks) == log_lines(tmp_path) > 0


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_nothing_that_is_wrong_with_results_csv_spoils_a_finished_run(
    small: Path, finished: Path, encoder: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    (out / "results.csv").unlink()
    genuine = os.open

    def refuse(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(".results.csv.claim") and flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), str(path))
        return genuine(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    for is_finished in (True, False):
        if not is_finished:
            (run_directory(out) / "record.json").unlink()
        result = call(*run(small, out, f"mae_vit_mini={encoder}"))
        assert result.exit_code == 0, result.output
        warnings = [line for line in result.output.splitlines() if line.startswith("backbench: ")]
        assert len(warnings) == 1, result.output
        assert f"results.csv: cannot be renewed: {out}/.results.csv.claim: {os.strerror(number)}" in warnings[0]
        assert (run_directory(out) / "record.json").exists()


def test_a_finished_run_whose_row_is_there_asks_nothing_of_results_csv(
    small: Path, finished: Path, encoder: Path, tmp_path: Path
) -> None:
    """However old the file is: it may have been copied."""
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    os.utime(out / "results.csv", (0, 0))
    success(*run(small, out, f"mae_vit_mini={encoder}"))
    assert (out / "results.csv").stat().st_mtime == 0
