"""How long does `backbench suite` take where all cells are finished?

    python benchmarks/speed/suite.py [--repeats 3] [--cells 200]

The store is generated: of each cell a record that answers to its plan, with the percentages of a thousand classes. Told
are whole commands, start included: the first, which plans the suite and looks at every cell, and those after it, which
find that nothing has changed since; and how long planning and looking take by themselves.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from backbones.training.settings import protocol
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.plan import SuitePlan, plan_suite
from benchmarks.running.of_suite import RUN
from benchmarks.scheduling.finished import is_finished
from benchmarks.scheduling.folders import CellState, SuiteFolder
from benchmarks.scheduling.repeats import MARGIN
from benchmarks.speed.comparing.arguments import require_counts
from results import Metric, Record, run_directory

_SEEDS = 20
"""Of each backbone."""


def fill(folder: Path, cells: int) -> SuitePlan:
    """A suite of so many cells, all of them finished in the store `folder`/out."""
    backbones = -(-cells // _SEEDS)
    names = [f"b{number}" for number in range(backbones)]
    (folder / "data").mkdir()
    (folder / "site.yaml").write_text("data: {imagenet1k: data}\n")
    (folder / "finished.yaml").write_text(
        "backbones:\n"
        + "".join(f"  {name}: {{backbone: random_vit_base, method: method {name}}}\n" for name in names)
        + "comparisons:\n"
        + "".join(
            f"  of_{name}: {{backbones: [{name}], recipes: {{recipe: imagenet_vit_base, set: "
            f"{{schedule.epochs: {100 + number}}}}}, seeds: {list(range(_SEEDS))}, set: {{}}}}\n"
            for number, name in enumerate(names)
        )
    )
    plan = plan_suite(str(folder / "finished.yaml"), folder / "out", site=folder / "site.yaml")
    for number, cell in enumerate(plan.cells):
        _finish(cell, SuiteFolder(plan.out, plan.name), f"{number:012x}")
    return plan


def _finish(cell: SuiteCell, folder: SuiteFolder, key: str) -> None:
    planned = cell.planned
    place = ("classification", "imagenet1k", planned.backbone, cell.seed, key)
    record = Record(
        table="imagenet",
        task="classification",
        dataset="imagenet1k",
        metrics=[Metric(name="top1", value=80.0, split="val", ci_low=79, ci_high=81, n_eval=50_000)],
        method=cell.method,
        pretrain_data=cell.pretrain_data,
        model=cell.column,
        backbone=planned.backbone,
        declared={"method": cell.method},
        seed=cell.seed,
        recipe=cell.recipe,
        recipe_settings=planned.recipe.model_dump(mode="json"),
        protocol=protocol(planned.protocol_settings(planned.recipe)),
        key=key,
        plan=planned.digest,
        per_class={f"class {index}": index % 51 * 2.0 for index in range(1000)},
    )
    directory = run_directory(folder.out, *place)
    directory.mkdir(parents=True)
    (directory / "record.json").write_text(record.to_json())
    (directory / "recipe.yaml").touch()
    of_cell = folder.cell(cell.name)
    of_cell.path.mkdir(parents=True)
    of_cell.write(CellState(outcome="finished"))
    (of_cell.path / RUN).write_text(f"{directory.relative_to(folder.out)}\n{os.path.realpath(planned.data)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cells", type=int, default=200)
    chosen = parser.parse_args()
    require_counts(parser, chosen)
    with TemporaryDirectory() as name:
        folder = Path(name)
        plan = fill(folder, chosen.cells)
        time.sleep(MARGIN)  # a call does not rely on what was written only just before it
        command = [sys.executable, "-m", "benchmarks", "suite", str(folder / "finished.yaml"), "--out", str(plan.out)]
        arguments = [*command, "--site", str(folder / "site.yaml")]
        begin = time.perf_counter()
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        print(f"the first look at the finished cells: {time.perf_counter() - begin:.2f} s")
        whole, planning, looking = [], [], []
        for _ in range(chosen.repeats):
            begin = time.perf_counter()
            subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
            whole.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            again = plan_suite(str(folder / "finished.yaml"), plan.out, site=folder / "site.yaml")
            planning.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            if not all(is_finished(cell, SuiteFolder(plan.out, plan.name)) for cell in again.cells):
                raise AssertionError("a cell is not finished")
            looking.append(time.perf_counter() - begin)
        for what, seconds in (("the command", whole), ("planning", planning), ("looking", looking)):
            each = 1000 * median(seconds) / len(plan.cells)
            print(f"{what}: {median(seconds):.2f} s for {len(plan.cells)} cells, {each:.1f} ms each")


if __name__ == "__main__":
    main()
