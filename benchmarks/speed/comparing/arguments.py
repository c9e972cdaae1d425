"""The options that the scripts of this folder have in common."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from backbones.errors import InputError
from backbones.training.machine import Device, choose_device


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with `--json`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def parse_arguments(
    parser: argparse.ArgumentParser, defaults: Mapping[str, Mapping[str, int]] | None = None
) -> argparse.Namespace:
    """Parse, choose the device, and fill in what depends on it.

    defaults: for each device that the script runs on, the first being its own default, the values of options that were
    not given. Without them it runs on the CPU, and has no `--device`.

    Ends the process with a message for a device that is not there.
    """
    if defaults:
        first = next(iter(defaults))
        parser.add_argument("--device", choices=list(defaults), default=first, help=f"default {first}")
    arguments = parser.parse_args()
    device: Device = arguments.device if defaults else "cpu"
    try:
        choose_device(device)
    except InputError as error:
        parser.exit(2, f"{parser.prog}: --device {device}: {error}\n")
    for name, value in (defaults or {}).get(device, {}).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments
