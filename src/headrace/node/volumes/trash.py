"""Throwing directories away without waiting: renamed at once, deleted in the background, also after a restart.

An emptyDir may hold a million files; deleting them must hold up neither a pod's end nor any other pod.
"""

from __future__ import annotations

import re
from pathlib import Path

import anyio
from anyio import CapacityLimiter, to_thread

from headrace.ids import name_suffix
from headrace.node.removal import remove
from headrace.telemetry import logger

STILL_MOUNTED = "trash.still_mounted"
NOT_REMOVED = "trash.not_removed"

_ESCAPE = re.compile(r"\\([0-7]{3})")

_log = logger(component="trash")


class Trash:
    """What is thrown away on one node.

    Args:
        directory: on the same file system as what is thrown away.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._wake = anyio.Event()
        self._limiter = CapacityLimiter(1)

    def put(self, path: Path) -> None:
        """Make `path` vanish now. Idempotent. Mounts beneath it in a world are not followed: they are not in our namespace."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            path.rename(self._directory / f"{path.name}-{name_suffix(10)}")
        except FileNotFoundError:
            return
        self._wake.set()

    async def run(self) -> None:
        """Delete until cancelled, beginning with what an earlier agent left."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            await to_thread.run_sync(self._sweep, limiter=self._limiter)

    def _sweep(self) -> None:
        for path in list(self._directory.iterdir()) if self._directory.is_dir() else ():
            if mounts_beneath(path):
                _log.warning(STILL_MOUNTED, path=str(path))
            else:
                try:
                    remove(path)
                except OSError as error:
                    _log.warning(NOT_REMOVED, path=str(path), error=str(error))


def mounts_beneath(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> list[str]:
    """Return the mounts of this process's namespace at or below `path`: deleting there would delete what is mounted."""
    place = str(path)
    lines = mountinfo.read_text().splitlines()
    targets = [_ESCAPE.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4]) for line in lines]
    return [target for target in targets if target == place or target.startswith(f"{place}/")]
