"""What processor and GPU are at during a few steps, as a trace that browsers show."""

import errno
import gzip
import os
import shutil
import sys
import tempfile
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.profiler import ProfilerActivity, profile, schedule

from backbones.training.machine import device_type, process_rank
from backbones.training.writing import written_whole

WAIT, WARM_UP, ACTIVE = 10, 2, 4
"""Steps that go by first, while kernels are chosen and memory is found; for the profiler to settle; to record."""

_TAIL = 8192
"""Bytes at a trace's end that have its own path, which systems let have 4096."""


class ProfileHook(Hook):
    """Records a few steps of this part of the run, and leaves them in `profile/` of its directory.

    The first process records itself. A short run is recorded earlier, one that ends or evaluates meanwhile as far as it
    came.
    The profiler slows its steps down, and changes no number. A trace that cannot be written ends no run.
    """

    priority = "LOWEST"

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "profile"
        self.profiler: profile | None = None

    def before_train(self, runner: Runner) -> None:
        left = runner.max_iters - runner.iter
        if left <= 0 or process_rank() != 0:
            return
        self.active = min(ACTIVE, left)
        warm_up = min(WARM_UP, left - self.active)
        self.wait = min(WAIT, left - self.active - warm_up) + warm_up
        self.begun = self.done = runner.iter
        on_device = [ProfilerActivity.CUDA] if device_type() == "cuda" else []
        self.profiler = profile(
            activities=[ProfilerActivity.CPU, *on_device],
            schedule=schedule(wait=self.wait - warm_up, warmup=warm_up, active=self.active, repeat=1),
            on_trace_ready=self._write,
            record_shapes=True,
        )
        self.profiler.start()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        self.done = batch_idx + 1
        if self.profiler:
            self.profiler.step()
            if self.done - self.begun >= self.wait + self.active:
                self.close()

    def before_val_epoch(self, runner: Runner) -> None:
        """An evaluation on the way is no step, and may be longer than a trace can hold."""
        if self.profiler and self.done - self.begun >= self.wait:
            self.close()

    def close(self) -> None:
        """End recording, also after an error or an interruption."""
        profiler, self.profiler = self.profiler, None
        if profiler:
            profiler.stop()

    def _write(self, recorded: profile) -> None:
        first = self.begun + self.wait + 1
        if self.done < first:
            return
        path = self.directory / f"steps_{first}-{self.done}.json.gz"
        try:
            with tempfile.TemporaryDirectory() as folder:
                trace = Path(folder) / "trace.json"
                recorded.export_chrome_trace(str(trace))
                _require_whole(trace)
                with trace.open("rb") as content, written_whole(path) as file, gzip.open(file, "wb") as packed:
                    shutil.copyfileobj(content, packed)
        except OSError as error:
            print(f"profile: {path} could not be written: {error.strerror or error}", file=sys.stderr, flush=True)
            return
        print(
            f"profile: steps {first} to {self.done} in {path}; ui.perfetto.dev shows them", file=sys.stderr, flush=True
        )


def _require_whole(trace: Path) -> None:
    """Raise OSError where there is none, or none with an end: the profiler goes on where there is no room for it."""
    ending = b""
    if trace.exists():
        with trace.open("rb") as file:
            file.seek(-min(_TAIL, trace.stat().st_size), os.SEEK_END)
            ending = file.read().rstrip()
    if not (ending.endswith(b"}") and b'"traceName"' in ending):  # its path, which comes last; events end alike
        raise OSError(errno.ENOSPC, f"no room for it in {tempfile.gettempdir()}")
