"""PersistentVolumes of a real node: what one client's pod mounts, shown at the places of all pods that use it.

The client is asked for (`asking`) when the first pod comes and given back after the last one has gone. It runs with two
inline volumes of this driver, as a sidecar does, so its mount is made by the same broker and is healed like one: a new
mount stacked on a dead one appears at every mirror. A client's *pod* that is replaced mounts elsewhere: its mount is put
on top of the dead one at each place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio

from headrace.csi.asking import NOBODY_LOOKED, NodeMounts, Wanted
from headrace.csi.broker import Broker
from headrace.csi.claims import ClaimRequest, PermitClaim
from headrace.csi.inline import pair_name
from headrace.csi.notes import MountNote, MountNotes
from headrace.csi.shared import top_at
from headrace.csi.world import World
from headrace.errors import HeadraceError, NotFound, Unavailable
from headrace.spec.kind import Json
from headrace.spec.names import MOUNT_DIRECTORY
from headrace.telemetry import logger

TEND_FAILED = "csi.tend_failed"
ASKED = "csi.mount_asked"
GIVEN_BACK = "csi.mount_given_back"
REPLACED = "csi.client_replaced"

_LOOK_EVERY_S = 0.1
_ASK_EVERY_S = 2.0
_log = logger(component="csi")


@dataclass(frozen=True)
class Deadline:
    """How long a pod's volume may take, in seconds; the kubelet itself gives up a call after two minutes, and repeats it.

    Args:
        served_within_s: from the call until the client serves.
    """

    served_within_s: float = 60.0


class NodeVolumes:
    """All PersistentVolumes of one real node; satisfies `PersistentVolumes`.

    Args:
        directory: the driver's own; one note a mount.
        permit: decides whether a pod may have a volume, and which Dataset's it is.
    """

    def __init__(
        self,
        world: World,
        broker: Broker,
        directory: str,
        *,
        permit: PermitClaim,
        mounts: NodeMounts,
        deadline: Deadline | None = None,
    ) -> None:
        self._world = world
        self._broker = broker
        self._notes = MountNotes(directory)
        self._permit = permit
        self._mounts = mounts
        self._deadline = deadline or Deadline()
        self._locks: dict[str, anyio.Lock] = {}
        self._has_begun = False
        self._clients: dict[str, str] = {}  # a mount's name -> uid of its client's pod
        self._ask_not_before: dict[str, float] = {}

    # -- the verbs -----------------------------------------------------------------------------------------------------

    def stage(
        self,
        volume_id: str,
        *,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],
        mount_options: Sequence[str],
        read_only: bool,
    ) -> None:
        """Nothing is to be done before a pod comes."""

    async def unstage(self, volume_id: str) -> None:
        """Nothing is left after the last pod."""

    async def publish(
        self,
        volume_id: str,
        target: str,
        *,
        attributes: Mapping[str, str],
        secrets: Mapping[str, bytes],  # noqa: ARG002 - the client's pod has its own
        read_only: bool,
        pod: Mapping[str, str],
    ) -> None:
        """Make `target` the volume; returns when it can be read.

        Raises:
            Denied, NotFound, Unsupported: the pod may not have it (`claims`).
            Unavailable: the client does not serve, with its own words; the pod's place stays noted, and is undone by
                `unpublish`.
        """
        use = await self._permit(
            ClaimRequest(
                volume_id=volume_id,
                attributes=attributes,
                pod=pod["name"],
                namespace=pod["namespace"],
                uid=pod["uid"],
            )
        )
        wanted = Wanted(dataset=use.dataset, read_only=use.read_only or read_only)
        name = self._mounts.name(wanted)
        await self._broker.start()
        async with self._lock(name):
            self._note_target(name, wanted, volume_id, target)
            await self._mounts.ask(wanted)
        data = await self._served(wanted)
        async with self._lock(name):
            note = self._notes.load(name)
            if note is None or target not in note.targets:
                raise Unavailable(f"{wanted} was taken off {target} while its client was starting.")
            await self._show(data, target, read_only=wanted.read_only)

    async def unpublish(self, volume_id: str, target: str) -> bool:
        """Take the volume off `target`; after the last one its client is given back. Idempotent; waits for nobody."""
        for name, _ in list(self._notes.all()):
            async with self._lock(name):
                note = self._notes.load(name)
                if note is not None and note.targets.get(target) == volume_id:
                    await self._world.request("mount.unmount", target=target, all=True, lazy=True)
                    await self._drop(name, note, [target])
                    return True
        return False

    async def trouble(self, volume_id: str, target: str) -> str:
        """Return the sentence why what is published at `target` cannot be used now; empty when it can."""
        for name, note in self._notes.all():
            if note.targets.get(target) == volume_id:
                if await self._look(name, note.wanted):
                    return ""
                answer = await self._mounts.answer(note.wanted)
                return answer.message or f"The client of {note.wanted} does not serve it now."
        return ""

    def publishes(self, volume_id: str, target: str) -> bool:
        """Tell whether the volume is published at `target`."""
        return any(note.targets.get(target) == volume_id for _, note in self._notes.all())

    # -- in the background ---------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Give back what this node asks for without knowing why, as after its disk was renewed."""
        try:
            asked = await self._mounts.all()
            known = {name for name, _ in self._notes.all()}  # read afterwards: what is asked for was noted before
            for wanted in asked:
                if self._mounts.name(wanted) not in known:
                    await self._mounts.give_back(wanted)
        except HeadraceError as error:
            _log.warning(TEND_FAILED, error=str(error))
            return
        self._has_begun = True

    async def tend(self) -> None:
        """Look after every mount: forget places that are no more, show the mount of a client that was replaced."""
        if not self._has_begun:
            await self.begin()
        notes = list(self._notes.all())
        if not notes:
            return
        mounts = (await self._world.request("mount.list"))["mounts"]
        for name, _ in notes:
            try:
                async with self._lock(name):
                    note = self._notes.load(name)
                    if note is not None:
                        await self._tend(name, note, mounts)
            except HeadraceError as error:
                _log.debug(TEND_FAILED, mount=name, error=str(error))

    async def _tend(self, name: str, note: MountNote, mounts: list[Json]) -> None:
        lost = [target for target in note.targets if not os.path.isdir(os.path.dirname(target))]
        if lost or not note.targets:
            await self._drop(name, note, lost)
            return
        data = await self._look(name, note.wanted)
        ours = top_at(mounts, f"{data}/{MOUNT_DIRECTORY}") if data else None
        for target in note.targets:
            there = top_at(mounts, target)
            if ours is not None and there is not None and there["device"] != ours["device"]:
                _log.info(REPLACED, mount=name, target=target)
                await self._show(data, target, read_only=note.read_only)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _note_target(self, name: str, wanted: Wanted, volume_id: str, target: str) -> None:
        note = self._notes.load(name)
        if note is None:
            dataset = wanted.dataset
            note = MountNote(namespace=dataset.namespace, dataset=dataset.name, read_only=wanted.read_only)
            _log.info(ASKED, mount=name, dataset=str(dataset), read_only=wanted.read_only)
        note.targets[target] = volume_id
        self._notes.save(name, note)

    async def _drop(self, name: str, note: MountNote, targets: Sequence[str]) -> None:
        """Forget places of a mount; with the last one it is asked for no more. What the API does not take now is kept for
        `tend`."""
        for target in targets:
            note.targets.pop(target, None)
        self._notes.save(name, note)
        if note.targets:
            return
        try:
            await self._mounts.give_back(note.wanted)
        except HeadraceError as error:
            _log.warning(TEND_FAILED, mount=name, error=str(error))
            return
        self._notes.remove(name)
        self._clients.pop(name, None)
        self._ask_not_before.pop(name, None)
        _log.info(GIVEN_BACK, mount=name, dataset=f"{note.namespace}/{note.dataset}")

    async def _served(self, wanted: Wanted) -> str:
        """Return the data directory of the client once its mount is served.

        Raises:
            Unavailable: it failed, or did not serve within the deadline; with what is known.
        """
        answer = NOBODY_LOOKED
        with anyio.move_on_after(self._deadline.served_within_s):
            async with self._mounts.following(wanted) as latest:
                while not answer.failed:
                    answer = latest()
                    data = await self._data_of(wanted, answer.client_uid)
                    if data:
                        return data
                    await anyio.sleep(_LOOK_EVERY_S)
        what = "cannot be mounted on this node:" if answer.failed else f"was not served within {self._within}."
        raise Unavailable(
            f"{wanted} {what} {answer.message or 'No controller has answered.'}",
            hint=f"kubectl get nodemount {self._mounts.name(wanted)} shows how it is.",
        )

    @property
    def _within(self) -> str:
        return f"{self._deadline.served_within_s:g} s"

    async def _show(self, data: str, target: str, *, read_only: bool) -> None:
        """Show the client's mount at `target`, on top of a dead one where there is one."""
        source = f"{data}/{MOUNT_DIRECTORY}"
        await self._world.request("mount.mirror", source=source, target=target, read_only=read_only)

    async def _look(self, name: str, wanted: Wanted) -> str:
        """Return the data directory of a mount's client while it serves, empty while it does not.

        The API is asked only then, and not at every look: for the client that takes the place of the one we know.
        """
        data = await self._data_of(wanted, self._clients.get(name, ""))
        now = anyio.current_time()
        if data or now < self._ask_not_before.get(name, now):
            return data
        self._ask_not_before[name] = now + _ASK_EVERY_S
        try:
            self._clients[name] = (await self._mounts.answer(wanted)).client_uid
        except NotFound:
            await self._mounts.ask(wanted)  # somebody deleted it under the pods that use it
            return ""
        return await self._data_of(wanted, self._clients[name])

    async def _data_of(self, wanted: Wanted, client_uid: str) -> str:
        """Return the data directory of a client's pod, empty while it serves nothing on this node."""
        state = await self._broker.state(pair_name(client_uid, wanted.dataset)) if client_uid else None
        return str(state["registration"]["data_dir"]) if state is not None and state["state"] == "served" else ""

    def _lock(self, name: str) -> anyio.Lock:
        return self._locks.setdefault(name, anyio.Lock())
