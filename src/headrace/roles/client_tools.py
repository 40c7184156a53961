"""What storage clients are given, the same to controllers and to the volume driver: here, and on a cluster's nodes."""

from __future__ import annotations

import sys
from pathlib import Path

from headrace.data.client import ClientTools
from headrace.fuse.install import DEVICE_PLACE
from headrace.spec.names import STAND_IN_DIRECTORY

# libfuse calls its compiled-in path, Go's clients search PATH, which an image may have set to anything.
_PLACES_IN_IMAGES = ("/usr/bin/fusermount3", "/usr/bin/fusermount", "/bin/fusermount3", "/bin/fusermount")


def client_tools(path: str) -> ClientTools:
    """Return them: our interpreter, the PATH `path`, and where fusermount lies here."""
    places = tuple(p for p in ("/usr/bin/fusermount3", "/bin/fusermount", "/usr/bin/fusermount") if Path(p).exists())
    return ClientTools(
        served=(sys.executable, "-m", "headrace.fuse.served"),
        path=path,
        stand_in_places=places,
        device_place=DEVICE_PLACE,
    )


def cluster_tools() -> ClientTools:
    """Return those of a cluster's nodes, where images are the users': all comes out of the driver's socket volume."""
    return ClientTools(
        served=(f"{STAND_IN_DIRECTORY}/served",), stand_in_places=_PLACES_IN_IMAGES, device_place=DEVICE_PLACE
    )
