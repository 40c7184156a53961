"""The driver `fuse.headrace.io` on one node: satisfies the node's `VolumeDriver` in process.

PersistentVolumes get one client and one shared mount a node, read-only and writable apart (a bind's read-only flag
would not hold for the mount of the client's successor). Inline volumes are for sidecars (`inline`). Every verb is
idempotent, locked for its volume, and survives the agent's `kill -9`: what is known is on disk and in the world.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio

from headrace.csi.broker import Broker
from headrace.csi.files import VolumeFiles
from headrace.csi.inline import InlineVolumes
from headrace.csi.permit import Permit
from headrace.csi.shared import Patience, SharedMount, Sight
from headrace.csi.world import World
from headrace.errors import HeadraceError, InvalidSpec, Unsupported
from headrace.fuse.install import install_standin
from headrace.fuse.order import MountOrder
from headrace.fuse.place import Deadlines
from headrace.ids import short_hash
from headrace.spec.names import BROKER_DIRECTORY, CSI_DRIVER, STAND_IN_DIRECTORY
from headrace.telemetry import logger

TEND_FAILED = "csi.tend_failed"

_TEND_EVERY_S = 1.0

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


class FuseDriver:
    """One node's driver.

    Args:
        world: the node's world.
        directory: the driver's own, at the same path for agent and world, hidden from pods.
        resolve: makes the order of a PersistentVolume.
        permit: decides whether a pod may have an inline volume.
        persistent: whether this node serves PersistentVolumes, as the organisation's own nodes do.
        python: the broker's interpreter, and where `install` is not given also that of the clients' containers.
        install: puts the stand-in into a directory that clients see; the one in Python where not given.
        client_uid: who runs inline volumes' clients, in the broker's user namespace; -1 for the broker's own.
        broker_options: more words of the broker's command line.
        inline_served_within_s: how long an inline volume's client may have its mount without serving it.
    """

    name = CSI_DRIVER
    ephemeral = True

    def __init__(
        self,
        world: World,
        directory: str,
        *,
        resolve: Resolve,
        permit: Permit,
        persistent: bool = True,
        patience: Patience | None = None,
        python: str = sys.executable,
        install: Callable[[str], None] | None = None,
        client_uid: int = -1,
        broker_options: Sequence[str] = (),
        inline_served_within_s: float = Deadlines.start_s,
    ) -> None:
        self.persistent = persistent
        self._world = world
        self._resolve = resolve
        self._patience = patience or Patience()
        self._install = install or partial(
            install_standin, seen_at=STAND_IN_DIRECTORY, socket=f"{BROKER_DIRECTORY}/broker.sock", python=python
        )
        self._broker = Broker(world, os.path.join(directory, "broker"), python=python, options=broker_options)
        self._volumes = os.path.join(directory, "volumes")
        self._inline = InlineVolumes(
            world,
            self._broker,
            os.path.join(directory, "inline"),
            permit=permit,
            install=self._install,
            client_uid=client_uid,
            served_within_s=inline_served_within_s,
        )
        self._shared: dict[str, SharedMount] = {}
        self._staged: dict[str, _Staged] = {}
        self._pair_locks: dict[str, anyio.Lock] = {}

    # -- VolumeDriver --------------------------------------------------------------------------------------------------

    async def stage(
        self,
        *,
        volume_id: str,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        mount_options: Sequence[str],
        read_only: bool,
        fs_type: str,  # noqa: ARG002 - the profile says how its mounts are called
    ) -> None:
        """Take note of the volume. Its client starts with the first `publish`, which brings the secrets it needs."""
        if not self.persistent:
            raise Unsupported(f"This node has no PersistentVolumes of {self.name}.", hint="Use a FUSE sidecar.")
        self._staged[volume_id] = _Staged(
            attributes=dict(attributes),
            secrets=dict(secrets),
            mount_options=tuple(mount_options),
            read_only=read_only,
        )

    async def publish(
        self,
        *,
        volume_id: str,
        target: str,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        read_only: bool,
        pod: Mapping[str, str],
    ) -> None:
        """Make `target` the volume; returns when it can be read. Idempotent.

        Raises:
            InvalidSpec, Unsupported: the attributes cannot be right.
            Denied, NotFound, QuotaExceeded: a pod may not have the inline volume it asks for.
            Unavailable: the client did not serve in time; with what it said.
        """
        if pod.get("ephemeral") == "true":
            async with self._turn(self._inline.pair_of(attributes, pod)):
                await self._broker.start()
                await self._inline.publish(volume_id, target, attributes, pod, read_only=read_only)
            return
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

    async def unpublish(self, *, volume_id: str, target: str) -> None:
        """Take the volume off `target`. Idempotent; never waits for a client."""
        pair = self._inline.pair_of_note(volume_id)
        if pair:
            await self._broker.start()
            async with self._turn(pair):
                await self._inline.unpublish(volume_id, target)
            return
        published = False
        for shared in self._mounts_of(volume_id):
            async with shared.lock:
                record = shared.files.load()
                if record is not None and target in record.targets:
                    await shared.unpublish(target)
                    published = True
        if not published:
            await self._world.request("mount.unmount", target=target, all=True, lazy=True)

    async def unstage(self, *, volume_id: str) -> None:
        """End the volume's clients and remove all that was theirs. Idempotent."""
        self._staged.pop(volume_id, None)
        for shared in self._mounts_of(volume_id):
            async with shared.lock:
                await self._broker.start()
                await shared.remove()
                self._shared.pop(shared.key, None)

    async def healthy(self, *, volume_id: str, target: str) -> str:
        """Return the sentence why the volume at `target` cannot be used now; empty when it can."""
        for shared in self._mounts_of(volume_id):
            record = shared.files.load()
            if record is not None and target in record.targets:
                return await shared.trouble()
        return await self._inline.trouble(volume_id, target)

    def publishes(self, volume_id: str, target: str) -> bool:
        """Tell whether the volume is published at `target`."""
        records = (shared.files.load() for shared in self._mounts_of(volume_id))
        return self._inline.publishes(volume_id, target) or any(r is not None and target in r.targets for r in records)

    async def why_not_ready(self) -> str:
        """Return the sentence why this node cannot mount now, empty when it can."""
        await self._broker.start()
        try:
            return await self._broker.why_not_ready()
        except HeadraceError as error:
            return str(error)

    # -- in the background -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep every mount served, for ever: start clients that ended again, end those whose connection is dead.

        Run it beside the node's agent. What was staged before this process is found on disk.
        """
        self._find()
        await self._undo_what_was_lost()
        while True:
            await anyio.sleep(_TEND_EVERY_S)
            if not self._shared:
                continue
            try:
                world = await self._world_id()
                state = await self._world.request("state")
                served = {volume["id"]: volume for volume in await self._broker.list()}
            except HeadraceError as error:
                _log.debug(TEND_FAILED, error=str(error))
                continue
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

    async def _undo_what_was_lost(self) -> None:
        """Forget inline volumes that are mounted no more, as after the machine was started again."""
        for note in self._inline.notes():
            try:
                async with self._turn(note.pair):
                    mounted = await self._world.request("mount.list", prefix=note.target)
                    if self._inline.publishes(note.volume_id, note.target) and not mounted["mounts"]:
                        await self._broker.start()
                        await self._inline.unpublish(note.volume_id, note.target)
            except HeadraceError as error:
                _log.warning(TEND_FAILED, mount=note.pair, error=str(error))

    def _find(self) -> None:
        if not os.path.isdir(self._volumes):
            return
        for name in os.listdir(self._volumes):
            record = VolumeFiles(os.path.join(self._volumes, name)).load()
            if record is not None:
                self._mount(record.volume_id, read_only=record.read_only)

    # -- helpers -----------------------------------------------------------------------------------------------------------

    def _mount(self, volume_id: str, *, read_only: bool) -> SharedMount:
        key = _key(volume_id, read_only=read_only)
        if key not in self._shared:
            self._shared[key] = SharedMount(
                key,
                os.path.join(self._volumes, key),
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
            if key in self._shared or os.path.isdir(os.path.join(self._volumes, key))
        ]

    @asynccontextmanager
    async def _turn(self, pair: str) -> AsyncIterator[None]:
        """One order at a time for a pair; nothing is kept of a pair that nobody waits for."""
        lock = self._pair_locks.setdefault(pair, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._pair_locks.pop(pair, None)

    async def _world_id(self) -> int:
        hello = await self._world.request("hello")
        return int(hello["started_wall_ns"])


def _key(volume_id: str, *, read_only: bool) -> str:
    return f"{'ro' if read_only else 'rw'}-{short_hash(volume_id, length=16)}"
