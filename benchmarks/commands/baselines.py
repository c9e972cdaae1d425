"""What `backbench baseline` does and prints."""

import sys
from collections.abc import Sequence
from pathlib import Path

from backbones.errors import InputError
from benchmarks.commands.sheets import Sheet, print_json, show, spell_size
from benchmarks.running.baseline_file import BaselineFile, read_baseline
from benchmarks.running.baselines import describe_nights, pin, promote, tidy, unpin
from benchmarks.running.inventory import find_all_runs
from benchmarks.scheduling.status import Reader
from results.regression.wording import counted

_MOST_NAMED = 5


def show_baseline(baseline: Path, *, as_json: bool) -> None:
    """Print the nights and the changes of a baseline, from which what a killed command left is removed before."""
    tidy(baseline)
    file, nights = read_baseline(baseline), describe_nights(baseline)
    if as_json:
        print_json(
            {
                "counts": file.counts,
                "pinned": file.pinned,
                "nights": [
                    {"night": one.night, "counts": one.counts, "runs": one.runs, "bytes": one.bytes} for one in nights
                ],
                "entries": [entry.model_dump(mode="json", by_alias=True) for entry in file.entries],
            }
        )
        return
    sheet = Sheet(("night", "counts", "runs", "size"), numbers=frozenset({"runs", "size"}))
    counting = "pinned" if file.pinned else "yes"
    sheet.rows.extend(
        (one.night, counting if one.counts else "no", str(one.runs), spell_size(one.bytes)) for one in nights
    )
    show(sheet, _changes(file))


def promote_night(
    store: Path, baseline: Path, *, with_images: bool, fresh: bool, keep: int, who: str, why: str, anyway: bool
) -> None:
    """Add a night to a baseline. Raises InputError where cells failed or have not finished, unless `anyway`."""
    lacking = _unfinished(store)
    if lacking and not anyway:
        more = f" and {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
        raise InputError(
            f"{store}: {len(lacking)} not finished: {'; '.join(lacking[:_MOST_NAMED])}{more}. Finish the night first, "
            "or give --anyway, and what has finished counts"
        )
    done = promote(baseline, store, who=who, why=why, with_images=with_images, keep=keep, fresh=fresh)
    if done.is_new:
        _tell(f"{baseline}: {done.night}, {counted(done.runs, 'run')} added", done.counts, done.pinned)
    else:
        _tell(f"{baseline}: {done.night} is there already; nothing to do", done.counts, done.pinned)
    if done.dropped:
        print(f"removed as older than the newest {keep}: {', '.join(done.dropped)}", file=sys.stderr)


def pin_nights(baseline: Path, nights: Sequence[str], *, who: str, why: str) -> None:
    """Let these nights count, and no others."""
    _tell(str(baseline), pin(baseline, nights, who=who, why=why), pinned=True)


def unpin_nights(baseline: Path, *, who: str, why: str) -> None:
    """Let the newest nights count again."""
    _tell(str(baseline), unpin(baseline, who=who, why=why), pinned=False)


def _tell(what: str, counts: Sequence[str], pinned: bool) -> None:
    count = f"count{'s' if len(counts) == 1 else ''}{', pinned' if pinned else ''}"
    print(f"{what}. {', '.join(counts)} {count}", file=sys.stderr)


def _changes(file: BaselineFile) -> Sheet:
    sheet = Sheet(("when", "who", "what", "nights", "why", "from"))
    for entry in file.entries:
        what = f"{entry.action} --fresh" if entry.fresh else entry.action
        sheet.rows.append((entry.when, entry.who, what, ", ".join(entry.nights), entry.why, entry.origin))
    return sheet


def _unfinished(store: Path) -> list[str]:
    """What of a store has not finished, and why: cells of its suites, or runs where there are none."""
    if not store.is_dir():
        raise InputError(f"{store}: no such directory. Name the --out of runs or of a suite, or one of its nights")
    suites = Reader(store).read_all()
    if not suites:
        runs = (run for run in find_all_runs(store) if run.state != "finished")
        return [f"{run.directory}: {run.state}, {run.detail}" for run in runs]
    cells = [cell for suite in suites for cell in suite.cells if cell.state != "finished"]
    told = [f"{cell.job.name} {cell.state}{f': {_one_line(cell.reason)}' if cell.reason else ''}" for cell in cells]
    return [*(suite.fault for suite in suites if suite.fault), *told]


def _one_line(text: str) -> str:
    return " ".join(text.split())
