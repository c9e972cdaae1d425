"""Which disks are this machine's own, by Linux' list of what is mounted where."""

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""proc_pid_mountinfo(5): the fifth field is the mount point, the first after a lone dash the kind of file system."""

_OWN = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "tmpfs", "ramfs", "overlay", "aufs"}
)
"""Kinds of which a file that is open stays whole, whoever removes it: no other machine writes there."""


def is_on_own_disk(path: Path) -> bool:
    """Whether a path lies on a file system that is known to be this machine's alone.

    False for those of networks (NFS, Lustre, SMB, FUSE's, …), and for whatever is not known.
    """
    return _kind(path) in _OWN


def _kind(path: Path) -> str:
    """The kind of file system below a path; empty if that is not known."""
    place, kind, deepest = Path(os.path.realpath(path)), "", -1
    try:
        lines = os.fsdecode(MOUNTS.read_bytes()).splitlines()
    except OSError:
        return ""
    for line in lines:
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if dash and len(fields) > 4 and place.is_relative_to(point := Path(_unescaped(fields[4]))):
            depth = len(point.parts)
            if depth >= deepest:  # of several at one place the last is seen
                kind, deepest = after.split(" ")[0], depth
    return kind


def _unescaped(field: str) -> str:
    """With the spaces, tabs, line feeds and backslashes that the kernel writes as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
