"""The cgroups of a cluster: made before its nodes, removed after them. Both versions of cgroups, and both at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
GONE_S = 10.0


def make(name: str) -> None:
    """Make an empty cgroup `name` in every hierarchy, with all that there is to control."""
    for hierarchy in _hierarchies():
        place = hierarchy / name
        place.mkdir(exist_ok=True)
        if (place / "cgroup.subtree_control").exists():
            _delegate(hierarchy)
            _delegate(place)
        for part in ("cpuset.cpus", "cpuset.mems"):  # version 1 begins with none, and lets nobody in
            if hierarchy.name == "cpuset" and not (place / part).read_text().strip():
                (place / part).write_text((hierarchy / part).read_text())


def remove(name: str) -> None:
    """Remove the cgroups beneath `name`. Their processes must have been killed."""
    end = time.monotonic() + GONE_S
    while left := find(name):
        for top in left:
            for place in (*sorted(top.rglob("*/"), reverse=True), top):
                _try_to_remove(place)
        if time.monotonic() > end:
            raise RuntimeError(f"cgroups are still in use: {left}")
        time.sleep(0.02)


def find(name: str) -> list[Path]:
    """Return the cgroups called `name` at the top of any hierarchy."""
    return [hierarchy / name for hierarchy in _hierarchies() if (hierarchy / name).is_dir()]


def _hierarchies() -> Iterator[Path]:
    if (ROOT / "cgroup.controllers").exists():
        yield ROOT
        return
    for place in ROOT.iterdir():
        if place.is_dir() and not place.is_symlink():
            yield place


def _delegate(place: Path) -> None:
    for controller in (place / "cgroup.controllers").read_text().split():
        (place / "cgroup.subtree_control").write_text(f"+{controller}")


def _try_to_remove(place: Path) -> None:
    with suppress(OSError):  # a process in it is just being buried
        place.rmdir()
