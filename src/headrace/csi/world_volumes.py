"""PersistentVolumes whose clients the node's own world runs: the embedded engine's.

One client and one shared mount a volume, read-only and writable apart (a bind's read-only flag would not hold for the
mount of the client's successor).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from headrace.csi.broker import Broker
from headrace.csi.files import VolumeFiles
from headrace.csi.shared import Patience, SharedMount, Sight
from headrace.csi.world import World
from headrace.errors import HeadraceError, InvalidSpec
from headrace.fuse.order import MountOrder
from headrace.ids import short_hash
from headrace.telemetry import logger

TEND_FAILED = "csi.tend_failed"

_log = logger(component="csi")


@dataclass(frozen=True, kw_only=True)
class VolumeRequest:
    """What a PersistentVolume and its secrets say, to be made a MountOrder."""

    volume_id: str
    attributes: Mapping[str, str]
    secrets: Mapping[str, bytes]
    mount_options: tuple[str, ...]
    read_only: bool


Resolve = Callable[[VolumeRequest], Awaitable[MountOrder]]
"""Makes an order; raises `headrace.errors` with a sentence for the pod's FailedMount event."""


@dataclass(frozen=True, kw_only=True)
class _Staged:
    attributes: Mapping[str, str]
    secrets: Mapping[str, bytes]
    mount_options: tuple[str, ...]
    read_only: bool


class WorldVolumes:
    """All PersistentVolumes of one node; satisfies `PersistentVolumes`.

    Args:
        directory: the driver's own, at the same path for agent and world, hidden from pods.
        resolve: makes the order of a volume.
        install: puts the stand-in into a directory that clients see.
    """

    def __init__(
        self,
        world: World,
        broker: Broker,
        directory: str,
        *,
        resolve: Resolve,
        install: Callable[[str], None],
        patience: Patience | None = None,
    ) -> None:
        self._world = world
        self._broker = broker
        self._directory = directory
        self._resolve = resolve
        self._install = install
        self._patience = patience or Patience()
        self._shared: dict[str, SharedMount] = {}
        self._staged: dict[str, _Staged] = {}

    def stage(
        self,
        volume_id: str,
        *,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        mount_options: Sequence[str],
        read_only: bool,
    ) -> None:
        """Take note of the volume. Its client starts with the first `publish`, which brings the secrets it needs."""
        self._staged[volume_id] = _Staged(
            attributes=dict(attributes), secrets=dict(secrets), mount_options=tuple(mount_options), read_only=read_only
        )

    async def publish(
        self,
        volume_id: str,
        target: str,
        *,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        read_only: bool,
        pod: Mapping[str, str],  # noqa: ARG002 - a claim is whoever's the engine bound it for
    ) -> None:
        """Make `target` the volume; returns when it can be read. Idempotent.

        Raises:
            InvalidSpec, Unsupported: the attributes cannot be right.
            Unavailable: the client did not serve in time; with what it said.
        """
        await self._broker.start()
        staged = self._staged.get(volume_id)
        if staged is None:
            raise InvalidSpec(f"Volume {volume_id} is published before it was staged.")
        read_only = read_only or staged.read_only
        request = VolumeRequest(
            volume_id=volume_id,
            attributes=attributes or staged.attributes,
            secrets={**staged.secrets, **secrets},
            mount_options=staged.mount_options,
            read_only=read_only,
        )
        shared = self._mount(volume_id, read_only=read_only)
        async with shared.lock:
            world = await self._world_id()
            await shared.ensure(volume_id, read_only=read_only, world=world, resolve=lambda: self._resolve(request))
            await shared.publish(target, read_only=read_only)

    async def unpublish(self, volume_id: str, target: str) -> bool:
        """Take the volume off `target`; returns whether it was published there. Idempotent."""
        published = False
        for shared in self._mounts_of(volume_id):
            async with shared.lock:
                record = shared.files.load()
                if record is not None and target in record.targets:
                    await shared.unpublish(target)
                    published = True
        return published

    async def unstage(self, volume_id: str) -> None:
        """End the volume's clients and remove all that was theirs. Idempotent."""
        self._staged.pop(volume_id, None)
        for shared in self._mounts_of(volume_id):
            async with shared.lock:
                await self._broker.start()
                await shared.remove()
                self._shared.pop(shared.key, None)

    async def trouble(self, volume_id: str, target: str) -> str:
        """Return the sentence why what is published at `target` cannot be used now; empty when it can."""
        for shared in self._mounts_of(volume_id):
            record = shared.files.load()
            if record is not None and target in record.targets:
                return await shared.trouble()
        return ""

    def publishes(self, volume_id: str, target: str) -> bool:
        """Tell whether the volume is published at `target`."""
        records = (shared.files.load() for shared in self._mounts_of(volume_id))
        return any(record is not None and target in record.targets for record in records)

    async def begin(self) -> None:
        """Find on disk what was staged before this process."""
        if not os.path.isdir(self._directory):
            return
        for name in os.listdir(self._directory):
            record = VolumeFiles(os.path.join(self._directory, name)).load()
            if record is not None:
                self._mount(record.volume_id, read_only=record.read_only)

    async def tend(self) -> None:
        """Keep every mount served: start clients that ended again, end those whose connection is dead."""
        if not self._shared:
            return
        world = await self._world_id()
        state = await self._world.request("state")
        served = {volume["id"]: volume for volume in await self._broker.list()}
        for shared in list(self._shared.values()):
            await self._tend(shared, Sight(world=world, state=state, broker=served.get(shared.key)))

    async def _tend(self, shared: SharedMount, sight: Sight) -> None:
        if shared.lock.locked():
            return  # a verb is at it, and may take long
        try:
            async with shared.lock:
                await shared.tend(sight)
        except HeadraceError as error:
            _log.warning(TEND_FAILED, mount=shared.key, error=str(error))

    def _mount(self, volume_id: str, *, read_only: bool) -> SharedMount:
        key = _key(volume_id, read_only=read_only)
        if key not in self._shared:
            self._shared[key] = SharedMount(
                key,
                os.path.join(self._directory, key),
                world=self._world,
                broker=self._broker,
                patience=self._patience,
                install=self._install,
            )
        return self._shared[key]

    def _mounts_of(self, volume_id: str) -> list[SharedMount]:
        """Return the volume's mounts on this node, also those of which only files are known."""
        keys = [_key(volume_id, read_only=read_only) for read_only in (True, False)]
        return [
            self._mount(volume_id, read_only=key.startswith("ro-"))
            for key in keys
            if key in self._shared or os.path.isdir(os.path.join(self._directory, key))
        ]

    async def _world_id(self) -> int:
        hello = await self._world.request("hello")
        return int(hello["started_wall_ns"])


def _key(volume_id: str, *, read_only: bool) -> str:
    return f"{'ro' if read_only else 'rw'}-{short_hash(volume_id, length=16)}"
