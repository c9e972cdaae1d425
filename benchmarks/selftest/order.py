"""All lines of the self-test, in the order of their worth: what would spoil most numbers comes first."""

from benchmarks.selftest.attention import ATTENTION
from benchmarks.selftest.dense import DENSE
from benchmarks.selftest.engine import ENGINE
from benchmarks.selftest.full_size import FULL_SIZE
from benchmarks.selftest.lines import Line
from benchmarks.selftest.mini_jobs import MINI_JOBS
from benchmarks.selftest.probes import PROBES
from benchmarks.selftest.resuming import RESUMING
from benchmarks.selftest.updates import UPDATES
from benchmarks.selftest.whole_images import WHOLE_IMAGES

LINES: tuple[Line, ...] = (
    *WHOLE_IMAGES,
    *ATTENTION,
    *DENSE,
    *UPDATES,
    *PROBES,
    *RESUMING,
    *MINI_JOBS,
    *FULL_SIZE,
    *ENGINE,
)
