"""What `backbench check-backbone` prints: in which tasks a backbone serves, and what is to be mended."""

import sys
from dataclasses import asdict

from backbones.weights.checkpoints import read_checkpoint
from benchmarks.commands.backbone_checks import check_backbone
from benchmarks.commands.findings import ALL, CLASSIFICATION, DENSE, PROBES, Finding
from benchmarks.commands.sheets import Sheet, nothing_else_on_stdout, print_json, show
from benchmarks.planning.cells import parse_backbone

_HEADINGS = ("task", "check", "result", "remark")
_WIDTHS = (len(DENSE), len("activation checkpointing"), len("failed"))


def show_checks(argument: str, *, as_json: bool) -> bool:
    """Print what each check of `NAME` or `NAME=CHECKPOINT` comes to, as it does, and whether the tasks would run.

    True if all would. Raises InputError for an unknown name, and a file that cannot be read.
    """
    name, path = parse_backbone(argument)
    found: list[Finding] = []
    with nothing_else_on_stdout(as_json):
        for finding in check_backbone(name, read_checkpoint(path) if path else None):
            if not as_json:
                row = (finding.task, finding.check, finding.result, finding.remark)
                show(Sheet(_HEADINGS, [row], widths=_WIDTHS), with_headings=not found)
                sys.stdout.flush()
            found.append(finding)
    serves = {task: _serves(task, found) for task in (CLASSIFICATION, DENSE, PROBES)}
    if as_json:
        print_json({"backbone": name, "serves": serves, "checks": [asdict(each) for each in found]})
        return all(serves.values())
    print()
    for task, does in serves.items():
        print(f"{task}: {'would run' if does else 'would not run as it should; see what failed'}")
    return all(serves.values())


def _serves(task: str, found: list[Finding]) -> bool:
    """Whether a task was tried, and nothing that concerns it failed."""
    concerning = [each for each in found if each.task in (task, ALL)]
    return any(each.task == task for each in concerning) and all(each.result != "failed" for each in concerning)
