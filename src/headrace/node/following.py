"""Following a world's journal: replay what was missed, reconcile with what runs, go on, and trim what has been told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Protocol

import anyio

from headrace.errors import HeadraceError, Unavailable
from headrace.node.record import PodRecord
from headrace.node.world import Attachment, World
from headrace.spec.kind import Json
from headrace.telemetry import logger

JOURNAL_REPLAYED = "journal.replayed"
TRIM_FAILED = "journal.trim_failed"

_TRIM_EVERY_S = 2.0

_log = logger(component="journal")


class Hearer(Protocol):
    """A pod's worker, as the journal sees it."""

    record: PodRecord
    reported_seq: int

    @property
    def is_settled(self) -> bool: ...

    def hear(self, entry: Json) -> None: ...

    def reconcile(self, pods: list[Json]) -> None: ...


class Following:
    """Gives the journal's entries to the pods' workers.

    Args:
        find: returns the worker of a pod's uid, None for pods that are not ours.
        all: returns all workers.
        greeted: given the world's `hello` at each connection, before anything else happens on it.
        ready: told `(True, …)` when replayed and `(False, …)` when the world is lost.
    """

    def __init__(
        self,
        world: World,
        *,
        find: Callable[[str], Hearer | None],
        all: Callable[[], Iterable[Hearer]],
        greeted: Callable[[Json], None],
        ready: Callable[[bool, str, str], None],
    ) -> None:
        self._world = world
        self._find = find
        self._all = all
        self._greeted = greeted
        self._ready = ready
        self.is_attached = False
        self._seen_seq = 0
        self._trimmed_seq = 0
        self._trim_wanted = anyio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._trim)
            await self._world.attach(self._serve)

    def settled(self) -> None:
        """A worker's status has been written: entries may have become superfluous."""
        self._trim_wanted.set()

    async def _serve(self, world: Attachment) -> None:
        self._greeted(world.hello)
        last = int(world.hello.get("journal_seq", 0))
        for worker in self._all():
            if worker.record.journal_seq > last:
                worker.record.journal_seq = 0  # another journal: numbers begin anew
        is_replayed = False
        try:
            if last == 0:
                is_replayed = await self._reconcile()
            async with aclosing(world.follow(0)) as entries:
                async for entry in entries:
                    self._hear(entry)
                    if not is_replayed and self._seen_seq >= last:
                        is_replayed = await self._reconcile()
        finally:
            self.is_attached = False
            self._ready(False, "WorldUnreachable", "The node's world does not answer; what runs in it may go on.")

    def _hear(self, entry: Json) -> None:
        self._seen_seq = int(entry["seq"])
        worker = self._find(str(entry.get("pod") or ""))
        if worker is not None:
            worker.hear(entry)

    async def _reconcile(self) -> bool:
        # Only pods that were prepared before the question may be missing from the answer.
        asked = [worker for worker in self._all() if worker.record.prepared and not worker.record.released]
        state = await self._world.request("state")
        for worker in asked:
            worker.reconcile(list(state.get("pods") or []))
        self.is_attached = True
        self._ready(True, "KubeletReady", "The node's world is attached and its journal replayed.")
        _log.info(JOURNAL_REPLAYED, seq=self._seen_seq, pods=len(asked))
        return True

    async def _trim(self) -> None:
        """Drop entries whose consequences the API server knows, every few seconds at most."""
        while True:
            await self._trim_wanted.wait()
            self._trim_wanted = anyio.Event()
            upto = min([worker.reported_seq for worker in self._all() if not worker.is_settled] + [self._seen_seq])
            if upto > self._trimmed_seq:
                try:
                    await self._world.request("journal.trim", upto=upto)
                    self._trimmed_seq = upto
                except Unavailable:
                    self._trim_wanted.set()
                except HeadraceError as error:
                    _log.warning(TRIM_FAILED, error=str(error))
            await anyio.sleep(_TRIM_EVERY_S)
