"""Each process of a job lists its data by itself, and has to find what the first one does.

A list is mapped into memory by all processes of a machine; to send a million paths, or COCO's annotations, to each of
them would cost more than to compare what they have.
"""

import hashlib
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbones.training.agreement import each_says, first_decides, require_of_all
from backbones.training.machine import process_count


@dataclass(frozen=True)
class Listing:
    """What this process has found of one part of the data.

    what:    in words, "training images"
    count:   how many there are
    decided: all that tells one list from another, sizes of files apart: their names, labels, annotations
    names:   lists the names; asked for only where lists differ
    """

    what: str
    count: int
    decided: Sequence[bytes | np.ndarray]
    names: Callable[[], Iterable[str]]

    @property
    def digest(self) -> str:
        """Of what decides."""
        digest = hashlib.sha256()
        for part in self.decided:
            content = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else np.ascontiguousarray(part)
            digest.update(f"{content.nbytes}\n".encode())
            digest.update(content.data)
        return digest.hexdigest()


def require_same_lists(root: Path, *listings: Listing) -> None:
    """End all processes unless each has found below its `root` what the first has: one message says what differs.

    All processes have to call this. Files are compared by their names, not by their sizes.
    """
    if process_count() == 1:
        return
    place, host, own = os.path.abspath(root), socket.gethostname(), [listing.digest for listing in listings]  # noqa: PTH100
    said = each_says((place, host, own))
    first_place, first_host, first = said[0]
    if all(digests == first for _, _, digests in said):
        return
    names = first_decides(lambda: [[*listing.names()] for listing in listings])
    complaint = ""
    for listing, digest, first_digest, first_names in zip(listings, own, first, names, strict=True):
        if digest != first_digest and not complaint:
            complaint = (
                f"{place} on {host}: {listing.count:,} {listing.what}, and {len(first_names):,} for the first process, "
                f"in {first_place} on {first_host}: {_difference([*listing.names()], first_names)}. Give all machines "
                "of a job the same data, which nothing changes meanwhile"
            )
    require_of_all(complaint)


def _difference(own: Sequence[str], first: Sequence[str]) -> str:
    here, there = sorted({*own} - {*first}), sorted({*first} - {*own})
    told = [
        f"{len(names):,} only {where}, {names[0]}{' among them' if len(names) > 1 else ''}"
        for where, names in (("here", here), ("there", there))
        if names
    ]
    return "; ".join(told) or "the same names, with other labels, class names or annotations"
