"""One FUSE client of a volume in its sandbox: a pod of its own in the world, without any privilege.

The container sees the machine read-only, a /tmp and cache directories of its own, the files of its order, the data
directory where the broker mounts, and the broker's socket. It has no capability and no /dev/fuse.
"""

from __future__ import annotations

import os
import posixpath
import signal
from typing import Any

import anyio

from headrace.csi.files import Record, VolumeFiles, order_from_json
from headrace.csi.world import World, container_of
from headrace.errors import HeadraceError
from headrace.fuse.install import DEVICE_PLACE, NAMES
from headrace.fuse.order import MountOrder
from headrace.ids import short_hash
from headrace.spec.kind import Json
from headrace.spec.names import BROKER_DIRECTORY, FUSE_CACHE_DIRECTORY, STAND_IN_DIRECTORY

CONTAINER = "client"
_USER = 65534
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# libfuse calls its compiled-in path; what does not exist on this machine need not be covered.
_COMPILED_IN = ("/usr/bin/fusermount3", "/bin/fusermount3", "/usr/bin/fusermount", "/bin/fusermount")
_KILLED_WITHIN_S = 10.0
_POLL_S = 0.05


class Client:
    """Starts, watches and ends one client.

    Args:
        key: names the volume among those of the node, in the pod's name.
    """

    def __init__(self, world: World, files: VolumeFiles, key: str) -> None:
        self._world = world
        self._files = files
        self.pod = f"csi-{short_hash(key, length=12)}"

    async def container(self) -> Json | None:
        """Return what the world knows of the client's container, None when it never ran there."""
        return container_of(await self._world.request("state"), self.pod, CONTAINER)

    async def start(self, record: Record) -> None:
        """Start the client once more; `record` says how and has the number of the start, saved before."""
        if record.order is None:
            raise ValueError(f"volume {record.volume_id} has no order")
        order = order_from_json(record.order)
        await self._world.request("pod.create", pod=self.pod, hostname=self.pod)
        await self._world.request(
            "container.start",
            pod=self.pod,
            container=CONTAINER,
            attempt=record.attempt,
            argv=list(order.argv),
            env={**order.env, "PATH": _path(order.env.get("PATH", ""))},
            root="host",
            mounts=self._mounts(order, record.file_names),
            uid=_USER,
            gid=_USER,
            log={"path": self._files.log},
            termination_message_path="/dev/termination-log",
        )

    async def kill(self) -> None:
        """End the container now and return when it has ended; its mount is dead then."""
        try:
            await self._world.request("container.signal", pod=self.pod, container=CONTAINER, signal=int(signal.SIGKILL))
        except HeadraceError as error:
            if error.code not in ("NotFound", "Conflict"):
                raise
        with anyio.move_on_after(_KILLED_WITHIN_S):
            while True:
                if not is_running(await self.container()):
                    return
                await anyio.sleep(_POLL_S)

    async def remove(self, grace_s: float) -> None:
        """End the client, giving it time to write what it holds, and forget its pod. Idempotent."""
        await self._world.request("pod.remove", pod=self.pod, grace_s=grace_s, timeout_s=grace_s + 15)

    def _mounts(self, order: MountOrder, file_names: dict[str, str]) -> list[dict[str, Any]]:
        sockets = self._files.sockets
        mounts: list[dict[str, Any]] = [
            {"target": "/tmp", "tmpfs": {"mode": 0o1777}},
            {
                "target": posixpath.dirname(order.target_path),
                "source": self._files.data,
                "propagation": "HostToContainer",
            },
            {"target": BROKER_DIRECTORY, "source": sockets, "read_only": True},
            {"target": STAND_IN_DIRECTORY, "source": os.path.join(sockets, "bin"), "read_only": True},
            {"target": "/dev/fuse", "source": os.path.join(sockets, DEVICE_PLACE), "read_only": True},
        ]
        mounts += [
            {"target": place, "source": os.path.join(sockets, "bin", os.path.basename(place)), "read_only": True}
            for place in _COMPILED_IN
            if os.path.basename(place) in NAMES and os.path.exists(place)
        ]
        mounts += [
            {"target": path, "source": self._files.file(name), "read_only": True} for path, name in file_names.items()
        ]
        mounts += [
            {"target": path, "source": self._files.cache(number)}
            for number, path in enumerate(order.cache_directories or (FUSE_CACHE_DIRECTORY,))
            if path != "/tmp"
        ]
        return mounts


def is_running(container: Json | None) -> bool:
    """Tell whether a container of the world's `state` has not ended."""
    return container is not None and container.get("state") != "exited"


def how_it_ended(container: Json | None) -> str:
    """Return how a container ended, in words for a sentence."""
    if container is None:
        return "is not there"
    number = int(container.get("signal") or 0)
    return f"was ended by signal {number}" if number else f"ended with code {container.get('exit_code')}"


def _path(own: str) -> str:
    chosen = own or _SYSTEM_PATH
    return chosen if STAND_IN_DIRECTORY in chosen.split(":") else f"{STAND_IN_DIRECTORY}:{chosen}"
