"""Lines of a self-test that end in all the ways there are, for the process that tries them to import."""

import os
import signal
import subprocess
import sys
import time

from benchmarks.selftest.lines import Bench, Found, Line, NotRunError

OF_LAUNCHERS = {
    **{"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
    **{"TORCHELASTIC_USE_AGENT_STORE": "True", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"},
}
"""What torchrun and srun tell the only process of a job."""


def fine(bench: Bench) -> Found:
    print("said by the line")
    (bench.scratch / "left").write_text(str(sum(1 for _ in bench.data.rglob("*.jpg"))))
    return Found(True, "7 of 7", "7 | all", {"hits": 7, "share": float("nan"), "kind": bench.device})


def wrong(bench: Bench) -> Found:
    (bench.scratch / "left").write_text("")
    return Found(False, "6 of 7", "7", {"hits": 6})


def broken(bench: Bench) -> Found:
    raise ValueError("no such thing\nas this")


def pointless(bench: Bench) -> Found:
    raise NotRunError("needs two GPUs")


def killed(bench: Bench) -> Found:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def endless(bench: Bench) -> Found:
    time.sleep(600)
    raise AssertionError


def told_of_launcher(bench: Bench) -> Found:
    found = [name for name in os.environ if name in OF_LAUNCHERS]
    return Found(not found, ", ".join(sorted(found)))


def children(bench: Bench) -> Found:
    """Start a program in this session and one in another, of which the starter ends at once; wait for ever."""
    sleep = [sys.executable, "-c", "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"]
    orphan = f"import subprocess; subprocess.Popen({sleep!r}, start_new_session=True)"
    with (bench.scratch / "children").open("w") as file:
        subprocess.Popen(sleep, stdout=file)
        subprocess.run([sys.executable, "-c", orphan], stdout=file, check=True)
    time.sleep(600)
    raise AssertionError


def line(name: str, run: object = fine, **seconds: float) -> Line:
    return Line(name, f"what {name} tries", seconds or {"cpu": 1, "cuda": 1}, run)  # type: ignore[arg-type]


LINES = (
    line("first"),
    line("wrong", wrong),
    line("broken", broken),
    line("pointless", pointless),
    line("killed", killed),
    line("long", cpu=1000),
    line("endless", endless),
    line("for-a-gpu", cuda=1),
    line("last"),
)
BY_NAME = {each.name: each for each in LINES}

MORE = (line("told-of-launcher", told_of_launcher), line("children", children))
"""For tests of what becomes of processes."""


def __getattr__(name: str) -> object:
    """`WITHOUT_MEMORY`, which cannot be had: others have the GPU's memory."""
    if name == "WITHOUT_MEMORY":
        raise RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`")
    raise AttributeError(name)
