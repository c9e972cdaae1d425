"""What `backbench suite --dry-run` prints: every cell of a suite before anything is started."""

from benchmarks.commands.sheets import Sheet, print_json, show
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.scheduling.folders import jobs_of


def show_planned(plan: SuitePlan, *, as_json: bool) -> int:
    """Every cell of a suite, and what is missing; the exit status, 1 if anything is."""
    if as_json:
        print_json(jobs_of(plan).model_dump(mode="json"))
    else:
        sheet = Sheet(("cell", "method", "pre-training data", "column", "published", "missing"))
        for cell in plan.cells:
            published = ", ".join(f"{name} {value}" for name, value in cell.expected.items())
            row = (cell.name, cell.method, cell.pretrain_data, cell.column, published, "; ".join(cell.missing))
            sheet.rows.append(row)
        show(sheet)
    return 1 if any(cell.missing for cell in plan.cells) else 0
