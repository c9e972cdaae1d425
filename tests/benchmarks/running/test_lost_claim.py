"""A job of several processes whose first loses the claim: all end with the status of that, and say it once."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.commands import PATIENCE

JOB = """
import os, signal, sys
from pathlib import Path
import torch
from benchmarks.running import lease
from benchmarks.running.claim import CLAIM, claimed
from benchmarks.running.owners import Holder

lease.LEASE_SECONDS = 0.6
signal.signal(signal.SIGTERM, lambda *arguments: None)  # noted, and answered later, as in training
directory = Path(sys.argv[1])
with claimed(directory, directory.parent, lambda: "task: x"):
    torch.distributed.all_reduce(torch.ones(1))
    if os.environ["RANK"] == "0":
        (directory / CLAIM).unlink()
        (directory / CLAIM).write_bytes(Holder("elsewhere", 77, "another").marker)
    while True:
        torch.distributed.all_reduce(torch.ones(1))
"""


def test_all_end_together(tmp_path: Path) -> None:
    """The others were left to a reset connection, and ended with its traceback and status 1."""
    program = tmp_path / "job.py"
    program.write_text(JOB)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished = subprocess.run(
        [*launcher, str(program), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert re.findall(r"exitcode +: (-?\d+) \(pid", finished.stdout) == ["75", "75"], finished.stdout
    (said,) = re.findall(r"^backbench: (.*)", finished.stdout, re.MULTILINE)
    assert "process 77 on elsewhere has it now. Ending at once" in said
    assert "Read error" not in finished.stdout and "Connection reset" not in finished.stdout
