"""Who holds a lease: how its marker says so, and whether it is a process of this machine that is no more."""

import os
import re
import secrets
import socket
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_INITIAL_PROCESS_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of the kernel; a container has another, and numbers its processes anew."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease, or once did.

    host:  by its name, and by its process namespace in a container
    boot:  which start of which machine, as the kernel has it; empty where that is not known
    token: of this one lease
    """

    host: str
    pid: int
    boot: str
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def name(self) -> str:
        return f"process {self.pid} on {self.host.partition('?')[0]}"

    @property
    def marker(self) -> bytes:
        return f"host={self.host}\npid={self.pid}\nboot={self.boot}\ntoken={self.token}\n".encode()

    @property
    def is_here(self) -> bool:
        """Whether it is known to be of this machine: another may have the same name, but was not started with it."""
        return bool(self.boot) and (self.host, self.boot) == (_host(), _boot())

    @property
    def is_dead(self) -> bool:
        """Whether it is a process of this machine that is no more."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:
            pass
        return False


def this_process() -> Holder:
    """This process, with a token of its own."""
    return Holder(_host(), os.getpid(), _boot())


def holder_in(marker: bytes) -> Holder | None:
    """Whom a marker names; None where it is not yet written, or something else."""
    fields = dict(line.partition("=")[::2] for line in marker.decode(errors="replace").splitlines())
    try:
        holder = Holder(fields["host"], int(fields["pid"]), fields.get("boot", ""), fields["token"])
    except (KeyError, ValueError):
        return None
    return holder if holder.pid > 0 else None


def _host() -> str:
    name = re.sub(r"[^!->@-~]", "-", socket.gethostname())
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # only Linux has it
        return name
    return name if namespace == _INITIAL_PROCESS_NAMESPACE else f"{name}?pidns-{namespace:x}"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
