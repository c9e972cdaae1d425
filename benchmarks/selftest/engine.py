"""The lines about the engine, in order of worth: batch norm, the loss scale, several processes, torch.compile."""

from benchmarks.selftest.batch_norms import BATCH_NORMS
from benchmarks.selftest.compiled import COMPILED
from benchmarks.selftest.lines import Line
from benchmarks.selftest.loss_scale import LOSS_SCALE
from benchmarks.selftest.processes import TOGETHER

ENGINE: tuple[Line, ...] = (LOSS_SCALE, *BATCH_NORMS, *TOGETHER, *COMPILED)
