"""The driver `fuse.headrace.io` on one node: satisfies the node's `VolumeDriver` in process.

Inline volumes are for sidecars (`inline`); PersistentVolumes are shared mounts (`persistent`). Every verb is idempotent,
locked for its volume, and survives the agent's `kill -9`: what is known is on disk and in the world.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio

from headrace.csi.broker import Broker
from headrace.csi.inline import InlineVolumes
from headrace.csi.permit import Permit
from headrace.csi.persistent import MakeVolumes
from headrace.csi.world import World
from headrace.errors import HeadraceError, Unsupported
from headrace.fuse.install import install_standin
from headrace.fuse.place import Deadlines
from headrace.spec.names import BROKER_DIRECTORY, CSI_DRIVER, STAND_IN_DIRECTORY
from headrace.telemetry import logger

TEND_FAILED = "csi.tend_failed"

_TEND_EVERY_S = 1.0

_log = logger(component="csi")


def python_install(python: str = sys.executable) -> Callable[[str], None]:
    """Return what puts the stand-in in Python into a directory that clients see, for clients of this interpreter."""
    return partial(install_standin, seen_at=STAND_IN_DIRECTORY, socket=f"{BROKER_DIRECTORY}/broker.sock", python=python)


class FuseDriver:
    """One node's driver.

    Args:
        world: the node's world.
        directory: the driver's own, at the same path for agent and world, hidden from pods.
        permit: decides whether a pod may have an inline volume.
        volumes: makes what serves PersistentVolumes; without it this node has none.
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
        permit: Permit,
        volumes: MakeVolumes | None = None,
        python: str = sys.executable,
        install: Callable[[str], None] | None = None,
        client_uid: int = -1,
        broker_options: Sequence[str] = (),
        inline_served_within_s: float = Deadlines.start_s,
    ) -> None:
        self._world = world
        self._broker = Broker(world, os.path.join(directory, "broker"), python=python, options=broker_options)
        self._inline = InlineVolumes(
            world,
            self._broker,
            os.path.join(directory, "inline"),
            permit=permit,
            install=install or python_install(python),
            client_uid=client_uid,
            served_within_s=inline_served_within_s,
        )
        self._volumes = volumes(self._broker) if volumes is not None else None
        self.persistent = self._volumes is not None
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
        """Take note of the volume. Its client starts with the first `publish`."""
        if self._volumes is None:
            raise _no_volumes()
        self._volumes.stage(
            volume_id, attributes=attributes, secrets=secrets, mount_options=mount_options, read_only=read_only
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
            Denied, NotFound, QuotaExceeded: a pod may not have the volume it asks for.
            Unavailable: the client did not serve in time; with what it said.
        """
        if pod.get("ephemeral") == "true":
            async with self._turn(self._inline.pair_of(attributes, pod)):
                await self._broker.start()
                await self._inline.publish(volume_id, target, attributes, pod, read_only=read_only)
            return
        if self._volumes is None:
            raise _no_volumes()
        await self._volumes.publish(
            volume_id, target, attributes=attributes, secrets=secrets, read_only=read_only, pod=pod
        )

    async def unpublish(self, *, volume_id: str, target: str) -> None:
        """Take the volume off `target`. Idempotent; never waits for a client."""
        pair = self._inline.pair_of_note(volume_id)
        if pair:
            await self._broker.start()
            async with self._turn(pair):
                await self._inline.unpublish(volume_id, target)
            return
        if self._volumes is None or not await self._volumes.unpublish(volume_id, target):
            await self._world.request("mount.unmount", target=target, all=True, lazy=True)

    async def unstage(self, *, volume_id: str) -> None:
        """Forget the volume, and all that was made for it. Idempotent."""
        if self._volumes is not None:
            await self._volumes.unstage(volume_id)

    async def healthy(self, *, volume_id: str, target: str) -> str:
        """Return the sentence why the volume at `target` cannot be used now; empty when it can."""
        if self._volumes is not None and self._volumes.publishes(volume_id, target):
            return await self._volumes.trouble(volume_id, target)
        return await self._inline.trouble(volume_id, target)

    def publishes(self, volume_id: str, target: str) -> bool:
        """Tell whether the volume is published at `target`."""
        if self._volumes is not None and self._volumes.publishes(volume_id, target):
            return True
        return self._inline.publishes(volume_id, target)

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
        await self._undo_what_was_lost()
        if self._volumes is None:
            return
        await self._volumes.begin()
        while True:
            await anyio.sleep(_TEND_EVERY_S)
            try:
                await self._volumes.tend()
            except HeadraceError as error:
                _log.debug(TEND_FAILED, error=str(error))

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


def _no_volumes() -> Unsupported:
    return Unsupported(f"This node has no PersistentVolumes of {CSI_DRIVER}.", hint="Use a FUSE sidecar.")
