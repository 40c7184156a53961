"""emptyDir size limits on disk: nothing enforces them but looking, so a pod that has one is looked at now and then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import anyio
from anyio import CapacityLimiter, to_thread

from headrace.node.podspec import PodSpec
from headrace.node.record import PodRecord
from headrace.node.shared import Shared
from headrace.units import parse_quantity

EVICTED = "Evicted"

_EVERY_S = 10.0
_GRACE_S = 1.0
_limiter = CapacityLimiter(1)
"""One walk at a time on a node: sizes are not urgent, and the disk has other work."""


def limits(pod: PodSpec) -> dict[str, int]:
    """Return the size limits in bytes of the pod's disk-backed emptyDirs that containers mount, by volume name."""
    found: dict[str, int] = {}
    for name, volume in pod.volumes.items():
        settings = volume.get("emptyDir") or {}
        if name in pod.mounted_volumes and settings.get("sizeLimit") and settings.get("medium") != "Memory":
            found[name] = int(parse_quantity(settings["sizeLimit"]))
    return found


async def watch(shared: Shared, pod: PodSpec, record: PodRecord, changed: Callable[[], None]) -> None:
    """End the pod (kubelet: Evicted) when one of its emptyDirs is larger than its limit."""
    bounds = limits(pod)
    while bounds and record.ending is None:
        await anyio.sleep(_EVERY_S)
        for name, most in bounds.items():
            path = shared.place(pod.uid).mount(name)
            if await to_thread.run_sync(used_bytes, path, most, limiter=_limiter) > most:
                size = pod.volumes[name]["emptyDir"]["sizeLimit"]
                message = f'Usage of EmptyDir volume "{name}" exceeds the limit "{size}".'
                if record.note_ending(EVICTED, message, shared.now(), _GRACE_S):
                    shared.events.warning(pod, EVICTED, message)
                changed()
                return


def used_bytes(root: Path, enough: int) -> int:
    """Return how much disk the files beneath `root` take; stops counting above `enough`."""
    total = 0
    for parent, _, names in os.walk(root):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue
        if total > enough:
            break
    return total
