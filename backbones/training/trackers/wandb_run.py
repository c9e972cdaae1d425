"""A run in Weights & Biases: a project of its own, `backbench`, unless the environment says otherwise."""

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backbones.training.trackers.tracker import Status, TrackedRun

PROJECT = "backbench"
LONGEST_NAME = 128
"""Characters of a run's name and group that its server takes."""

PATIENCE = {"init_timeout": 60.0, "finish_timeout": 20.0}
"""Seconds for which it may hold up a run that begins and one that ends, where the environment does not say.

What has not been uploaded by then stays on the disk, for `wandb sync`."""

EXIT_STATUS: dict[Status, int] = {"finished": 0, "interrupted": 130, "failed": 1}


class WandbRun:
    """What has been begun in Weights & Biases."""

    def __init__(self, run: Any, identity: str) -> None:
        self.run, self.id = run, identity
        # figures are shown over updates; wandb counts what it is told, which a killed run leaves uncertain
        run.define_metric("update")
        for section in ("train/*", "val/*"):
            run.define_metric(section, step_metric="update")

    @property
    def where(self) -> str:
        mode: str = self.run.settings.mode
        if mode == "offline":
            return f"{mode}, in {Path(self.run.dir).parent}"
        return f"{mode}, {self.run.url}" if self.run.url else mode

    def log(self, update: int, figures: Mapping[str, float]) -> None:
        self.run.log({"update": update, **figures})

    def finish(self, status: Status, final: Mapping[str, float]) -> None:
        self.run.summary.update(dict(final))
        self.run.finish(exit_code=EXIT_STATUS[status])


def begin(run: TrackedRun, known: str) -> WandbRun:
    """Begin a run in Weights & Biases, or go on with the one of that id.

    It is online where WANDB_MODE says so, or says nothing and somebody has logged in; else it is offline.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to its makers, also where it is offline
    _leave_the_service_of_another_process()
    with _process_left_alone():
        import wandb

        identity = known or secrets.token_hex(8)
        mode: Any = os.environ.get("WANDB_MODE") or _mode(wandb.setup().settings)
        begun = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            dir=os.environ.get("WANDB_DIR") or run.directory,
            id=identity,
            name=(os.environ.get("WANDB_NAME") or run.name)[-LONGEST_NAME:],
            group=(os.environ.get("WANDB_RUN_GROUP") or run.group)[-LONGEST_NAME:],
            config=dict(run.settings),
            mode=mode,
            resume="allow" if mode == "online" else None,
            allow_val_change=True,
            settings=wandb.Settings(**_settings()),
        )
        return WandbRun(begun, identity)


def _leave_the_service_of_another_process() -> None:
    """It is inherited with the environment, and would refuse to go on with a run that it did not see being killed."""
    _, _, token = os.environ.get("WANDB_SERVICE", "").partition("-")  # a version, then the process that has started it
    if token and token.partition("-")[0] != str(os.getpid()):
        del os.environ["WANDB_SERVICE"]


def _settings() -> dict[str, Any]:
    """Nothing is captured or printed, and runs that the process has of its own stay as they are."""
    patience = {name: value for name, value in PATIENCE.items() if f"WANDB_{name.upper()}" not in os.environ}
    return {
        "console": "off",
        "silent": True,
        "disable_git": True,
        "save_code": False,
        "symlink": False,
        "x_transaction_log_flush_interval": 1.0,  # what a killed run loses; by default it is the last 15 seconds
        "reinit": "create_new",
        **patience,
    }


def _mode(settings: Any) -> str:
    """As `wandb offline` and `wandb disabled` have left it; else online for those who have logged in, and no others."""
    if settings.mode != "online":
        return str(settings.mode)
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")) or settings.api_key:
        return "online"
    try:
        logins = netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
    except (OSError, NetrcParseError):
        return "offline"
    return "online" if logins.authenticators(urlsplit(settings.base_url).hostname or "") else "offline"


@contextmanager
def _process_left_alone() -> Iterator[None]:
    """Take back what wandb puts in the place of `sys.exit`, `sys.excepthook` and the `write` of the streams."""
    exit_, hook = sys.exit, sys.excepthook
    streams = [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "__dict__")]
    written = [vars(stream).get("write") for stream in streams]
    try:
        yield
    finally:
        sys.exit, sys.excepthook = exit_, hook
        for stream, write in zip(streams, written, strict=True):
            if write is None:
                vars(stream).pop("write", None)
            else:
                vars(stream)["write"] = write
