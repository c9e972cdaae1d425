"""Scripts in the place of Slurm's commands, which answer as those do."""

import os
from pathlib import Path

import pytest


def put_commands(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Let a command be a line of shell: `squeue="echo 5_0 PENDING"`."""
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
