"""All comparisons one after the other: what is run how, what is said of it, and what of one that fails."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.speed.comparing import everything
from benchmarks.speed.comparing.everything import HOUSE, SCRIPTS, SPEED, Script, describe, main, run_all, run_script

SPREAD = {"median": 2.0, "lowest": 1.5, "highest": 2.5}
COMPARISON = {
    "what": "a step",
    "peer": "another's",
    "unit": "images/s",
    "ours": SPREAD,
    "theirs": SPREAD,
    "ratio": SPREAD,
    "device": "a device",
}
GOOD = f"""
import sys
from pathlib import Path
print(*sys.argv[1:])
figures = {{"torch": "2.0", "comparisons": [{COMPARISON}]}}
import json
Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(figures))
"""
BAD = "import sys\nprint('so far so good', flush=True)\nraise RuntimeError('the GPU is on fire')"
EMPTY = "pass"
BROKEN = GOOD.replace('"device"', '"gadget"').replace("'device'", "'gadget'")
SMALL = {
    "mae_step": "--batch 1",
    "vit_trunk": "--image-size 256",
    "detector_step": "--image-size 256",
    "segmentor_step": "--image-size 64 --steps 1",
    "probing": "--queries 100 --kept 1000 --images 64 --epochs 2",
    "semantic_scoring": "--images 4",
    "image_loading": "--images 4",
    "coco_scoring": "--images 30",
}


def stub(folder: Path, name: str, text: str, **settings: object) -> Script:
    path = folder / f"{name}.py"
    path.write_text(text)
    return Script(path, **settings)  # type: ignore[arg-type]


def test_a_script_is_given_its_device_and_its_options(tmp_path: Path) -> None:
    script = stub(tmp_path, "step", GOOD, device=True, options=("--batch", "2"))
    ran = run_script(script, "cuda", tmp_path, ["--repeats", "1"])
    assert ran.failure == "" and ran.figures and ran.figures.comparisons[0].what == "a step"
    said = (tmp_path / "speed/step.txt").read_text().split()
    assert said == [
        "--json",
        str(tmp_path / "speed/step.json"),
        *["--batch", "2", "--repeats", "1", "--device", "cuda"],
    ]


def test_a_script_for_the_cpu_is_given_no_device(tmp_path: Path) -> None:
    run_script(stub(tmp_path, "scoring", GOOD), "cuda", tmp_path)
    assert "--device" not in (tmp_path / "speed/scoring.txt").read_text()


def test_the_screen_says_what_runs_where_and_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scripts = [stub(tmp_path, "step", "print('half way')\n" + GOOD, device=True), stub(tmp_path, "scoring", GOOD)]
    run_all(scripts, "cuda", tmp_path)
    screen = capsys.readouterr().out
    assert "[1 of 2] step on cuda, 0:0" in screen and "[2 of 2] scoring on the CPU, 0:0" in screen
    assert "\n  half way\n" in screen and "2 scripts, 0:0" in screen


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BAD, "exit status 1, RuntimeError: the GPU is on fire"),
        ("import os\nos._exit(3)", "exit status 3, without a word"),
        (EMPTY, "its figures cannot be read"),
        (BROKEN, "its figures cannot be read"),
    ],
)
def test_a_script_that_fails_is_named_and_the_others_are_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    found = run_all([stub(tmp_path, "bad", text), stub(tmp_path, "good", GOOD)], "cpu", tmp_path)
    assert [bool(ran.failure) for ran in found] == [True, False]
    assert f"bad failed: {why}" in capsys.readouterr().out
    assert f"\nNot measured:\n\n- bad failed: {why}" in describe(found) and "| a step " in describe(found)


def test_figures_of_an_earlier_time_are_not_taken_for_new(tmp_path: Path) -> None:
    assert not run_script(stub(tmp_path, "step", GOOD), "cpu", tmp_path).failure
    assert "cannot be read" in run_script(stub(tmp_path, "step", EMPTY), "cpu", tmp_path).failure


def test_a_script_finds_this_code_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    text = "import benchmarks.speed.comparing.turns as turns\nprint(turns.__file__)\n" + GOOD
    assert not run_script(stub(tmp_path, "step", text), "cpu", tmp_path).failure
    found = (tmp_path / "speed/step.txt").read_text().splitlines()[0]
    assert Path(found) == Path(everything.__file__).parent / "turns.py"


def call(monkeypatch: pytest.MonkeyPatch, scripts: list[Script], *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["everything.py", *options])
    return main(scripts)


def test_the_table_is_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = [stub(tmp_path, "step", GOOD, device=True), stub(tmp_path, "bad", BAD), stub(tmp_path, "other", GOOD)]
    out = str(tmp_path / "found")
    options = ["--device", "cpu", "--repeats", "1", "--option", "step=--size 'a b'", "--out", out]
    assert call(monkeypatch, scripts, *options) == 1
    table = (tmp_path / "found/speed.md").read_text()
    assert table.count("| a step ") == 2 and "PyTorch 2.0.\n" in table and "- bad failed" in table
    assert table in capsys.readouterr().out
    assert "--size a b --repeats 1 --device cpu" in (tmp_path / "found/speed/step.txt").read_text()
    assert call(monkeypatch, scripts, "--only", "other", "step", "--out", out) == 0
    assert (tmp_path / "found/speed.md").read_text() == table
    assert (tmp_path / "found/speed-step-and-1-more.md").read_text().count("| a step ") == 2
    assert call(monkeypatch, scripts, "--only", "other", "--out", out) == 0
    assert str(tmp_path / "found/speed-other.md") in capsys.readouterr().out.splitlines()
    assert json.loads((tmp_path / "found/speed/other.json").read_text())["comparisons"][0]["what"] == "a step"


def test_ctrl_c_leaves_a_table_of_what_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupting = "import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(1)"
    scripts = [stub(tmp_path, name, text) for name, text in (("good", GOOD), ("bad", interrupting), ("last", GOOD))]
    assert call(monkeypatch, scripts, "--device", "cpu", "--out", str(tmp_path)) == 130
    table = (tmp_path / "speed.md").read_text()
    assert table.count("| a step ") == 1 and "Not measured" not in table
    assert f"interrupted; {tmp_path / 'speed.md'} has the scripts that have ended" in capsys.readouterr().err
    assert not (tmp_path / "speed/last.json").exists()
    assert call(monkeypatch, scripts[1:], "--device", "cpu", "--out", str(tmp_path)) == 130
    assert "interrupted; no script has ended" in capsys.readouterr().err
    assert not (tmp_path / "speed.md").exists(), "it had the scripts of the former time"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """A script, and a program that it has started in a session of its own, went on after SIGTERM, on the GPU."""
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    text = f"""
import os, subprocess, time
print(os.getpid(), subprocess.Popen({sleep!r}, start_new_session=True).pid, flush=True)
time.sleep(600)
"""
    program = f"""
import signal, sys
from pathlib import Path
from benchmarks.speed.comparing.everything import Script, main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main([Script(Path({str(stub(tmp_path, "endless", text).path)!r}))]))
"""
    command = [sys.executable, "-c", program, "--device", "cpu", "--out", str(tmp_path)]
    paths = os.pathsep.join(filter(None, [str(HOUSE), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}) as whole:
        assert whole.stdout
        started = next(words for line in whole.stdout if all(map(str.isdecimal, words := line.split())) and words)
        whole.send_signal(number)
    assert whole.returncode == 130
    assert not any(map(is_alive, started))


def test_a_second_interruption_does_not_cut_short_what_is_done_about_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timeout sends SIGTERM to the process and then to its group: what a script had started went on, now and then."""
    interrupting = "import os, signal, time\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(60)"
    done = []

    def end(variable: str, value: str) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)
        done.append(variable)

    monkeypatch.setattr(everything, "end_marked", end)
    scripts = [stub(tmp_path, "bad", interrupting)]
    assert call(monkeypatch, scripts, "--device", "cpu", "--out", str(tmp_path)) == 130
    assert done


def is_alive(process: str) -> bool:
    """A dead one is no more, or nobody has asked after it."""
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("first", "status", "speeds"), [(130, 2, False), (2, 2, False), (1, 2, True), (0, 0, True)])
def test_make_gpu_goes_on_after_a_failed_line_but_not_after_ctrl_c_or_without_a_gpu(
    first: int, status: int, speeds: bool, tmp_path: Path
) -> None:
    """make's own status for a recipe that failed is 2."""
    for name, ends, says in (("backbench", first, "doctor"), ("python", 0, "speeds")):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {says}; exit {ends}\n")
        program.chmod(0o755)
    (tmp_path / "bin/ready").write_text("")
    command = [
        "make",
        "gpu",
        f"BIN={tmp_path / 'bin'}",
        f"READY={tmp_path / 'bin/ready'}",
        "-o",
        tmp_path / "bin/ready",
    ]
    ended = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True)
    assert ended.returncode == status
    said = ended.stdout.splitlines()
    assert "doctor" in said and ("speeds" in said) == speeds


def test_options_for_a_script_that_is_not_there_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call(monkeypatch, [stub(tmp_path, "step", GOOD)], "--option", "setp=--batch 1")
    assert "--option setp=--batch 1: expected SCRIPT=OPTIONS, a script being one of step" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--option", "step='x"), "--option step='x: cannot be taken apart (No closing quotation)."),
        (("--option", "step"), "--option step: expected SCRIPT=OPTIONS, a script being one of step, other"),
        (("--option", "step=-x", "--only", "other"), "--option step=-x: --only leaves step out."),
        (("--repeats", "0"), "--repeats 0: expected at least 1"),
        (("--out", "FILE"), "speed.md cannot be written ("),
    ],
)
def test_what_cannot_serve_is_refused_before_anything_is_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "file").write_text("")
    scripts = [stub(tmp_path, name, GOOD) for name in ("step", "other")]
    with pytest.raises(SystemExit) as ended:
        call(
            monkeypatch,
            scripts,
            "--out",
            str(tmp_path / "out"),
            *(o.replace("FILE", str(tmp_path / "file")) for o in options),
        )
    said = capsys.readouterr()
    assert ended.value.code == 2 and message in said.err and not said.out
    assert not (tmp_path / "out").exists()


def test_every_script_with_a_peer_is_run() -> None:
    """`store`, `suite` and what measures how a job starts have none."""
    there = {path.stem for path in SPEED.glob("*.py")}
    assert {script.name for script in SCRIPTS} == {
        name for name in there if name not in ("store", "suite") and not name.endswith("_start")
    }


def _without_network() -> list[str]:
    """What to put before a command to run it where no network can be reached; skips the test where that is denied."""
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        try:
            if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            break
    pytest.skip("unshare does not serve here: it may not make a namespace without a network, or is not there")


@pytest.mark.slow
def test_nothing_is_needed_from_outside(tmp_path: Path) -> None:
    """All scripts, small, with the network blocked."""
    options = [word for name, each in SMALL.items() for word in ("--option", f"{name}={each}")]
    command = [*_without_network(), sys.executable, everything.__file__, "--device", "cpu", "--repeats", "1"]
    root = Path(everything.__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root), "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    ended = subprocess.run(
        [*command, "--out", str(tmp_path), *options], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    table = (tmp_path / "speed.md").read_text()
    assert "Not measured" not in table
    for peer in ("Hugging Face", "detectron2's ViT ", "detectron2's ViTDet", "mmsegmentation's MAE", "pycocotools"):
        assert f"| {peer}" in table, peer
