"""What all machines of a job have to have alike, before a step is taken: code, data, and the run's directory.

One process on each looks; if something is wrong on any, all end with one message that names hosts and paths.
"""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from backbones.errors import InputError
from backbones.training.agreement import each_says, first_decides, require_of_all
from backbones.training.machine import leads_node
from benchmarks.running.claim import CLAIM
from benchmarks.running.repeating import Code

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two looks."""


def require_same_code(code: Code) -> None:
    """Raise InputError, the same in all processes, unless all run the same sources, model and libraries.

    code: what this process would run with
    """
    said = each_says((socket.gethostname(), code.with_versions()))
    unlike = []
    for name in dict.fromkeys(name for _, versions in said for name in versions):
        hosts: dict[str, list[str]] = {}
        for host, versions in said:
            hosts.setdefault(versions.get(name) or "none", []).append(host)
        if len(hosts) > 1:
            told = ", ".join(f"{version} on {' and '.join(sorted({*names}))}" for version, names in hosts.items())
            unlike.append(f"{name}: {told}")
    if unlike:
        raise InputError(f"machines of this job run unlike code: {'; '.join(unlike)}. Install the same on all")


def require_same_data(sample: Sequence[tuple[str, int]], root: Path) -> None:
    """End all processes unless each machine has the files that the first process has drawn, in their sizes.

    sample: the files, absolute, and how many bytes each has
    root:   the data's folder; each process has been given its own

    What lies elsewhere, such as images unpacked into a machine's own cache folder, may lie in another place on each:
    the lists that are made of it are compared when they have been opened.
    """
    places = each_says((socket.gethostname(), leads_node(), os.path.abspath(root)))  # noqa: PTH100
    if sum(leads for _, leads, _ in places) == 1:
        return
    first_host, _, first_root = places[0]
    require_of_all(_first_difference(sample, first_root, root, first_host) if leads_node() else "")


def _first_difference(sample: Sequence[tuple[str, int]], first_root: str, root: Path, first_host: str) -> str:
    prefix = os.path.join(first_root, "")  # noqa: PTH118
    for named, size in sample:
        if not named.startswith(prefix):
            continue
        path = (root / named.removeprefix(prefix)).absolute()
        try:
            found = path.stat().st_size
        except OSError as error:
            wrong = error.strerror or str(error)
        else:
            wrong = "" if found == size else f"{found:,} bytes"
        if wrong:
            return (
                f"{path} on {socket.gethostname()}: {wrong}, and {size:,} bytes for the first process, on "
                f"{first_host}. Give all machines of a job the same data"
            )
    return ""


def require_same_directory(directory: Path, seconds: float) -> None:
    """End all processes unless each machine sees, within so many seconds, the claim that the first process has there.

    Without that, machines with an --out of their own would each go on from what they find in theirs.
    """
    host, claim = first_decides(lambda: (socket.gethostname(), (directory / CLAIM).read_bytes()))
    place = directory.absolute()
    complaint = ""
    if leads_node() and not _is_seen(place / CLAIM, claim, seconds):
        complaint = (
            f"{place} on {socket.gethostname()}: not the directory that the first process, on {host}, writes to: its "
            f"{CLAIM} was not seen there within {seconds:g} s. Give an --out that is the same directory on all "
            "machines; if it is, wait longer: --set runtime.shared_directory_seconds=120"
        )
    require_of_all(complaint)


def _is_seen(path: Path, content: bytes, seconds: float) -> bool:
    """Whether a file has this content, or comes to have it."""
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while _content(path) != content:
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)
    return True


def _content(path: Path) -> bytes | None:
    """A file's, as the file server has it: it is asked anew by opening the file, and the folders that it lies in."""
    for folder in reversed(path.parents):
        with suppress(OSError):
            os.close(os.open(folder, os.O_RDONLY))
    try:
        return path.read_bytes()
    except OSError:
        return None
