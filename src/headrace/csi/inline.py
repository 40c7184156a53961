"""Inline volumes of sidecars: *data*, a small tmpfs in which the broker mounts, and *socket*, the way to the broker.

Two volumes of one pod and one Dataset belong together. The driver believes what the kubelet says about the pod, as far
as the API confirms it (`permit`), and three attributes: `dataset`, a name in the pod's own namespace, `role`, which of the
two a volume is, and `readOnly`, which only takes away. Any other attribute is refused.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from headrace.csi.broker import Broker
from headrace.csi.permit import InlineRequest, Permit, check_attributes
from headrace.csi.world import World
from headrace.errors import InvalidSpec, QuotaExceeded
from headrace.fuse.place import Deadlines
from headrace.ids import short_hash
from headrace.spec.kind import Ref
from headrace.spec.names import (
    CSI_ATTRIBUTE_DATASET,
    CSI_ATTRIBUTE_READ_ONLY,
    CSI_ATTRIBUTE_ROLE,
    CSI_ROLE_DATA,
    CSI_ROLE_SOCKET,
)

_DATA_BYTES = 1 << 20
_TROUBLED = ("dead", "failing", "stalled")


@dataclass(frozen=True)
class Note:
    """What was published: needed to undo it, when there are no attributes any more."""

    volume_id: str
    target: str
    role: str
    pair: str
    namespace: str = ""
    uid: str = ""


@dataclass(frozen=True)
class InlineLimits:
    """How many Datasets pods may mount on one node: a mount each, with a client's memory and a kernel connection."""

    of_a_pod: int = 16
    of_a_namespace: int = 512


def pair_name(uid: str, dataset: Ref) -> str:
    """Return the name, at the broker too, of the two volumes that the pod with this uid has of a Dataset."""
    return f"pod-{uid}-{short_hash(dataset.namespace, dataset.name)}"


class InlineVolumes:
    """All inline volumes of one node.

    Args:
        directory: the driver's own; one note a volume, one socket directory a pair.
        permit: decides whether a pod may have a volume, and on which terms.
        install: puts the stand-in into a directory that a sidecar sees.
        client_uid: who owns the directory that clients mount on, in the broker's user namespace; -1 for the broker.
        served_within_s: a client that has its mount and does not serve it by then loses its connection: whoever passed
            by the start-up probe and waits in the mount, the kubelet perhaps, gets an error instead.
    """

    def __init__(
        self,
        world: World,
        broker: Broker,
        directory: str,
        *,
        permit: Permit,
        install: Callable[[str], None],
        client_uid: int = -1,
        served_within_s: float = Deadlines.start_s,
        limits: InlineLimits | None = None,
    ) -> None:
        self._world = world
        self._broker = broker
        self._notes = os.path.join(directory, "notes")
        self._pairs = os.path.join(directory, "pairs")
        self._permit = permit
        self._install = install
        self._client_uid = client_uid
        self._served_within_s = served_within_s
        self._limits = limits or InlineLimits()

    def pair_of(self, attributes: Mapping[str, str], pod: Mapping[str, str]) -> str:
        """Return the name of the pair a volume belongs to.

        Raises:
            InvalidSpec: it is none of ours.
            Denied: it has other attributes too.
        """
        request = _request(attributes, pod)
        return pair_name(request.uid, Ref(request.namespace, request.dataset))

    def pair_of_note(self, volume_id: str) -> str:
        """Return the pair of a volume published before, empty when there is no note of it."""
        note = self._note(volume_id)
        return note.pair if note else ""

    async def publish(
        self, volume_id: str, target: str, attributes: Mapping[str, str], pod: Mapping[str, str], *, read_only: bool
    ) -> None:
        """Make `target` the data or the socket volume of the pod. Idempotent, in any order.

        Raises:
            Denied, NotFound: the pod may not have it (`permit`).
            QuotaExceeded: the pod or its namespace has too many on this node.
        """
        request, pair = _request(attributes, pod), self.pair_of(attributes, pod)
        terms = await self._permit(request)
        self._check_limits(request, pair)
        sockets = os.path.join(self._pairs, pair)
        os.makedirs(sockets, mode=0o755, exist_ok=True)
        self._install(os.path.join(sockets, "bin"))
        self._save(
            Note(
                volume_id=volume_id,
                target=target,
                role=request.role,
                pair=pair,
                namespace=request.namespace,
                uid=request.uid,
            )
        )
        if request.role == CSI_ROLE_SOCKET:
            await self._world.request("mount.bind", source=sockets, target=target, read_only=True, recursive=False)
            return
        await self._world.request("mount.tmpfs", target=target, size_bytes=_DATA_BYTES, mode=0o755)
        await self._broker.register(
            pair,
            data_dir=target,
            socket_dir=sockets,
            owner=request.uid,
            read_only=terms.read_only or request.read_only or read_only,
            file_system_type=terms.file_system_type,
            client_uid=self._client_uid,
            start_deadline_s=self._served_within_s,
        )

    async def unpublish(self, volume_id: str, target: str) -> None:
        """Take the volume off `target`, all that is stacked in it first. Idempotent."""
        note = self._note(volume_id)
        if note is not None and note.role == CSI_ROLE_DATA:
            # A pod may name a Dataset's data volume twice: the second is refused, and its end is not the first one's.
            state = await self._broker.state(note.pair)
            if state is not None and state["registration"]["data_dir"] == target:
                await self._broker.unregister(note.pair)
        await self._world.request("mount.unmount", target=target, all=True, lazy=True)
        if note is None:
            return
        with suppress(FileNotFoundError):
            os.unlink(self._path(volume_id))
        if not any(other.pair == note.pair for other in self._all()):
            shutil.rmtree(os.path.join(self._pairs, note.pair), ignore_errors=True)

    def notes(self) -> list[Note]:
        """Return all that is published, as far as is known."""
        return self._all()

    def publishes(self, volume_id: str, target: str) -> bool:
        """Tell whether the volume is published at `target`."""
        note = self._note(volume_id)
        return note is not None and note.target == target

    async def trouble(self, volume_id: str, target: str) -> str:
        """Return the sentence why what is published at `target` cannot be used now; empty when it can."""
        note = self._note(volume_id)
        if note is None or not self.publishes(volume_id, target):
            return f"Volume {volume_id} is not published at {target}."
        if note.role != CSI_ROLE_DATA:
            return ""
        state = await self._broker.state(note.pair)
        if state is None:
            return "The FUSE broker of this node does not know the volume."
        return str(state["message"]) if state["state"] in _TROUBLED else ""

    def _check_limits(self, request: InlineRequest, pair: str) -> None:
        others = [note for note in self._all() if note.pair != pair]
        of_pod = len({note.pair for note in others if note.uid == request.uid})
        if of_pod >= self._limits.of_a_pod:
            raise QuotaExceeded(
                f"Pod {request.namespace}/{request.pod} mounts {of_pod} Datasets, the most a pod may have.",
                hint="Use fewer, or put several mounts into one Dataset.",
            )
        of_namespace = len({note.pair for note in others if note.namespace == request.namespace})
        if of_namespace >= self._limits.of_a_namespace:
            raise QuotaExceeded(
                f"The pods of namespace {request.namespace} have {of_namespace} FUSE mounts on this node, its limit.",
                hint="Wait until some have ended, or place the pod elsewhere.",
            )

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
        found: list[Note] = []
        if not os.path.isdir(self._notes):
            return found
        for name in os.listdir(self._notes):
            if name.endswith(".json"):
                with suppress(FileNotFoundError, ValueError, TypeError):
                    with open(os.path.join(self._notes, name), encoding="utf-8") as file:
                        found.append(Note(**json.load(file)))
        return found


def _request(attributes: Mapping[str, str], pod: Mapping[str, str]) -> InlineRequest:
    dataset, role = attributes.get(CSI_ATTRIBUTE_DATASET, ""), attributes.get(CSI_ATTRIBUTE_ROLE, "")
    if not dataset or role not in (CSI_ROLE_DATA, CSI_ROLE_SOCKET):
        raise InvalidSpec(
            f"An inline volume of this driver needs the attributes {CSI_ATTRIBUTE_DATASET} (a Dataset of the pod's "
            f"namespace) and {CSI_ATTRIBUTE_ROLE} ({CSI_ROLE_DATA} or {CSI_ROLE_SOCKET}); it has "
            f"{dict(attributes)}.",
            hint="Label the claim and let injection write the volumes, or use a PersistentVolume.",
        )
    check_attributes(attributes)
    return InlineRequest(
        pod=pod["name"],
        namespace=pod["namespace"],
        uid=pod["uid"],
        dataset=dataset,
        role=role,
        read_only=attributes.get(CSI_ATTRIBUTE_READ_ONLY) == "true",
    )
