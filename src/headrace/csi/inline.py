"""Inline volumes of sidecars: *data*, a small tmpfs in which the broker mounts, and *socket*, the way to the broker.

Two volumes of one pod and one Dataset belong together. The driver believes what the kubelet says about the pod (its
uid) and one attribute, `dataset`; which of the two a volume is says the attribute `role`. Nothing else in the
attributes has any effect, so forging them gives nobody more than a mount in his own pod.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from headrace.csi.broker import Broker
from headrace.csi.world import World
from headrace.errors import InvalidSpec
from headrace.fuse.install import install_standin
from headrace.ids import short_hash
from headrace.spec.names import (
    BROKER_DIRECTORY,
    CSI_ATTRIBUTE_DATASET,
    CSI_ATTRIBUTE_ROLE,
    CSI_ROLE_DATA,
    CSI_ROLE_SOCKET,
    STAND_IN_DIRECTORY,
)

_DATA_BYTES = 1 << 20


@dataclass(frozen=True)
class Note:
    """What was published: needed to undo it, when there are no attributes any more."""

    volume_id: str
    target: str
    role: str
    pair: str


class InlineVolumes:
    """All inline volumes of one node.

    Args:
        directory: the driver's own; one note a volume, one socket directory a pair.
    """

    def __init__(self, world: World, broker: Broker, directory: str, *, python: str) -> None:
        self._world = world
        self._broker = broker
        self._notes = os.path.join(directory, "notes")
        self._pairs = os.path.join(directory, "pairs")
        self._python = python

    def pair_of(self, attributes: Mapping[str, str], pod: Mapping[str, str]) -> str:
        """Return the name of the pair a volume belongs to; raises InvalidSpec for a volume that is none of ours."""
        dataset, role = attributes.get(CSI_ATTRIBUTE_DATASET, ""), attributes.get(CSI_ATTRIBUTE_ROLE, "")
        if not dataset or role not in (CSI_ROLE_DATA, CSI_ROLE_SOCKET):
            raise InvalidSpec(
                f"An inline volume of this driver needs the attributes {CSI_ATTRIBUTE_DATASET} (a Dataset of the pod's "
                f"namespace) and {CSI_ATTRIBUTE_ROLE} ({CSI_ROLE_DATA} or {CSI_ROLE_SOCKET}); it has "
                f"{dict(attributes)}.",
                hint="Label the claim and let injection write the volumes, or use a PersistentVolume.",
            )
        return f"pod-{pod['uid']}-{short_hash(pod['namespace'], dataset)}"

    def pair_of_note(self, volume_id: str) -> str:
        """Return the pair of a volume published before, empty when there is no note of it."""
        note = self._note(volume_id)
        return note.pair if note else ""

    async def publish(self, volume_id: str, target: str, attributes: Mapping[str, str], pod: Mapping[str, str]) -> None:
        """Make `target` the data or the socket volume of the pod. Idempotent, in any order."""
        pair, role = self.pair_of(attributes, pod), attributes[CSI_ATTRIBUTE_ROLE]
        sockets = os.path.join(self._pairs, pair)
        os.makedirs(sockets, mode=0o755, exist_ok=True)
        install_standin(
            os.path.join(sockets, "bin"),
            seen_at=STAND_IN_DIRECTORY,
            socket=f"{BROKER_DIRECTORY}/broker.sock",
            python=self._python,
        )
        self._save(Note(volume_id=volume_id, target=target, role=role, pair=pair))
        if role == CSI_ROLE_SOCKET:
            await self._world.request("mount.bind", source=sockets, target=target, read_only=True, recursive=False)
            return
        await self._world.request("mount.tmpfs", target=target, size_bytes=_DATA_BYTES, mode=0o755)
        await self._broker.register(pair, data_dir=target, socket_dir=sockets, owner=pod["uid"])

    async def unpublish(self, volume_id: str, target: str) -> None:
        """Take the volume off `target`, all that is stacked in it first. Idempotent."""
        note = self._note(volume_id)
        if note is not None and note.role == CSI_ROLE_DATA:
            await self._broker.unregister(note.pair)
        await self._world.request("mount.unmount", target=target, all=True, lazy=True)
        if note is None:
            return
        with suppress(FileNotFoundError):
            os.unlink(self._path(volume_id))
        if not any(other.pair == note.pair for other in self._all()):
            shutil.rmtree(os.path.join(self._pairs, note.pair), ignore_errors=True)

    def _path(self, volume_id: str) -> str:
        return os.path.join(self._notes, f"{short_hash(volume_id, length=20)}.json")

    def _save(self, note: Note) -> None:
        os.makedirs(self._notes, mode=0o700, exist_ok=True)
        path = self._path(note.volume_id)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(asdict(note), file)
        os.rename(f"{path}.new", path)

    def _note(self, volume_id: str) -> Note | None:
        try:
            with open(self._path(volume_id), encoding="utf-8") as file:
                return Note(**json.load(file))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _all(self) -> list[Note]:
        found = []
        for name in os.listdir(self._notes):
            if name.endswith(".json"):
                with open(os.path.join(self._notes, name), encoding="utf-8") as file, suppress(ValueError, TypeError):
                    found.append(Note(**json.load(file)))
        return found
