"""One shared mount of a volume on a node: one client serves all pods, and is replaced when it fails.

`publish` mirrors the mount at a pod's place, so the mount of a new client, stacked on the dead one, appears at every place
where the volume is published and in every container that has it with HostToContainer.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from headrace.csi.broker import Broker
from headrace.csi.client import CONTAINER, Client, how_it_ended, is_running
from headrace.csi.files import Record, VolumeFiles, order_to_json
from headrace.csi.world import World, container_of
from headrace.errors import Unavailable
from headrace.fuse.order import MountOrder
from headrace.spec.kind import Json
from headrace.telemetry import logger

CLIENT_STARTED = "csi.client_started"
CLIENT_FAILED = "csi.client_failed"
CLIENT_HEALED = "csi.client_healed"

_DATA_BYTES = 1 << 20
_ROUND_S = 0.5
_RAN_WELL_S = 60.0

_log = logger(component="csi")


@dataclass(frozen=True)
class Patience:
    """How long what may take, in seconds.

    Args:
        served_within_s: from a client's start until its mount can be listed.
        stall_s: how long a mount may leave everything unanswered before its connection is ended.
        first_pause_s, longest_pause_s: before a client that ended is started again; doubled each time.
        flush_s: how long a client may take to write what it holds when its volume is given back.
    """

    served_within_s: float = 60.0
    stall_s: float = 300.0
    first_pause_s: float = 0.2
    longest_pause_s: float = 30.0
    flush_s: float = 15.0


@dataclass(frozen=True)
class Sight:
    """What a look at the world and its broker showed: when the world was started, its `state`, the mount's state."""

    world: int
    state: Json
    broker: Json | None


class SharedMount:
    """A volume's mount on this node.

    Args:
        key: names it among the node's; also its id at the broker.
        install: puts the stand-in into a directory that the client sees.
    """

    def __init__(
        self,
        key: str,
        directory: str,
        *,
        world: World,
        broker: Broker,
        patience: Patience,
        install: Callable[[str], None],
    ) -> None:
        self.key = key
        self.files = VolumeFiles(directory)
        self.lock = anyio.Lock()
        self._world = world
        self._broker = broker
        self._patience = patience
        self._install = install
        self._client = Client(world, self.files, key)
        self._pause_s = patience.first_pause_s
        self._start_not_before = 0.0
        self._started_at: float | None = None  # unknown after a restart of the agent
        self._is_healing = False

    # -- the verbs; the caller holds `lock` --------------------------------------------------------------------------

    async def ensure(
        self, volume_id: str, *, read_only: bool, world: int, resolve: Callable[[], Awaitable[MountOrder]]
    ) -> None:
        """Return once the mount is served and can be listed, starting its client if none runs.

        Args:
            world: when the present world was started.

        Raises:
            Unavailable: it was not served in time, with the client's own last words.
        """
        record = self.files.load()
        if record is not None and record.world != world:
            await self.remove()
            record = None
        if record is not None and record.order is not None and is_running(await self._client.container()):
            if await self._broker.state(self.key) is None:
                await self._register(record)
            await self._until_served(record)
            return
        self.files.make()
        order = await resolve()
        record = record or Record(volume_id=volume_id, read_only=read_only)
        record.world = world
        record.order = order_to_json(order)
        record.file_names = self.files.write_files(order.files)
        await self._world.request("mount.tmpfs", target=self.files.data, size_bytes=_DATA_BYTES, mode=0o755)
        try:
            await self._start(record)
            await self._until_served(record)
        except BaseException:
            if not record.targets:
                # The next attempt begins anew, with what the profile and the Secret say by then.
                with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 10):
                    await self._client.kill()
                    record.order = None
                    self.files.save(record)
            raise

    async def publish(self, target: str, *, read_only: bool) -> None:
        """Bind the mount to `target`. Idempotent; a dead bind of an earlier client is replaced."""
        record = self._record()
        if target not in record.targets:
            record.targets.append(target)
            self.files.save(record)
        found = await self._mounts(os.path.dirname(target))
        ours = top_at(await self._mounts(self.files.data), self.files.mount)
        there = top_at(found, target)
        if there is not None and ours is not None and there["device"] == ours["device"]:
            return
        if there is not None:
            await self._world.request("mount.unmount", target=target, all=True, lazy=True)
        await self._world.request("mount.mirror", source=self.files.mount, target=target, read_only=read_only)

    async def unpublish(self, target: str) -> None:
        """Take everything off `target`. Idempotent; waits for no client."""
        await self._world.request("mount.unmount", target=target, all=True, lazy=True)
        record = self.files.load()
        if record is not None and target in record.targets:
            record.targets.remove(target)
            self.files.save(record)

    async def remove(self) -> None:
        """End the client, unmount all that is stacked, delete the files. Idempotent."""
        await self._client.remove(self._patience.flush_s)
        await self._broker.unregister(self.key)
        await self._world.request("mount.unmount", target=self.files.data, all=True, lazy=True)
        self.files.remove()

    async def trouble(self) -> str:
        """Return the sentence why the volume cannot be used now; empty when it can."""
        record = self.files.load()
        if record is None or record.order is None:
            return "The volume is not mounted on this node."
        container = await self._client.container()
        if not is_running(container):
            return self._told(f"The volume's client {how_it_ended(container)} and is started again.")
        state = await self._broker.state(self.key)
        if state is None or state["state"] != "served":
            message = str((state or {}).get("message") or "The volume's client does not serve it yet.")
            return self._told(message)
        return ""

    # -- keeping it served -------------------------------------------------------------------------------------------

    async def tend(self, sight: Sight) -> None:
        """Start the client again when it has ended, and end one whose connection is dead. Waits for nothing long."""
        record = self.files.load()
        if record is None or record.order is None or record.world != sight.world:
            return
        now = anyio.current_time()
        self._started_at = now if self._started_at is None else self._started_at
        if is_running(container_of(sight.state, self._client.pod, CONTAINER)):
            await self._tend_running(record, sight.broker, now - self._started_at)
            return
        if not self._is_healing:
            _log.warning(CLIENT_FAILED, volume=record.volume_id, why=self._told())
            self._is_healing = True
            self._start_not_before = now + self._pause_s
        if now >= self._start_not_before:
            self._pause_s = min(2 * self._pause_s, self._patience.longest_pause_s)
            self._start_not_before = now + self._pause_s
            await self._start(record)

    async def _tend_running(self, record: Record, state: Json | None, running_s: float) -> None:
        if state is None:
            await self._register(record)
        elif state["state"] == "served":
            if self._is_healing:
                _log.info(CLIENT_HEALED, volume=record.volume_id, attempt=record.attempt)
            self._is_healing = False
            if running_s > _RAN_WELL_S:
                self._pause_s = self._patience.first_pause_s
        elif state["state"] == "dead" and running_s > self._patience.served_within_s:
            _log.warning(CLIENT_FAILED, volume=record.volume_id, why=state["message"])
            await self._client.kill()

    async def _start(self, record: Record) -> None:
        record.attempt += 1
        self.files.save(record)
        await self._register(record)
        # The client before is dead, which the broker may not have noticed: what it calls served from now on is the new one.
        await self._broker.abort(self.key)
        await self._client.start(record)
        self._started_at = anyio.current_time()
        _log.info(CLIENT_STARTED, volume=record.volume_id, attempt=record.attempt, pod=self._client.pod)

    async def _register(self, record: Record) -> None:
        self._install(os.path.join(self.files.sockets, "bin"))
        order = record.order or {}
        await self._broker.register(
            self.key,
            data_dir=self.files.data,
            socket_dir=self.files.sockets,
            read_only=record.read_only or bool(order.get("read_only")),
            file_system_type=str(order.get("file_system_type", "")),
            start_deadline_s=self._patience.served_within_s,
            stall_deadline_s=self._patience.stall_s,
        )

    async def _until_served(self, record: Record) -> None:
        what = f"volume {record.volume_id}"
        deadline = anyio.current_time() + self._patience.served_within_s
        while True:
            state = await self._broker.wait(self.key, _ROUND_S, ("served", "failing"))
            if state["state"] == "served":
                return
            if state["state"] == "failing":
                raise Unavailable(
                    self._told(f"The client of {what} mounted it, but it cannot be read.", state["message"]),
                    hint="Check the credentials in the volume's Secret, and that what it names exists.",
                )
            container = await self._client.container()
            if not is_running(container):
                raise Unavailable(
                    self._told(f"The client of {what} {how_it_ended(container)} before it served the volume."),
                    hint="Check the volume's attributes and Secret, and that the storage answers.",
                )
            if anyio.current_time() > deadline:
                raise Unavailable(
                    self._told(
                        f"The client of {what} did not serve it within {self._patience.served_within_s:.0f} s.",
                        state.get("message", ""),
                    ),
                    hint="Check that the storage answers from this node.",
                )

    def _record(self) -> Record:
        record = self.files.load()
        if record is None:
            raise Unavailable(f"The files of mount {self.key} are gone.", hint="It is staged anew with the next pod.")
        return record

    def _told(self, *sentences: str) -> str:
        """Return the sentences there are, and the client's last words."""
        words = self.files.last_words()
        return " ".join(filter(None, (*sentences, f"It said: {words}" if words else "")))

    async def _mounts(self, prefix: str) -> list[Json]:
        answer = await self._world.request("mount.list", prefix=prefix)
        found: list[Json] = answer["mounts"]
        return found


def top_at(mounts: list[Json], target: str) -> Json | None:
    """Return the mount one sees at `target`: of several on one place the one that is nobody's parent there."""
    here = [mount for mount in mounts if mount["target"] == target]
    parents = {mount["parent"] for mount in here}
    return next((mount for mount in here if mount["id"] not in parents), None)
