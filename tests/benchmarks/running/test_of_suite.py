"""What a cell's process tells its suite, as long as it lives and at its end."""

import os
from pathlib import Path

import pytest

from benchmarks.running.lease import Lease, find_owner
from benchmarks.running.of_suite import PROCESS, ToldRun, read_end, read_run, tell_directory, telling_suite


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cell of a suite"
    folder.mkdir()
    for name in ("BACKBENCH_CELL_TOLD", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BACKBENCH_CELL", str(folder))
    monkeypatch.setenv("BACKBENCH_CELL_ATTEMPT", "ab12")
    return folder


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBENCH_CELL_TOLD", "")  # to be undone
    monkeypatch.delenv("BACKBENCH_CELL_TOLD")


@pytest.mark.parametrize(("end", "status"), [(None, 0), (SystemExit(75), 75), (SystemExit(), 0), (ValueError("?"), 1)])
def test_a_process_says_that_it_lives_and_how_it_ended(cell: Path, end: BaseException | None, status: int) -> None:
    def carry_out() -> None:
        with telling_suite():
            owner = find_owner(cell / PROCESS)
            assert owner and owner.lives and f"process {os.getpid()}" in owner.name
            if end:
                raise end

    if end:
        with pytest.raises(type(end)):
            carry_out()
    else:
        carry_out()
    assert find_owner(cell / PROCESS) is None
    assert read_end(cell, "ab12") == status and read_end(cell, "cd34") is None


def test_a_second_process_for_a_cell_ends_with_the_status_to_try_again(
    cell: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lease(cell / PROCESS), pytest.raises(SystemExit) as end, telling_suite():
        pytest.fail("carried out twice")
    assert end.value.code == 75 and "carries this cell out. Wait for it, or stop it" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("RANK", "1"), ("BACKBENCH_CELL_TOLD", "1"), ("BACKBENCH_CELL", "")])
def test_one_process_of_a_job_speaks_for_all(
    cell: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    if name == "RANK":
        monkeypatch.setenv("WORLD_SIZE", "2")
    with telling_suite():
        assert list(cell.iterdir()) == []


def test_a_run_does_not_depend_on_what_is_told(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBENCH_CELL", str(cell / "gone"))
    with telling_suite():
        tell_directory(cell / "run", cell, cell)
    monkeypatch.setenv("BACKBENCH_CELL", str(cell))
    (cell / PROCESS).mkdir()  # a lease cannot be made there
    with telling_suite():
        pass


def test_where_a_run_is_told_with_its_data(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_run(cell) is None
    monkeypatch.chdir(cell)
    tell_directory(Path("out/a/seed0-1"), Path("out"), Path("data"))
    assert read_run(cell) == ToldRun(Path("a/seed0-1"), str(cell / "data"))
    monkeypatch.delenv("BACKBENCH_CELL")
    tell_directory(Path("out/other"), Path("out"), Path("data"))
    assert read_run(cell) == ToldRun(Path("a/seed0-1"), str(cell / "data"))
