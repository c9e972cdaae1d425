"""What a check of `backbench check-backbone` came to."""

from dataclasses import dataclass
from typing import Literal

CLASSIFICATION, DENSE, PROBES, ALL = "classification", "detection, segmentation", "probes", "all"

Result = Literal["ok", "failed", "told"]


@dataclass(frozen=True)
class Finding:
    """What one check came to.

    task:   CLASSIFICATION, DENSE, PROBES or ALL
    result: "told" where there is nothing to pass or to fail
    remark: what was found; where it failed, what to mend
    """

    task: str
    check: str
    result: Result
    remark: str
