"""`examples/nightly`: what the script runs, and how it ends, however the commands end that it calls."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

NIGHTLY = Path(__file__).parents[1] / "examples/nightly"
STUB = """#!/usr/bin/env bash
printf '%s\\n' "$1" >> "$CALLS"
printf '%s\\n' "$*" >> "$CALLS.whole"
action=DO_$1
eval "${!action:-true}"
"""
PROMOTED = ["suite", "regress", "baseline"]


def run_night(folder: Path, *, is_first: bool = False, **ends: str) -> tuple[int, list[str]]:
    """The script's exit status and the commands that it called, which do as `ends` says; in a folder with a space."""
    place = folder / "a place"
    (place / "bin").mkdir(parents=True)
    stub = place / "bin/back bench"
    stub.write_text(STUB)
    stub.chmod(0o755)
    (place / "baseline").mkdir()
    if not is_first:
        (place / "baseline/baseline.yaml").write_text("counts: []\n")
    environment = {
        **{"PATH": os.environ["PATH"], "BACKBENCH": str(stub), "CALLS": str(place / "calls"), "NIGHT": "2026-01-02"},
        **{"SITE": str(place / "site.yaml"), "NIGHTS": str(place / "nights"), "BASELINE": str(place / "baseline")},
        **{f"DO_{name}": action for name, action in ends.items()},
    }
    done = subprocess.run([NIGHTLY / "nightly.sh"], env=environment, check=False, timeout=60)
    return done.returncode, (place / "calls").read_text().split()


@pytest.mark.parametrize("status", [2, 3, 75, 130, 137])
def test_without_a_night_there_is_no_verdict(tmp_path: Path, status: int) -> None:
    assert run_night(tmp_path, suite=f"exit {status}") == (status, ["suite"])


@pytest.mark.parametrize("suite", [0, 1])
@pytest.mark.parametrize("status", [1, 2, 3, 75, 130])
def test_what_is_not_green_is_not_promoted(tmp_path: Path, suite: int, status: int) -> None:
    assert run_night(tmp_path, suite=f"exit {suite}", regress=f"exit {status}") == (status, PROMOTED[:2])


@pytest.mark.parametrize("status", [0, 1, 3, 75])
def test_what_is_green_is_promoted(tmp_path: Path, status: int) -> None:
    assert run_night(tmp_path, baseline=f"exit {status}") == (status, PROMOTED)
    _, regress, promote = (tmp_path / "a place/calls.whole").read_text().splitlines()
    place = f"{tmp_path}/a place"
    assert regress.startswith(f"regress --baseline {place}/baseline --current {place}/nights/2026-01-02 --confirm 2 ")
    assert promote == f"baseline promote {place}/nights/2026-01-02 --to {place}/baseline"
    assert (tmp_path / "a place/nights/2026-01-02/verdict").is_dir()


@pytest.mark.parametrize(
    ("suite", "promote", "status", "calls"),
    [(0, 0, 0, ["suite", "baseline"]), (0, 3, 3, ["suite", "baseline"]), (1, 0, 1, ["suite"])],
)
def test_the_first_night(tmp_path: Path, suite: int, promote: int, status: int, calls: list[str]) -> None:
    done = run_night(tmp_path, is_first=True, suite=f"exit {suite}", baseline=f"exit {promote}")
    assert done == (status, calls)


@pytest.mark.parametrize(("told", "asked"), [("TERM", "TERM"), ("INT", "HUP")])
@pytest.mark.parametrize("command", ["suite", "regress"])
def test_what_it_runs_is_asked_to_end_when_it_is(tmp_path: Path, command: str, told: str, asked: str) -> None:
    """After Ctrl-C by what is no second request, which would end it unsaved."""
    saving = f"trap 'echo saved >> \"$CALLS\"; exit 130' {asked}"
    waiting = f"{saving}; kill -{told} $PPID; for _ in {{1..50}}; do read -t 0.1 <> <(:); done"
    status, calls = run_night(tmp_path, is_first=False, **{command: waiting})
    assert (status, calls) == (130, [*PROMOTED[: PROMOTED.index(command) + 1], "saved"])


def test_what_had_no_chance_to_save_is_told_as_interrupted(tmp_path: Path) -> None:
    waiting = "kill -INT $PPID; for _ in {1..50}; do read -t 0.1 <> <(:); done"
    assert run_night(tmp_path, suite=waiting) == (130, ["suite"])


def test_the_workflow_keeps_the_verdict_of_any_night_and_the_baseline_of_a_green_one() -> None:
    workflow = yaml.safe_load((NIGHTLY / "github.yaml").read_text())
    steps = {step.get("name"): step for step in workflow["jobs"]["night"]["steps"]}
    assert [name for name, step in steps.items() if "if" in step] == ["Show the verdict", "Keep the verdict"]
    assert all(step["if"] == "always()" for step in steps.values() if "if" in step)
    assert workflow["permissions"] == {"contents": "write"}


def test_the_baseline_is_pushed_though_others_pushed_during_the_night(tmp_path: Path) -> None:
    workflow = yaml.safe_load((NIGHTLY / "github.yaml").read_text())
    step = workflow["jobs"]["night"]["steps"][-1]

    def sh(place: Path, script: str) -> None:
        home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "BASELINE": "nightly/baseline"}
        names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        is_the_step = script == step["run"]
        subprocess.run(
            ["bash", "-e", "-c", script], cwd=place, env=home | ({} if is_the_step else names), check=True, timeout=60
        )

    sh(tmp_path, "git init -q --bare -b main origin && git clone -q origin users 2>&1")
    sh(tmp_path / "users", "git checkout -qb main; touch a; git add a; git commit -qm a; git push -q origin main")
    sh(tmp_path, f"git clone -q --depth 1 file://{tmp_path}/origin runner")
    sh(tmp_path / "users", "touch b && git add b && git commit -qm b && git push -q origin main")
    sh(tmp_path / "runner", "mkdir -p nightly/baseline && touch nightly/baseline/baseline.yaml")
    sh(tmp_path / "runner", step["run"])
    sh(tmp_path / "users", "git pull -q && test -f nightly/baseline/baseline.yaml && test -f b")
    sh(tmp_path / "runner", step["run"])
