"""What is run: the command line, recipes and suites, the generated data.

    from benchmarks import plan_suite, run_suite

    done = run_suite(plan_suite("paper", "runs", site="site.yaml", only=["table=coco"]))
    done.tables[0].to_frame()

The names are loaded when they are first used, so importing this room costs nothing: the command line does it on every
call.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.planning.suites.plan import SuitePlan, plan_suite
    from benchmarks.scheduling.suites import SuiteRun, run_suite

__all__ = ["SuitePlan", "SuiteRun", "plan_suite", "run_suite"]

_HOME = {
    "planning.suites.plan": ("SuitePlan", "plan_suite"),
    "scheduling.suites": ("SuiteRun", "run_suite"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"benchmarks.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
