"""All comparisons with peers, one script after the other, and one table of them.

    python benchmarks/speed/comparing/everything.py [--device cuda] [--out gpu] [--repeats N] [--only SCRIPT ...]
                                                    [--option SCRIPT=OPTIONS]

Training steps are compared on the device, loading and scoring on the CPU. Writes OUT/speed.md, of some scripts alone
OUT/speed-SCRIPT.md, and in OUT/speed each script's figures (SCRIPT.json) and what it said (SCRIPT.txt). A script that
fails is named, the others are run all the same, and the exit status is 1.
"""

import argparse
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from benchmarks.launching.descendants import end_marked
from benchmarks.launching.interrupting import ignore_interruptions, interruptible
from benchmarks.speed.comparing.arguments import require_counts, require_writable
from benchmarks.speed.comparing.figures import Figures, markdown_table

SPEED = Path(__file__).resolve().parents[1]
HOUSE = SPEED.parents[1]
TABLE = "speed.md"
_MARK = "BACKBENCH_COMPARISON"
"""In the environment of a script and of all that it starts."""

INTERRUPTED = 130


@dataclass(frozen=True)
class Script:
    """One of the scripts.

    device:  whether it takes `--device`
    options: what it is given besides
    """

    path: Path
    device: bool = False
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.stem


SCRIPTS = (
    Script(SPEED / "mae_step.py", device=True),
    Script(SPEED / "vit_trunk.py", device=True),
    Script(SPEED / "detector_step.py", device=True),
    Script(SPEED / "segmentor_step.py", device=True),
    Script(SPEED / "probing.py", device=True),
    Script(SPEED / "semantic_scoring.py"),
    Script(SPEED / "image_loading.py"),
    Script(SPEED / "coco_scoring.py", options=("--repeats", "2")),
)


@dataclass(frozen=True)
class Ran:
    """What came of a script: its figures, or why there are none."""

    script: Script
    figures: Figures | None = None
    failure: str = ""


def run_all(
    scripts: Sequence[Script], device: str, out: Path, options: Sequence[str] = (), table: str = TABLE
) -> list[Ran]:
    """Run each on `device`, with more options for all, and say on the screen which, and how far it is.

    OUT/TABLE has those that have ended, after each, and is no more of another time.
    """
    (out / table).unlink(missing_ok=True)
    began, found = time.monotonic(), []
    for number, script in enumerate(scripts, start=1):
        where = device if script.device else "the CPU"
        so_far = _clock(time.monotonic() - began)
        print(f"\n[{number} of {len(scripts)}] {script.name} on {where}, {so_far} so far", flush=True)
        found.append(run_script(script, device, out, options))
        (out / table).write_text(describe(found))
        if found[-1].failure:
            print(f"{script.name} failed: {found[-1].failure}", flush=True)
    print(f"\n{len(scripts)} scripts, {_clock(time.monotonic() - began)}", flush=True)
    return found


def run_script(script: Script, device: str, out: Path, options: Sequence[str] = ()) -> Ran:
    """Run one in a process of its own, what it says on the screen as well as in OUT/speed/SCRIPT.txt.

    Nothing that it has started goes on after it, nor does it after an interruption.
    """
    figures, said = (out / "speed" / f"{script.name}.{ending}" for ending in ("json", "txt"))
    figures.parent.mkdir(parents=True, exist_ok=True)
    figures.unlink(missing_ok=True)
    command = [sys.executable, str(script.path), "--json", str(figures), *script.options, *options]
    if script.device:
        command += ["--device", device]
    paths = [str(HOUSE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }
    last, token = "", secrets.token_hex(8)
    with (
        said.open("w") as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment | {_MARK: token},
        ) as process,
    ):
        assert process.stdout
        try:
            for line in process.stdout:
                log.write(line)
                print(f"  {line}", end="", flush=True)
                last = line.strip() or last
            process.wait()
        except KeyboardInterrupt:
            ignore_interruptions()  # a second one, as timeout sends it to the group, would leave some of it
            raise
        finally:
            process.kill()
            end_marked(_MARK, token)
    if process.returncode:
        return Ran(script, failure=f"exit status {process.returncode}, {last or 'without a word'}")
    try:
        return Ran(script, Figures.model_validate_json(figures.read_text()))
    except (OSError, ValidationError) as error:
        return Ran(script, failure=f"its figures cannot be read: {error}")


def table_of(chosen: Sequence[str], known: int) -> str:
    """The name of the table of these scripts, of so many: some of them leave that of all as it is."""
    if len(chosen) == known:
        return TABLE
    first, *more = chosen
    return f"speed-{first}" + (f"-and-{len(more)}-more" if more else "") + ".md"


def describe(found: Sequence[Ran]) -> str:
    """The table in Markdown, and which scripts have no line in it."""
    figures = [ran.figures for ran in found if ran.figures]
    failures = [f"- {ran.script.name} failed: {ran.failure}" for ran in found if ran.failure]
    parts = []
    if figures:
        parts += [markdown_table(comparison for each in figures for comparison in each.comparisons)]
        parts += [f"PyTorch {', '.join(sorted({each.torch for each in figures}))}."]
    if failures:
        parts.append("\n".join(["Not measured:", "", *failures]))
    return "\n\n".join(parts) + "\n"


def _clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _options_by_script(
    parser: argparse.ArgumentParser, given: Sequence[str], names: Sequence[str], only: Sequence[str]
) -> dict[str, list[str]]:
    """Each `--option` taken apart. Ends the process with a message for one that would serve no script."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for each in given:
        name, equals, options = each.partition("=")
        if name not in found or not equals:
            parser.error(f"--option {each}: expected SCRIPT=OPTIONS, a script being one of {', '.join(names)}")
        if name not in only:
            parser.error(f"--option {each}: --only leaves {name} out. Name it there too, or leave the option out")
        try:
            found[name] += shlex.split(options)
        except ValueError as error:
            parser.error(f"--option {each}: cannot be taken apart ({error}). Expected words as in a shell")
    return found


def main(scripts: Sequence[Script] = SCRIPTS) -> int:
    """The exit status: 1 if a script failed, 130 after Ctrl-C, SIGTERM or SIGHUP."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [script.name for script in scripts]
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="default cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="a folder for what is found (default gpu)")
    parser.add_argument("--repeats", type=int, help="turns of each side in all scripts, instead of their own defaults")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SCRIPT", help=", ".join(names))
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="SCRIPT=OPTIONS",
        help="more options for one script, such as 'vit_trunk=--image-size 256 --batch 1'; can be given again",
    )
    arguments = parser.parse_args()
    require_counts(parser, arguments)
    more = _options_by_script(parser, arguments.option, names, arguments.only)
    table = arguments.out / table_of([name for name in names if name in arguments.only], len(names))
    for path in (table, arguments.out / "speed/figures.json"):
        require_writable(parser, "--out", path)
    chosen = [
        Script(script.path, script.device, (*script.options, *more[script.name]))
        for script in scripts
        if script.name in arguments.only
    ]
    repeats = ["--repeats", str(arguments.repeats)] if arguments.repeats is not None else []
    try:
        with interruptible():
            found = run_all(chosen, arguments.device, arguments.out, repeats, table.name)
    except KeyboardInterrupt:
        what = f"{table} has the scripts that have ended" if table.exists() else "no script has ended"
        print(f"\ninterrupted; {what}", file=sys.stderr)
        return INTERRUPTED
    print(f"\n{describe(found)}\n{table}")
    return int(any(ran.failure for ran in found))


if __name__ == "__main__":
    sys.exit(main())
