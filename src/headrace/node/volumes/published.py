"""Volumes of drivers: stage and publish with a deadline, one order at a time for each volume, undone from notes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from headrace.errors import NotFound, Unavailable, Unsupported
from headrace.node.drivers import VolumeDriver
from headrace.node.podspec import PodSpec
from headrace.node.volumes.claims import DriverVolume
from headrace.node.volumes.places import Note, PodPlace

_DEADLINE_S = 120.0

Secrets = Mapping[str, bytes]


class PublishedVolumes:
    """What this node has staged and published, for all pods.

    Args:
        node: this node's name, for drivers and for sentences.
        drivers: by name; those of the node's CSINode object.
        pods: directory of all pods' places.
    """

    def __init__(self, node: str, drivers: Mapping[str, VolumeDriver], pods: Path) -> None:
        self._node = node
        self._drivers = drivers
        self._pods = pods
        self._locks: dict[tuple[str, str], anyio.Lock] = {}

    def driver(self, name: str) -> VolumeDriver:
        """Return a driver; raises NotFound with the sentence that a pod's FailedMount event shows."""
        found = self._drivers.get(name)
        if found is None:
            known = ", ".join(sorted(self._drivers)) or "none"
            raise NotFound(
                f"driver {name} is not registered on node {self._node} (registered: {known}).",
                hint="Run the pod on a node that has the driver, or give it the data by a FUSE sidecar.",
            )
        return found

    async def publish_persistent(
        self, pod: PodSpec, name: str, volume: DriverVolume, stage_secrets: Secrets, publish_secrets: Secrets
    ) -> str:
        """Stage and publish a PersistentVolume for one pod; return the path that containers see. Idempotent."""
        driver = self.driver(volume.driver)
        if not driver.persistent:
            raise Unsupported(
                f"driver {driver.name} serves no PersistentVolumes on node {self._node}, only inline volumes.",
                hint="Run the pod on a node that has the driver, or give it the data by a FUSE sidecar.",
            )
        place = PodPlace(self._pods, pod.uid)
        target = place.make_volume(name)
        async with self._turn(driver.name, volume.volume_id):
            place.note(name, Note(driver=driver.name, volume_id=volume.volume_id, persistent=True))
            await driver.stage(
                volume_id=volume.volume_id,
                attributes=volume.attributes,
                secrets=stage_secrets,
                mount_options=volume.mount_options,
                read_only=volume.read_only,
                fs_type=volume.fs_type,
            )
            await driver.publish(
                volume_id=volume.volume_id,
                target=target,
                attributes=volume.attributes,
                secrets=publish_secrets,
                read_only=volume.read_only,
                pod=self._pod_info(pod, ephemeral=False),
            )
        return target

    async def publish_inline(
        self,
        pod: PodSpec,
        name: str,
        *,
        driver_name: str,
        volume_id: str,
        attributes: Mapping[str, str],
        secrets: Secrets,
        read_only: bool,
    ) -> str:
        """Publish an inline volume of one pod; return the path that containers see. Idempotent."""
        driver = self.driver(driver_name)
        if not driver.ephemeral:
            raise Unsupported(f"driver {driver.name} does not serve inline volumes.")
        place = PodPlace(self._pods, pod.uid)
        target = place.make_volume(name)
        async with self._turn(driver.name, volume_id):
            place.note(name, Note(driver=driver.name, volume_id=volume_id))
            await driver.publish(
                volume_id=volume_id,
                target=target,
                attributes=attributes,
                secrets=secrets,
                read_only=read_only,
                pod=self._pod_info(pod, ephemeral=True),
            )
        return target

    async def undo(self, uid: str, name: str, note: Note) -> None:
        """Unpublish one volume of one pod, and unstage it when no other pod of this node has it. Idempotent."""
        driver = self.driver(note.driver)
        place = PodPlace(self._pods, uid)
        async with self._turn(note.driver, note.volume_id):
            await driver.unpublish(volume_id=note.volume_id, target=str(place.mount(name)))
            if note.persistent and not self._has_others(uid, name, note):
                await driver.unstage(volume_id=note.volume_id)
            place.forget(name)

    async def trouble(self, uid: str, names: frozenset[str]) -> str:
        """Return the sentence why one of the pod's PersistentVolumes cannot be used now; empty when all can."""
        place = PodPlace(self._pods, uid)
        for name, note in place.notes():
            if name in names and note.persistent:
                driver = self.driver(note.driver)
                async with self._turn(note.driver, note.volume_id):
                    why = await driver.healthy(volume_id=note.volume_id, target=str(place.mount(name)))
                if why:
                    return f"volume {name}: {why}"
        return ""

    def _has_others(self, uid: str, name: str, note: Note) -> bool:
        for root in self._pods.iterdir() if self._pods.is_dir() else ():
            for other, theirs in PodPlace(self._pods, root.name).notes():
                is_own = (root.name, other) == (uid, name)
                if not is_own and (theirs.driver, theirs.volume_id) == (note.driver, note.volume_id):
                    return True
        return False

    def _pod_info(self, pod: PodSpec, *, ephemeral: bool) -> dict[str, str]:
        return {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
            "service_account": str(pod.spec.get("serviceAccountName") or "default"),
            "node": self._node,
            "ephemeral": "true" if ephemeral else "false",
        }

    @asynccontextmanager
    async def _turn(self, driver: str, volume_id: str) -> AsyncIterator[None]:
        """One order at a time for a volume, none for ever."""
        lock = self._locks.setdefault((driver, volume_id), anyio.Lock())
        try:
            with anyio.fail_after(_DEADLINE_S):
                async with lock:
                    yield
        except TimeoutError as error:
            raise Unavailable(
                f"driver {driver} did not finish with volume {volume_id} in {_DEADLINE_S:.0f} s."
            ) from error
