"""What storage clients are given on this machine, the same to controllers and to the volume driver."""

from __future__ import annotations

import sys
from pathlib import Path

from headrace.data.client import ClientTools
from headrace.fuse.install import DEVICE_PLACE


def client_tools(path: str) -> ClientTools:
    """Return them: our interpreter, the PATH `path`, and where fusermount lies here."""
    places = tuple(p for p in ("/usr/bin/fusermount3", "/bin/fusermount", "/usr/bin/fusermount") if Path(p).exists())
    return ClientTools(
        served=(sys.executable, "-m", "headrace.fuse.served"),
        path=path,
        stand_in_places=places,
        device_place=DEVICE_PLACE,
    )
