"""The options that scripts have in common: what cannot serve is refused before anything is measured."""

import runpy
import sys
from pathlib import Path

import pytest

from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.everything import SPEED

LIGHT = ("image_loading", "store")
STARTS = sorted(path.stem for path in SPEED.glob("*_start.py"))
OTHERS = sorted(path.stem for path in SPEED.glob("*.py") if path.stem not in (*LIGHT, *STARTS))


@pytest.mark.parametrize("script", [*LIGHT, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_no_script_takes_no_turns(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They did all of their work, and had a median of nothing at the end."""
    monkeypatch.setattr(sys, "argv", [script, "--repeats", "0"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SPEED / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 2 and "--repeats 0: expected at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["data_start", "lists_start"])
@pytest.mark.parametrize("share", ["0", "-1", "0.001", "1.5", "nan"])
def test_no_data_of_nothing_are_generated(
    script: str, share: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--share", share])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SPEED / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 2 and f"--share {share}: expected from 0.02 to 1" in capsys.readouterr().err


def parsed(monkeypatch: pytest.MonkeyPatch, *options: str) -> object:
    monkeypatch.setattr(sys, "argv", ["script", *options])
    parser = make_parser("")
    parser.add_argument("--batch", type=int)
    return parse_arguments(parser, {"cpu": {"batch": 2}}).batch


def test_a_number_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert (parsed(monkeypatch), parsed(monkeypatch, "--batch", "1")) == (2, 1)
    with pytest.raises(SystemExit):
        parsed(monkeypatch, "--batch", "-1")
    assert "--batch -1: expected at least 1" in capsys.readouterr().err


def test_a_place_for_figures_is_made_and_one_that_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "figures.json"
    there.write_text("as it was")
    for path in (there, tmp_path / "new/figures.json"):
        parsed(monkeypatch, "--json", str(path))
    assert there.read_text() == "as it was" and [*(tmp_path / "new").iterdir()] == []
    for wrong in (there / "figures.json", tmp_path / "new"):
        with pytest.raises(SystemExit) as ended:
            parsed(monkeypatch, "--json", str(wrong))
        assert ended.value.code == 2 and f"--json: {wrong} cannot be written (" in capsys.readouterr().err
