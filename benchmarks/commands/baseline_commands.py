"""The commands about what nights are held against: `backbench baseline …`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import AsJson
from benchmarks.commands.statuses import Group

baseline_app = typer.Typer(
    cls=Group, no_args_is_help=True, help="What nights are held against: a folder of nights, to be committed."
)

Baseline = Annotated[Path, typer.Argument(metavar="BASELINE", help="The folder of a baseline.")]
Who = Annotated[
    str, typer.Option(metavar="NAME", help="Who decides it; by default git's user.name, else the login name.")
]
_WHY = typer.Option(metavar="WORDS", help="Why; it stands in baseline.yaml, with who and when. May be repeated.")
Why = Annotated[list[str] | None, _WHY]


@baseline_app.command("show")
def baseline_show(baseline: Baseline, as_json: AsJson = False) -> None:
    """Say which nights count, what else is there, and who has changed that, when and why.

    All of it stands in BASELINE/baseline.yaml, which can be read and reviewed as it is. Each night is a store like any
    other, for every command that reads one: backbench table BASELINE/2026-11-26
    """
    from benchmarks.commands.baselines import show_baseline

    show_baseline(baseline, as_json=as_json)


@baseline_app.command("promote")
def baseline_promote(
    store: Annotated[
        Path,
        typer.Argument(metavar="STORE|NIGHT", help="The --out of runs or of a suite, or a night of --keep-nights."),
    ],
    baseline: Annotated[
        Path, typer.Option("--to", metavar="BASELINE", help="The baseline's folder, made where there is none.")
    ],
    with_images: Annotated[
        bool,
        typer.Option(
            "--with-images",
            help="Keep what each image came to as well, for `backbench regress` and `backbench compare`, which test "
            "runs image by image. These files are the large ones: per_image.csv has a line for each image.",
        ),
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="From this night on: earlier ones count no longer, since behaviour was to change. With --why.",
        ),
    ] = False,
    keep: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="So many of the newest nights count and stay, and an older one while it alone has another seed.",
        ),
    ] = 14,
    who: Who = "",
    why: Why = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Although cells failed or have not finished: what has finished counts.")
    ] = False,
) -> None:
    """Add a night that was green to those that the next ones are held against.

    Record, log and recipe of each finished run are copied under the night's date: the name of its folder, else the day
    on which its last run finished. Nights older than the newest N go. A night that is there already gains what it
    lacks; with other numbers it is refused.

    Every green night: backbench baseline promote nights/2026-11-26 --to baseline && git add baseline

    After a change that was to alter the numbers: … --fresh --why "new crop, issue 21"
    """
    from benchmarks.commands.baselines import promote_night

    promote_night(
        store, baseline, with_images=with_images, fresh=fresh, keep=keep, who=who, why=_one(why), anyway=anyway
    )


@baseline_app.command("pin")
def baseline_pin(
    baseline: Baseline,
    nights: Annotated[
        list[str], typer.Argument(metavar="NIGHT...", help="Nights of the baseline, such as 2026-11-26.")
    ],
    why: Annotated[list[str], _WHY],
    who: Who = "",
) -> None:
    """Let these nights count and no others, whatever is promoted, until `unpin`.

    So that numbers cannot drift away with the baseline: backbench baseline pin baseline 2026-11-26 --why "release 1.0"
    """
    from benchmarks.commands.baselines import pin_nights

    pin_nights(baseline, nights, who=who, why=_one(why))


@baseline_app.command("unpin")
def baseline_unpin(baseline: Baseline, who: Who = "", why: Why = None) -> None:
    """Let the newest nights count again, from the last one on that was promoted with --fresh."""
    from benchmarks.commands.baselines import unpin_nights

    unpin_nights(baseline, who=who, why=_one(why))


def _one(reasons: list[str] | None) -> str:
    return "; ".join(reason for reason in reasons or () if reason.strip())
