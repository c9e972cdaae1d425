"""What people write is printed as it stands: rich took "[bold]" for markup, and ended with an exception at "[/x]"."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from backbones.training import progress_line
from benchmarks.commands import doctor
from benchmarks.commands.console import plain_console
from tests.support.in_process import call, success

COMMANDS = Path(doctor.__file__).parent
NAME = "[bold]cats[/x] :cat: [red"


def test_in_paths(copied: Path, tmp_path: Path) -> None:
    root = tmp_path / NAME.replace("/", "")
    copied.rename(root)
    assert success("data", "check", "folders", "--data", root).stdout.startswith(f"{root}: class folders, ")


def test_in_the_doctors_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError(NAME)

    monkeypatch.setattr(doctor, "TRIALS", {"this": lambda: None, "that": fail})
    result = call("doctor")
    assert result.exit_code == 1
    assert f"  works  this\n  fails  that: RuntimeError: {NAME}\n" in result.output


def test_in_progress_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(progress_line, "Console", lambda **options: console)
    with progress_line.progress_line(NAME, 2, NAME) as line:
        line.update(1, figures=NAME)
    assert f"{NAME} " in screen.getvalue() and f"1/2 {NAME} {NAME}" in screen.getvalue()


def test_commands_have_no_other_console() -> None:
    made = {path.name for path in COMMANDS.parent.rglob("*.py") if re.search(r"\bConsole\(", path.read_text())}
    assert made == {"console.py"}
    assert not plain_console()._markup
